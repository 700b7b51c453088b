package engine_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/crdt"
)

// Wherever operations of several copies came, in and out of turn, each is found, and what somebody lacks is found, the oldest records first.
func TestPlaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		places, have := engine.Places{}, map[crdt.Dot]uint64{}
		dot := rapid.Custom(func(t *rapid.T) crdt.Dot {
			return crdt.Dot{Node: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "node"), Seq: rapid.Uint64Range(1, 12).Draw(t, "seq")}
		})
		for seq, d := range rapid.SliceOfDistinct(dot, func(d crdt.Dot) crdt.Dot { return d }).Draw(t, "dots") {
			have[d] = uint64(seq + 1)
			places.Add(d, uint64(seq+1))
		}
		var theirs crdt.Dots
		for _, d := range rapid.SliceOf(dot).Draw(t, "theirs") {
			theirs.Add(d)
		}
		var want []uint64
		for _, node := range []string{"a", "b", "c"} {
			for n := range uint64(14) {
				d := crdt.Dot{Node: node, Seq: n}
				if got := places.Of(d); got != have[d] {
					t.Fatalf("%s is in record %d, want %d", d, got, have[d])
				}
				if have[d] > 0 && !theirs.Has(d) {
					want = append(want, have[d])
				}
			}
		}
		slices.Sort(want)
		if got := places.Missing(&theirs, 1000); !slices.Equal(got, want) {
			t.Fatalf("missing are %v, want %v", got, want)
		}
		if got := places.Missing(&theirs, 2); len(got) > 2 {
			t.Fatalf("missing are %v, and two were asked for", got)
		}
	})
}

// What somebody lacks comes as it was written, within limits, also after the document was opened from a snapshot.
func TestMissing(t *testing.T) {
	d, log := memory(t)
	for i := range 50 {
		submit(t, d, set("service.a", "weight", int64(i+1)))
	}
	if err := d.Snapshot(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	again := open(t, log)
	theirs, err := crdt.ParseDots(d.Node() + ":11")
	if err != nil {
		t.Fatal(err)
	}
	texts, err := again.Missing(t.Context(), &theirs, 100, 1<<20)
	if err != nil || len(texts) != 40 {
		t.Fatalf("%d operations are missing, %v, want 40", len(texts), err)
	}
	for i, text := range texts {
		if op, err := config.DecodeOp(text); err != nil || op.ID.Seq != uint64(i+12) {
			t.Errorf("operation %d is %v, %v", i, op, err)
		}
	}
	if few, err := again.Missing(t.Context(), &theirs, 100, 2*len(texts[0])); err != nil || len(few) != 2 {
		t.Errorf("%d operations, %v, and there was room for 2", len(few), err)
	}
	if op, err := again.Op(t.Context(), crdt.Dot{Node: d.Node(), Seq: 30}); err != nil || op == nil || op.ID.Seq != 30 {
		t.Errorf("operation 30 is %v, %v", op, err)
	}
	if op, err := again.Op(t.Context(), crdt.Dot{Node: "other", Seq: 1}); err != nil || op != nil {
		t.Errorf("an operation that is not there: %v, %v", op, err)
	}
}
