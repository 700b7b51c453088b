package oplog_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/oplog/oplogtest"
)

func TestBlock(t *testing.T) {
	want := oplogtest.Chain(oplog.Head{Seq: 41}, 300, func(i int) int { return 1 + i })
	block := oplog.Pack(want)
	got, err := oplog.Unpack(42, block)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	// What is cut off anywhere is noticed, unless it is between two records.
	ends := map[int]bool{0: true}
	for i := range want {
		ends[len(oplog.Pack(want[:i+1]))] = true
	}
	for n := range block {
		if _, err := oplog.Unpack(42, block[:n]); (err == nil) != ends[n] {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	for _, first := range []uint64{0, 1<<63 - 1, 1<<64 - 1} {
		if _, err := oplog.Unpack(first, block); err == nil {
			t.Errorf("a block from %d: no error", first)
		}
	}
	if _, err := oplog.Unpack(1, bytes.Repeat(oplog.Pack(want[:1]), oplog.MaxAppendRecords+1)); err == nil {
		t.Error("a block with too many records: no error")
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(uint64(1), oplog.Pack(oplogtest.Chain(oplog.Head{}, 3, func(i int) int { return 1 + i*100 })))
	f.Add(uint64(7), append(make([]byte, 32), 0x81, 0x00, 'x')) // a length that is longer than it need be
	f.Add(uint64(7), append(make([]byte, 32), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01))
	f.Fuzz(func(t *testing.T, first uint64, block []byte) {
		records, err := oplog.Unpack(first, block)
		if err != nil {
			return
		}
		again, err := oplog.Unpack(first, oplog.Pack(records))
		if diff := cmp.Diff(records, again); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}
