package pack

import "math/bits"

// The decoder's tables, in the manner of libdeflate (github.com/ebiggers/libdeflate, decompress_template.h): a main table
// is looked up by the next bits of the stream; codes that are longer than these lead to a subtable. An entry says
// everything about what was found, so that the decoder branches little:
//
//	literal    1<<31 | literal<<16           | code length<<8 | code length
//	length     base<<16                      | code length<<8 | code length + extra bits
//	distance   base<<16                      | code length<<8 | code length + extra bits
//	subtable   start<<16  | huffSubtable     | its bits<<8    | main table's bits
//	end        huffSpecial | huffEnd         | code length<<8 | code length
//	none       huffSpecial                     no code starts with these bits
//
// In a subtable, code lengths count from where the main table's bits end.
const (
	litBits  = 10
	distBits = 8
	preBits  = 7 // the longest code for code lengths, so there is no subtable

	// The sizes are zlib's enough.c of (symbols, bits, 15): the most that complete codes need.
	litTableSize  = 1334
	distTableSize = 402
	preTableSize  = 1 << preBits

	maxCodeLength = 15
	litSymbols    = 288
	distSymbols   = 32
	preSymbols    = 19
	// Only the fixed code has the symbols above these, and they mean nothing.
	maxLitSymbols  = 286
	maxDistSymbols = 30

	huffLiteral  = 1 << 31
	huffSpecial  = 1 << 15
	huffSubtable = huffSpecial | 1<<14
	huffEnd      = huffSpecial | 1<<13
	huffLenMask  = 15
	huffBitMask  = 31
)

// huffSymbols are the entries of symbols before their code length is known.
type huffSymbols struct {
	lit  [litSymbols]uint32
	dist [distSymbols]uint32
	pre  [preSymbols]uint32
}

// symbolEntries are RFC 1951's tables, in section 3.2.5.
var symbolEntries = func() (s huffSymbols) {
	for i := range 256 {
		s.lit[i] = huffLiteral | uint32(i)<<16
	}
	s.lit[256] = huffEnd
	base := uint32(3)
	for i := range 28 {
		extra := uint32(max(i/4-1, 0))
		s.lit[257+i] = base<<16 | extra
		base += 1 << extra
	}
	s.lit[285] = 258 << 16
	s.lit[286], s.lit[287] = huffSpecial, huffSpecial
	base = 1
	for i := range 30 {
		extra := uint32(max(i/2-1, 0))
		s.dist[i] = base<<16 | extra
		base += 1 << extra
	}
	s.dist[30], s.dist[31] = huffSpecial, huffSpecial
	for i := range s.pre {
		s.pre[i] = uint32(i) << 16
	}
	return s
}()

// buildHuffman fills a table for the code that has lens[i] bits for symbols[i]. It returns false for a code that zlib
// refuses: one that has too many codes or too few, except for none at all and for a single one of one bit.
func buildHuffman(table []uint32, tableBits int, symbols []uint32, lens []uint8) bool {
	var count, next [maxCodeLength + 2]int
	for _, l := range lens {
		count[l&huffLenMask]++
	}
	count[0] = 0
	left := 1
	for l := 1; l <= maxCodeLength; l++ {
		left = left<<1 - count[l]
		if left < 0 {
			return false
		}
		next[l+1] = next[l] + count[l]
	}
	total := next[maxCodeLength+1]
	if left > 0 {
		if total > 1 || count[1] != total {
			return false
		}
		for i := range table[:1<<tableBits] {
			table[i] = huffSpecial
		}
	}
	var sorted [litSymbols]uint32 // by code length, then symbol
	for i, l := range lens {
		if l &= huffLenMask; l != 0 {
			sorted[next[l]] = symbols[i]
			next[l]++
		}
	}
	switch {
	case left == 0:
		b := huffBuilder{table, tableBits, &count, sorted[:total]}
		b.build()
	case total == 1:
		for i := 0; i < 1<<tableBits; i += 2 {
			table[i] = sorted[0] + 1<<8 + 1
		}
	}
	return true
}

