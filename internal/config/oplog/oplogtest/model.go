package oplogtest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/errkind"
)

// testModel: whatever two nodes do to a document, in whatever order, both see what a few lines of Go would keep.
func testModel(t suite) {
	stores := []oplog.Store{openStore(t), openStore(t)}
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		m := &model{t: t.T, stores: stores, doc: fmt.Sprintf("run-%d", run), meta: map[string]string{}}
		noError(rt, "create", stores[0].Create(t.Context(), m.doc))
		m.open(rt)
		defer m.close(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"append":      m.append,
			"append late": m.appendLate,
			"get":         m.get,
			"read":        m.read,
			"snapshot":    m.saveSnapshot,
			"set":         m.set,
			"swap":        m.swap,
			"delete":      m.deleteMeta,
			"open again":  func(rt *rapid.T) { m.close(rt); m.open(rt) },
			"start anew":  m.startAnew,
			"":            m.check,
		})
		for _, l := range m.logs {
			m.checkRecords(rt, l)
			m.checkSnapshot(rt, l)
			m.checkMeta(rt, l)
		}
	})
}

// model is a document as it should be.
type model struct {
	t      *testing.T
	stores []oplog.Store
	doc    string
	logs   []oplog.Log // of each store

	records  []oplog.Record
	seq      uint64 // the snapshot's
	snapshot string
	meta     map[string]string
}

func (m *model) open(rt *rapid.T) {
	for _, s := range m.stores {
		l, err := s.Open(m.t.Context(), m.doc)
		noError(rt, "open", err)
		m.logs = append(m.logs, l)
	}
}

func (m *model) close(rt *rapid.T) {
	for _, l := range m.logs {
		noError(rt, "close", l.Close())
	}
	m.logs = nil
}

func (m *model) log(rt *rapid.T) oplog.Log { return rapid.SampledFrom(m.logs).Draw(rt, "log") }

func (m *model) head() oplog.Head {
	if len(m.records) == 0 {
		return oplog.Head{}
	}
	return After(m.records)
}

// next draws records that follow prev. Now and then they are more than one item of any database holds.
func next(rt *rapid.T, prev oplog.Head) []oplog.Record {
	n := rapid.IntRange(1, 5).Draw(rt, "records")
	unit := rapid.SampledFrom([]int{300, 1, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 100_000}).Draw(rt, "size")
	return Chain(prev, n, func(i int) int { return unit + i })
}

func (m *model) append(rt *rapid.T) {
	records := next(rt, m.head())
	noError(rt, "append", m.log(rt).Append(m.t.Context(), m.head(), records))
	m.records = append(m.records, records...)
}

// appendLate appends after what is not the head.
func (m *model) appendLate(rt *rapid.T) {
	prev := oplog.Head{Seq: rapid.Uint64Range(0, m.head().Seq+2).Draw(rt, "after")}
	if 0 < prev.Seq && prev.Seq < m.head().Seq {
		prev.Hash = m.records[prev.Seq-1].Hash
	}
	if prev == m.head() {
		prev.Hash[7]++
	}
	wantKind(rt, "append late", m.log(rt).Append(m.t.Context(), prev, next(rt, prev)), errkind.Conflict)
}

func (m *model) get(rt *rapid.T) {
	seqs := rapid.SliceOfN(rapid.Uint64Range(1, m.head().Seq+1), 0, 5).Draw(rt, "numbers")
	got, err := m.log(rt).Get(m.t.Context(), seqs)
	if slices.Contains(seqs, m.head().Seq+1) {
		wantKind(rt, "get", err, errkind.NotFound)
		return
	}
	noError(rt, "get", err)
	var want []oplog.Record
	for _, seq := range seqs {
		want = append(want, m.records[seq-1])
	}
	same(rt, "get", got, want)
}

func (m *model) read(rt *rapid.T) {
	from := rapid.Uint64Range(0, m.head().Seq+2).Draw(rt, "from")
	limit := rapid.IntRange(0, 10).Draw(rt, "limit")
	want := m.records[min(max(from, 1)-1, m.head().Seq):]
	if limit > 0 {
		want = want[:min(len(want), limit)]
	}
	same(rt, "read", all(m.t.Context(), rt, m.log(rt), from, limit), want)
}

