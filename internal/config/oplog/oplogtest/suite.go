// Package oplogtest is the suite that all stores of records pass.
//
//	func TestX(t *testing.T) { oplogtest.Run(t, func(tb testing.TB) func() oplog.Store { … }) }
package oplogtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/errkind"
)

// Run runs the suite. place makes an empty place for documents, which goes with the test, and returns what opens it: each call is
// one more node.
func Run(t *testing.T, place func(testing.TB) (open func() oplog.Store)) {
	t.Helper()
	tests := []struct {
		name string
		run  func(suite)
	}{
		{"documents", testDocuments},
		{"names", testNames},
		{"pages of documents", testListPages},
		{"append", testAppend},
		{"append what does not follow", testConflict},
		{"append what is refused", testRefused},
		{"append as much as goes at once", testLimits},
		{"append from everywhere at once", testTogether},
		{"read", testRead},
		{"get", testGet},
		{"snapshot", testSnapshot},
		{"big snapshot", testBigSnapshot},
		{"values", testMeta},
		{"values that are refused", testMetaRefused},
		{"swap from everywhere at once", testSwapTogether},
		{"pages of values", testListMeta},
		{"delete", testDelete},
		{"close", testClose},
		{"canceled", testCanceled},
		{"model", testModel},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(suite{t, place(t)}) })
	}
}

// suite is one test of the suite at a place of its own.
type suite struct {
	*testing.T
	open func() oplog.Store
}

// Chain makes n records that follow prev, whose data is as long as size says.
func Chain(prev oplog.Head, n int, size func(i int) int) []oplog.Record {
	out := make([]oplog.Record, n)
	for i := range out {
		data := bytes.Repeat([]byte{'a' + byte(i%26)}, size(i))
		copy(data, fmt.Sprintf("%d.", prev.Seq+1))
		prev = oplog.Head{Seq: prev.Seq + 1, Hash: sha256.Sum256(append(prev.Hash[:], data...))}
		out[i] = oplog.Record{Seq: prev.Seq, Hash: prev.Hash, Data: data}
	}
	return out
}

// After is the head of a log that ends with these records.
func After(records []oplog.Record) oplog.Head {
	last := records[len(records)-1]
	return oplog.Head{Seq: last.Seq, Hash: last.Hash}
}

func short(int) int { return 20 }

// node is one who uses the place: a Store, and a Log that it has open.
type node struct {
	store oplog.Store
	log   oplog.Log
}

// nodes are two with the same document.
func nodes(t suite) (a, b node) {
	t.Helper()
	a.store, b.store = openStore(t), openStore(t)
	noError(t, "create", a.store.Create(t.Context(), "shop"))
	a.log, b.log = openLog(t, a.store, "shop"), openLog(t, b.store, "shop")
	return a, b
}

func openStore(t suite) oplog.Store {
	t.Helper()
	s := t.open()
	t.Cleanup(func() { noError(t, "close the store", s.Close()) })
	return s
}

func openLog(t suite, s oplog.Store, doc string) oplog.Log {
	t.Helper()
	l, err := s.Open(t.Context(), doc)
	noError(t, "open "+doc, err)
	t.Cleanup(func() { noError(t, "close "+doc, l.Close()) })
	return l
}

func noError(tb rapid.TB, what string, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("%s: %v", what, err)
	}
}

func wantKind(tb rapid.TB, what string, err error, kind errkind.Kind) {
	tb.Helper()
	if err == nil || errkind.Of(err) != kind {
		tb.Errorf("%s: %v, want kind %v", what, err, kind)
	}
}

// appended appends records to what l has and returns them.
func appended(t suite, l oplog.Log, n int, size func(int) int) []oplog.Record {
	t.Helper()
	head, err := l.Head(t.Context())
	noError(t, "head", err)
	records := Chain(head, n, size)
	noError(t, "append", l.Append(t.Context(), head, records))
	return records
}

// all reads records and copies them.
func all(ctx context.Context, tb rapid.TB, l oplog.Log, from uint64, limit int) (out []oplog.Record) {
	tb.Helper()
	err := l.Read(ctx, from, limit, func(r oplog.Record) error {
		r.Data = bytes.Clone(r.Data)
		out = append(out, r)
		return nil
	})
	noError(tb, "read", err)
	return out
}