// huffBuilder fills a table for a complete code.
type huffBuilder struct {
	table     []uint32
	tableBits int
	count     *[maxCodeLength + 2]int // of codes of each length
	sorted    []uint32
}

func (b *huffBuilder) build() {
	length := 1
	for b.count[length] == 0 {
		length++
	}
	have := 1 << min(length, b.tableBits) // how much of the table tells the codes so far apart
	table := b.table[:1<<b.tableBits]
	code := uint(0) // its first bit lowest, as the stream has it
	sorted := b.sorted
	for length <= b.tableBits {
		entry := uint32(length)<<8 + uint32(length)
		left := min(b.count[length], len(sorted))
		for _, e := range sorted[:left] {
			table[code] = e + entry
			code = nextCode(code, length)
		}
		if sorted = sorted[left:]; len(sorted) == 0 {
			double(table, have)
			return
		}
		// Codes of the next length are told apart by one bit more: what is there so far is so for either value of it.
		if length++; length <= b.tableBits {
			double(table[:2*have], have)
			have *= 2
		}
	}
	b.subtables(code, length, sorted)
}

// double repeats the table's first entries until it is full.
func double(table []uint32, have int) {
	for ; have < len(table); have *= 2 {
		copy(table[have:], table[:have])
	}
}

// nextCode returns the code of a length that comes after another: one more, counted from the highest bit down. After the
// last code, which is all ones, it is that code.
func nextCode(code uint, length int) uint {
	free := code ^ (1<<(length&63) - 1)
	if free == 0 {
		return code
	}
	top := uint(1) << ((bits.Len(free) - 1) & 63)
	return code&(top-1) | top
}

// subtables places the codes that are longer than the main table's bits, from the first one of a length on.
func (b *huffBuilder) subtables(code uint, length int, sorted []uint32) {
	mask := uint(1)<<b.tableBits - 1
	prefix := ^uint(0)
	start, end := 0, 1<<b.tableBits
	left := b.count[length]
	for len(sorted) > 0 {
		for left == 0 {
			length++
			left = b.count[length]
		}
		if code&mask != prefix {
			prefix = code & mask
			// As many bits as the codes with this prefix have, which follow each other.
			subBits := length - b.tableBits
			used := left
			for used < 1<<subBits {
				subBits++
				used = used<<1 + b.count[b.tableBits+subBits]
			}
			start = end
			end = start + 1<<subBits
			b.table[prefix] = uint32(start)<<16 | huffSubtable | uint32(subBits)<<8 | uint32(b.tableBits)
		}
		subLength := length - b.tableBits
		entry := sorted[0] + uint32(subLength)<<8 + uint32(subLength)
		for i := start + int(code>>b.tableBits); i < end; i += 1 << subLength {
			b.table[i] = entry
		}
		sorted = sorted[1:]
		left--
		code = nextCode(code, length)
	}
}

// huffTables are those of the literals and lengths, and of the distances.
type huffTables struct {
	lit  [litTableSize]uint32
	dist [distTableSize]uint32
}

func (t *huffTables) build(lits, dists []uint8) bool {
	return buildHuffman(t.lit[:], litBits, symbolEntries.lit[:], lits) &&
		buildHuffman(t.dist[:], distBits, symbolEntries.dist[:], dists)
}

// fixedTables are those of the fixed code (RFC 1951, section 3.2.6), which most small deltas have.
var fixedTables = func() *huffTables {
	var lens [litSymbols + distSymbols]uint8
	for i := range lens {
		switch {
		case i < 144, i >= 280 && i < litSymbols:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		case i < 280:
			lens[i] = 7
		default:
			lens[i] = 5
		}
	}
	t := new(huffTables)
	if !t.build(lens[:litSymbols], lens[litSymbols:]) {
		panic("bug: the fixed code is not complete")
	}
	return t
}()