func (m *model) saveSnapshot(rt *rapid.T) {
	seq := rapid.Uint64Range(0, m.head().Seq+1).Draw(rt, "seq")
	data := rapid.StringN(1, 20, -1).Draw(rt, "data")
	err := m.log(rt).SaveSnapshot(m.t.Context(), seq, []byte(data))
	if seq == 0 || seq > m.head().Seq {
		wantKind(rt, "snapshot", err, errkind.Invalid)
		return
	}
	noError(rt, "snapshot", err)
	if seq >= m.seq {
		m.seq, m.snapshot = seq, data
	}
}

var (
	keys   = rapid.SampledFrom([]string{"a", "a/b", "a/c", "b"})
	values = rapid.SampledFrom([]string{"0", "1", "\x00\xff", strings.Repeat("x", 3000)})
)

func (m *model) set(rt *rapid.T) {
	key, value := keys.Draw(rt, "key"), values.Draw(rt, "value")
	noError(rt, "set", m.log(rt).SetMeta(m.t.Context(), key, []byte(value)))
	m.meta[key] = value
}

func (m *model) swap(rt *rapid.T) {
	key := keys.Draw(rt, "key")
	old, value := rapid.OneOf(values, rapid.Just("")).Draw(rt, "old"), rapid.OneOf(values, rapid.Just("")).Draw(rt, "value")
	if rapid.Bool().Draw(rt, "knows") {
		old = m.meta[key]
	}
	err := m.log(rt).SwapMeta(m.t.Context(), key, []byte(old), []byte(value))
	if old != m.meta[key] {
		wantKind(rt, "swap", err, errkind.Conflict)
		return
	}
	noError(rt, "swap", err)
	m.meta[key] = value
	if value == "" {
		delete(m.meta, key)
	}
}

func (m *model) deleteMeta(rt *rapid.T) {
	key := keys.Draw(rt, "key")
	noError(rt, "delete", m.log(rt).DeleteMeta(m.t.Context(), key))
	delete(m.meta, key)
}

// startAnew deletes the document and makes it again. Who had it open before finds that it is not there.
func (m *model) startAnew(rt *rapid.T) {
	ctx := m.t.Context()
	if rapid.IntRange(0, 3).Draw(rt, "really") > 0 {
		rt.Skip("not often")
	}
	noError(rt, "delete", rapid.SampledFrom(m.stores).Draw(rt, "store").Delete(ctx, m.doc))
	noError(rt, "create", rapid.SampledFrom(m.stores).Draw(rt, "store").Create(ctx, m.doc))
	for _, l := range m.logs {
		wantKind(rt, "append to what was deleted", l.Append(ctx, m.head(), next(rt, m.head())), errkind.NotFound)
	}
	m.close(rt)
	m.records, m.seq, m.snapshot = nil, 0, ""
	clear(m.meta)
	m.open(rt)
}

// check compares something that a node sees with the model.
func (m *model) check(rt *rapid.T) {
	l := m.log(rt)
	rapid.SampledFrom([]func(*rapid.T, oplog.Log){m.checkRecords, m.checkSnapshot, m.checkMeta}).Draw(rt, "check")(rt, l)
}

func (m *model) checkRecords(rt *rapid.T, l oplog.Log) {
	if head, err := l.Head(m.t.Context()); err != nil || head != m.head() {
		rt.Fatalf("head is %v, %v, want %v", head, err, m.head())
	}
	same(rt, "read all", all(m.t.Context(), rt, l, 1, 0), m.records)
}

func (m *model) checkSnapshot(rt *rapid.T, l oplog.Log) {
	seq, data, err := l.Snapshot(m.t.Context())
	if m.seq == 0 {
		wantKind(rt, "snapshot", err, errkind.NotFound)
	} else if err != nil || seq != m.seq || string(data) != m.snapshot {
		rt.Fatalf("snapshot is %d %q, %v, want %d %q", seq, data, err, m.seq, m.snapshot)
	}
}

func (m *model) checkMeta(rt *rapid.T, l oplog.Log) {
	list, err := l.ListMeta(m.t.Context(), "", "", 0)
	noError(rt, "values", err)
	var want []oplog.Meta
	for _, key := range slices.Sorted(maps.Keys(m.meta)) {
		want = append(want, oplog.Meta{Key: key, Value: []byte(m.meta[key])})
	}
	if !slices.EqualFunc(list, want, func(a, b oplog.Meta) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }) {
		rt.Fatal(cmp.Diff(want, list))
	}
}