// same compares records; their data may be long.
func same(tb rapid.TB, what string, got, want []oplog.Record) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("%s: %d records, want %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i].Seq != want[i].Seq || got[i].Hash != want[i].Hash || !bytes.Equal(got[i].Data, want[i].Data) {
			tb.Fatalf("%s: record %d is %d %x with %d bytes, want %d %x with %d bytes", what, i, got[i].Seq, got[i].Hash[:4], len(got[i].Data),
				want[i].Seq, want[i].Hash[:4], len(want[i].Data))
		}
	}
}

func testDocuments(t suite) {
	ctx := t.Context()
	a, b := openStore(t), openStore(t)
	names, err := a.List(ctx, "", 0)
	if err != nil || len(names) != 0 {
		t.Errorf("an empty store lists %v, %v", names, err)
	}
	_, err = a.Open(ctx, "shop")
	wantKind(t, "open what is not there", err, errkind.NotFound)
	wantKind(t, "delete what is not there", a.Delete(ctx, "shop"), errkind.NotFound)
	noError(t, "create", a.Create(ctx, "shop"))
	wantKind(t, "create again", a.Create(ctx, "shop"), errkind.Exists)
	wantKind(t, "create again on another node", b.Create(ctx, "shop"), errkind.Exists)
	noError(t, "create another", b.Create(ctx, "bank"))
	appended(t, openLog(t, a, "shop"), 3, short)
	if head, err := openLog(t, b, "bank").Head(ctx); err != nil || head != (oplog.Head{}) {
		t.Errorf("another document's head is %v, %v", head, err)
	}
	for _, s := range []oplog.Store{a, b} {
		names, err = s.List(ctx, "", 0)
		if diff := cmp.Diff([]string{"bank", "shop"}, names); err != nil || diff != "" {
			t.Errorf("list: %v\n%s", err, diff)
		}
	}
}

func testNames(t suite) {
	ctx, s := t.Context(), openStore(t)
	longest := strings.Repeat("a", oplog.MaxDocumentName)
	for _, doc := range []string{"", ".", "..", "a/b", "../a", "a.db", "A", "ä", "a b", "a\x00", "a#b", "a%", longest + "a"} {
		wantKind(t, fmt.Sprintf("create %q", doc), s.Create(ctx, doc), errkind.Invalid)
		_, err := s.Open(ctx, doc)
		wantKind(t, fmt.Sprintf("open %q", doc), err, errkind.Invalid)
		wantKind(t, fmt.Sprintf("delete %q", doc), s.Delete(ctx, doc), errkind.Invalid)
	}
	want := []string{"-", "0", "_", longest, "z-9_"}
	slices.Sort(want)
	for _, doc := range want {
		noError(t, "create "+doc, s.Create(ctx, doc))
	}
	got, err := s.List(ctx, "", 0)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("list: %v\n%s", err, diff)
	}
}

