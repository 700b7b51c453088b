package oplog

import (
	"encoding/binary"
	"fmt"
	"math"
)

// A block is what one Append has added, as one piece of bytes. For each record:
//
//	hash    32 bytes
//	length  of the data, unsigned LEB128, at least 1
//	data

// pack makes a block.
func pack(records []Record) []byte {
	size := 0
	for _, r := range records {
		size += len(r.Hash) + binary.MaxVarintLen32 + len(r.Data)
	}
	b := make([]byte, 0, size)
	for _, r := range records {
		b = append(b, r.Hash[:]...)
		b = binary.AppendUvarint(b, uint64(len(r.Data)))
		b = append(b, r.Data...)
	}
	return b
}

// unpack returns a block's records, whose first has the given number. Their data is in the block's memory.
func unpack(first uint64, block []byte) ([]Record, error) {
	var records []Record
	if first == 0 || first > math.MaxInt64-MaxAppendRecords {
		return nil, fmt.Errorf("block of records from %d: it cannot be there", first)
	}
	for len(block) > 0 {
		r := Record{Seq: first + uint64(len(records))}
		if len(records) == MaxAppendRecords {
			return nil, fmt.Errorf("block of records from %d: it has more than %d", first, MaxAppendRecords)
		}
		n := copy(r.Hash[:], block)
		block = block[n:]
		size, used := binary.Uvarint(block)
		if n < len(r.Hash) || used <= 0 || size == 0 || size > uint64(len(block)-used) { //nolint:gosec // not negative
			return nil, fmt.Errorf("block of records from %d: record %d is cut off", first, r.Seq)
		}
		end := used + int(size) //nolint:gosec // not more than the block
		r.Data = block[used:end:end]
		block = block[end:]
		records = append(records, r)
	}
	return records, nil
}