func testListPages(t suite) {
	ctx, s := t.Context(), openStore(t)
	var want, got []string
	for i := range 7 {
		want = append(want, fmt.Sprintf("doc-%d", i))
		noError(t, "create", s.Create(ctx, want[i]))
	}
	for after := ""; ; after = got[len(got)-1] {
		page, err := s.List(ctx, after, 3)
		noError(t, "list", err)
		if len(page) == 0 {
			break
		}
		if len(page) > 3 {
			t.Errorf("a page of %d", len(page))
		}
		got = append(got, page...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, err := s.List(ctx, "", -1)
	wantKind(t, "list -1", err, errkind.Invalid)
	_, err = s.List(ctx, "", oplog.MaxList+1)
	wantKind(t, "list too many", err, errkind.TooLarge)
}

func testAppend(t suite) {
	ctx := t.Context()
	a, b := nodes(t)
	head, err := a.log.Head(ctx)
	if err != nil || head != (oplog.Head{}) {
		t.Fatalf("the head of an empty log is %v, %v", head, err)
	}
	var want []oplog.Record
	for round := range 6 { // each sees what the other did
		from := []node{a, b}[round%2]
		want = append(want, appended(t, from.log, round+1, short)...)
	}
	// A node that did not look in between goes on as well.
	want = append(want, appended(t, b.log, 1, short)...)
	want = append(want, appended(t, b.log, 1, short)...)
	for _, n := range []node{a, b} {
		if head, err := n.log.Head(ctx); err != nil || head != After(want) {
			t.Errorf("head is %v, %v, want %v", head, err, After(want))
		}
		same(t, "read", all(t.Context(), t, n.log, 1, 0), want)
	}
	// What the caller does to its own memory later changes nothing.
	mine := Chain(After(want), 1, short)
	kept := []oplog.Record{{Seq: mine[0].Seq, Hash: mine[0].Hash, Data: bytes.Clone(mine[0].Data)}}
	noError(t, "append", a.log.Append(ctx, After(want), mine))
	mine[0].Data[0] ^= 1
	same(t, "read", all(t.Context(), t, a.log, mine[0].Seq, 0), kept)
	// Another one who opens it finds it all.
	same(t, "read", all(t.Context(), t, openLog(t, openStore(t), "shop"), 1, 0), append(want, kept...))
}

func testConflict(t suite) {
	ctx := t.Context()
	a, b := nodes(t)
	none := oplog.Head{}
	first := appended(t, a.log, 3, short)
	otherHash := After(first)
	otherHash.Hash[31] ^= 1
	ahead := oplog.Head{Seq: 9, Hash: After(first).Hash}
	inside := After(first[:2])
	for _, n := range []node{b, a, b} {
		for _, prev := range []oplog.Head{none, otherHash, ahead, inside} {
			wantKind(t, fmt.Sprintf("append after %d", prev.Seq), n.log.Append(ctx, prev, Chain(prev, 2, short)), errkind.Conflict)
		}
	}
	noError(t, "append", b.log.Append(ctx, After(first), Chain(After(first), 2, short)))
	wantKind(t, "append what was just appended", b.log.Append(ctx, After(first), Chain(After(first), 2, short)), errkind.Conflict)
	wantKind(t, "append after a head of before", a.log.Append(ctx, After(first), Chain(After(first), 1, short)), errkind.Conflict)
	if got := all(t.Context(), t, a.log, 1, 0); len(got) != 5 {
		t.Errorf("%d records, want 5", len(got))
	}
}

func testRefused(t suite) {
	ctx := t.Context()
	a, _ := nodes(t)
	none := oplog.Head{}
	skips := Chain(none, 3, short)
	skips[2].Seq++
	empty := Chain(none, 2, short)
	empty[1].Data = nil
	half := func(int) int { return oplog.MaxAppendBytes/2 + 1 }
	tests := []struct {
		name    string
		prev    oplog.Head
		records []oplog.Record
		want    errkind.Kind
	}{
		{"nothing", none, nil, errkind.Invalid},
		{"a gap", none, skips, errkind.Invalid},
		{"not the next number", none, Chain(oplog.Head{Seq: 1}, 1, short), errkind.Invalid},
		{"a record without data", none, empty, errkind.Invalid},
		{"a head that cannot be", oplog.Head{Seq: 1<<64 - 2}, Chain(oplog.Head{Seq: 1<<64 - 2}, 1, short), errkind.Invalid},
		{"too many records", none, Chain(none, oplog.MaxAppendRecords+1, short), errkind.TooLarge},
		{"too many bytes", none, Chain(none, 2, half), errkind.TooLarge},
	}
	for _, tt := range tests {
		wantKind(t, tt.name, a.log.Append(ctx, tt.prev, tt.records), tt.want)
	}
	if got := all(t.Context(), t, a.log, 1, 0); len(got) != 0 {
		t.Errorf("%d records are kept", len(got))
	}
}

func testLimits(t suite) {
	ctx := t.Context()
	a, b := nodes(t)
	var want []oplog.Record
	want = append(want, appended(t, a.log, oplog.MaxAppendRecords, func(int) int { return oplog.MaxAppendBytes / oplog.MaxAppendRecords })...)
	want = append(want, appended(t, b.log, 1, func(int) int { return oplog.MaxAppendBytes })...)
	want = append(want, appended(t, a.log, oplog.MaxAppendRecords, func(int) int { return 1 })...)
	want = append(want, appended(t, a.log, 7, func(i int) int { return 1 + i*100_000 })...)
	for _, n := range []node{a, b} {
		same(t, "read", all(t.Context(), t, n.log, 1, 0), want)
	}
	// A number from each kind of Append, twice, in no order.
	seqs := []uint64{2003, 1001, 1, 1000, 2008, 1002, 1, 2001, 1001}
	got, err := b.log.Get(ctx, seqs)
	noError(t, "get", err)
	for i, seq := range seqs {
		same(t, "get", got[i:i+1], want[seq-1:seq])
	}
	biggest := make([]uint64, oplog.MaxGetBytes/oplog.MaxAppendBytes+1)
	for i := range biggest {
		biggest[i] = 1001
	}
	_, err = b.log.Get(ctx, biggest)
	wantKind(t, "get too many bytes", err, errkind.TooLarge)
}

// testTogether: writers on two nodes append one after the other, each as soon as it can. All that was acknowledged is there, once.
func testTogether(t suite) {
	a, b := nodes(t)
	const writers, each = 4, 5
	var wg sync.WaitGroup
	acked := make([][]oplog.Record, writers)
	for w := range writers {
		log := []oplog.Log{a.log, b.log}[w%2]
		wg.Go(func() {
			for len(acked[w]) < each*2 {
				head, err := log.Head(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				records := Chain(head, 2, func(int) int { return 20 + w })
				switch err := log.Append(t.Context(), head, records); {
				case err == nil:
					acked[w] = append(acked[w], records...)
				case errors.Is(err, errkind.Unavailable) || errors.Is(err, errkind.Conflict):
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	want := slices.Concat(acked...)
	slices.SortFunc(want, func(x, y oplog.Record) int { return int(x.Seq) - int(y.Seq) }) //nolint:gosec // small numbers
	same(t, "read", all(t.Context(), t, a.log, 1, 0), want)
}

func testRead(t suite) {
	ctx := t.Context()
	a, b := nodes(t)
	if got := all(t.Context(), t, a.log, 1, 0); len(got) != 0 {
		t.Errorf("%d records in an empty log", len(got))
	}
	var want []oplog.Record
	for range 3 {
		want = append(want, appended(t, a.log, 900, short)...)
	}
	tests := []struct {
		from  uint64
		limit int
		want  []oplog.Record
	}{
		{0, 0, want},
		{1, 1, want[:1]},
		{1, 1000, want[:1000]},
		{1, 1001, want[:1001]},
		{900, 2, want[899:901]},
		{901, 900, want[900:1800]},
		{2699, 0, want[2698:]},
		{2700, 5, want[2699:]},
		{2701, 0, nil},
		{1<<64 - 1, 0, nil},
	}
	for _, tt := range tests {
		same(t, fmt.Sprintf("read %d from %d", tt.limit, tt.from), all(t.Context(), t, b.log, tt.from, tt.limit), tt.want)
	}
	wantKind(t, "read -1 records", a.log.Read(ctx, 1, -1, func(oplog.Record) error { return nil }), errkind.Invalid)
	enough, n := errors.New("enough"), 0
	err := b.log.Read(ctx, 1, 0, func(r oplog.Record) error {
		if n++; n == 3 {
			return enough
		}
		return nil
	})
	if err != enough || n != 3 { //nolint:errorlint // as it is
		t.Errorf("Read ended with %v after %d records, want with the function's error after 3", err, n)
	}
	// The function may use the log.
	err = b.log.Read(ctx, 1, 2, func(r oplog.Record) error {
		_, err := b.log.Get(ctx, []uint64{r.Seq})
		return errors.Join(err, b.log.SetMeta(ctx, "seen", r.Data))
	})
	noError(t, "use the log in Read", err)
}

func testGet(t suite) {
	ctx := t.Context()
	a, b := nodes(t)
	want := appended(t, a.log, 40, short)
	want = append(want, appended(t, a.log, 1, short)...)
	for _, seqs := range [][]uint64{nil, {1}, {41}, {40, 41, 1}, {7, 7, 3}} {
		got, err := b.log.Get(ctx, seqs)
		noError(t, fmt.Sprint("get ", seqs), err)
		if len(got) != len(seqs) {
			t.Fatalf("get %v: %d records", seqs, len(got))
		}
		for i, seq := range seqs {
			same(t, fmt.Sprint("get ", seqs), got[i:i+1], want[seq-1:seq])
			got[i].Data[0] ^= 1 // it is the caller's
		}
	}
	for _, missing := range []uint64{0, 42, 1 << 40, 1<<64 - 1} {
		_, err := b.log.Get(ctx, []uint64{1, missing})
		wantKind(t, fmt.Sprint("get ", missing), err, errkind.NotFound)
	}
	_, err := b.log.Get(ctx, make([]uint64, oplog.MaxGet+1))
	wantKind(t, "get too many", err, errkind.TooLarge)
	same(t, "read", all(t.Context(), t, a.log, 1, 0), want)
}

func testDelete(t suite) {
	ctx := t.Context()
	a, b := nodes(t)
	first := appended(t, a.log, 3, short)
	noError(t, "snapshot", a.log.SaveSnapshot(ctx, 2, []byte("state")))
	noError(t, "set", a.log.SetMeta(ctx, "k", []byte("v")))
	noError(t, "delete", b.store.Delete(ctx, "shop"))
	gone := func(when string) {
		t.Helper()
		for _, n := range []node{a, b} {
			_, err := n.log.Head(ctx)
			wantKind(t, "head "+when, err, errkind.NotFound)
			wantKind(t, "append "+when, n.log.Append(ctx, After(first), Chain(After(first), 1, short)), errkind.NotFound)
			wantKind(t, "append to nothing "+when, n.log.Append(ctx, oplog.Head{}, Chain(oplog.Head{}, 1, short)), errkind.NotFound)
			wantKind(t, "read "+when, n.log.Read(ctx, 1, 0, func(oplog.Record) error { return nil }), errkind.NotFound)
			_, err = n.log.Get(ctx, []uint64{1})
			wantKind(t, "get "+when, err, errkind.NotFound)
			wantKind(t, "save a snapshot "+when, n.log.SaveSnapshot(ctx, 3, []byte("s")), errkind.NotFound)
			_, _, err = n.log.Snapshot(ctx)
			wantKind(t, "snapshot "+when, err, errkind.NotFound)
			_, err = n.log.Meta(ctx, "k")
			wantKind(t, "value "+when, err, errkind.NotFound)
			wantKind(t, "set "+when, n.log.SetMeta(ctx, "k", []byte("w")), errkind.NotFound)
			wantKind(t, "swap "+when, n.log.SwapMeta(ctx, "k", nil, []byte("w")), errkind.NotFound)
			wantKind(t, "delete a value "+when, n.log.DeleteMeta(ctx, "k"), errkind.NotFound)
			_, err = n.log.ListMeta(ctx, "", "", 0)
			wantKind(t, "values "+when, err, errkind.NotFound)
		}
	}
	gone("after Delete")
	for _, n := range []node{a, b} {
		_, err := n.store.Open(ctx, "shop")
		wantKind(t, "open", err, errkind.NotFound)
		wantKind(t, "delete again", n.store.Delete(ctx, "shop"), errkind.NotFound)
		if names, err := n.store.List(ctx, "", 0); err != nil || len(names) != 0 {
			t.Errorf("list: %v, %v", names, err)
		}
	}
	noError(t, "create again", a.store.Create(ctx, "shop"))
	gone("after another Create")
	again := openLog(t, b.store, "shop")
	if head, err := again.Head(ctx); err != nil || head != (oplog.Head{}) {
		t.Errorf("the head of the new document is %v, %v", head, err)
	}
	_, _, err := again.Snapshot(ctx)
	wantKind(t, "the new document's snapshot", err, errkind.NotFound)
	if list, err := again.ListMeta(ctx, "", "", 0); err != nil || len(list) != 0 {
		t.Errorf("the new document's values: %v, %v", list, err)
	}
	want := appended(t, again, 2, short)
	gone("after an Append to the new document")
	same(t, "read", all(t.Context(), t, again, 1, 0), want)
}

func testClose(t suite) {
	ctx := t.Context()
	s := openStore(t)
	noError(t, "create", s.Create(ctx, "shop"))
	l, err := s.Open(ctx, "shop")
	noError(t, "open", err)
	want := appended(t, l, 2, short)
	noError(t, "close", l.Close())
	_, err = l.Head(ctx)
	wantKind(t, "head after Close", err, errkind.Unavailable)
	wantKind(t, "append after Close", l.Append(ctx, After(want), Chain(After(want), 1, short)), errkind.Unavailable)
	same(t, "read", all(t.Context(), t, openLog(t, s, "shop"), 1, 0), want)
}

func testCanceled(t suite) {
	a, _ := nodes(t)
	want := appended(t, a.log, 3, short)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.log.Append(ctx, After(want), Chain(After(want), 1, short)); !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v", err)
	}
	if err := a.log.Read(ctx, 1, 0, func(oplog.Record) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
	same(t, "read", all(t.Context(), t, a.log, 1, 0), want)
	want = append(want, appended(t, a.log, 1, short)...)
	same(t, "read", all(t.Context(), t, a.log, 1, 0), want)
}
