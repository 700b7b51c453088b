package engine_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/errkind"
)

// corrupt is a log that has other records than it should.
type corrupt struct {
	oplog.Log
	records []oplog.Record
}

func (l corrupt) Head(context.Context) (oplog.Head, error) {
	if len(l.records) == 0 {
		return oplog.Head{}, nil
	}
	last := l.records[len(l.records)-1]
	return oplog.Head{Seq: last.Seq, Hash: last.Hash}, nil
}

func (l corrupt) Read(_ context.Context, from uint64, limit int, fn func(oplog.Record) error) error {
	for i, r := range l.records[min(int(from)-1, len(l.records)):] {
		if limit > 0 && i == limit {
			return nil
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

func (l corrupt) Get(_ context.Context, seqs []uint64) ([]oplog.Record, error) {
	for _, r := range l.records {
		if r.Seq == seqs[0] {
			return []oplog.Record{r}, nil
		}
	}
	return nil, errkind.NotFound
}

func recordsOf(t *testing.T, log oplog.Log) (all []oplog.Record) {
	t.Helper()
	err := log.Read(t.Context(), 1, 0, func(r oplog.Record) error {
		r.Data = slices.Clone(r.Data)
		all = append(all, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// corruptions are what can happen to a log's records, or what somebody who can write to the database does. others are the records of another document.
var corruptions = map[string]func(records, others []oplog.Record) []oplog.Record{
	"a bit of a record is turned": func(r, _ []oplog.Record) []oplog.Record {
		i := rand.IntN(len(r))
		r[i].Data = slices.Clone(r[i].Data)
		r[i].Data[rand.IntN(len(r[i].Data))] ^= 1 << rand.IntN(8)
		return r
	},
	"a bit of a hash is turned": func(r, _ []oplog.Record) []oplog.Record {
		r[rand.IntN(len(r))].Hash[rand.IntN(32)] ^= 1 << rand.IntN(8)
		return r
	},
	"a record is gone": func(r, _ []oplog.Record) []oplog.Record {
		i := rand.IntN(len(r))
		return slices.Delete(r, i, i+1)
	},
	"a record is gone, and the others moved up": func(r, _ []oplog.Record) []oplog.Record {
		i := rand.IntN(len(r))
		r = slices.Delete(r, i, i+1)
		for ; i < len(r); i++ {
			r[i].Seq--
		}
		return r
	},
	"two records changed places": func(r, _ []oplog.Record) []oplog.Record {
		i := rand.IntN(len(r) - 1)
		j := i + 1 + rand.IntN(len(r)-1-i)
		r[i], r[j] = r[j], r[i]
		r[i].Seq, r[j].Seq = r[j].Seq, r[i].Seq
		return r
	},
	"a record is there twice": func(r, _ []oplog.Record) []oplog.Record {
		i := rand.IntN(len(r))
		r = slices.Insert(r, i, r[i])
		for i++; i < len(r); i++ {
			r[i].Seq++
		}
		return r
	},
	"the end is cut off": func(r, _ []oplog.Record) []oplog.Record { return r[:rand.IntN(len(r))] },
	"a record is of another document": func(r, others []oplog.Record) []oplog.Record {
		i := rand.IntN(len(r))
		r[i] = others[i]
		return r
	},
	"the end is of another document": func(r, others []oplog.Record) []oplog.Record {
		i := rand.IntN(len(r))
		return append(r[:i], others[i:]...)
	},
	"a record is changed, and all hashes after it made anew": func(r, others []oplog.Record) []oplog.Record {
		i := rand.IntN(len(r))
		prev := sha256.Sum256([]byte("skep config log v1\nbench"))
		if i > 0 {
			prev = r[i-1].Hash
		}
		r[i].Data = others[i].Data
		for ; i < len(r); i++ {
			h := sha256.New()
			h.Write(prev[:])
			h.Write(binary.BigEndian.AppendUint64(nil, r[i].Seq))
			h.Write(r[i].Data)
			prev = [32]byte(h.Sum(nil))
			r[i].Hash = prev
		}
		return r
	},
}

// Whatever happened to a log: it does not open, or Verify finds it, or its head is not the one that somebody noted.
func TestCorruptionIsFound(t *testing.T) {
	fill := func(d *engine.Document) {
		for i := range 40 {
			submit(t, d, set(fmt.Sprintf("service.s%d", i%7), "weight", rand.Int64()))
		}
	}
	d, log := memory(t)
	another, foreign := memory(t)
	fill(d)
	fill(another)
	if err := d.Snapshot(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	fill(d)
	fill(another)
	anchor, records, others := d.Head(), recordsOf(t, log), recordsOf(t, foreign)
	nothing := func(*config.Op, uint64) error { return nil }
	for name, damage := range corruptions {
		t.Run(name, func(t *testing.T) {
			found := map[string]int{}
			for range 120 {
				bad := corrupt{log, damage(slices.Clone(records), others)}
				d, err := engine.Open(t.Context(), "bench", bad, engine.Options{})
				if err != nil {
					found["by Open"]++
					continue
				}
				head, err := d.Verify(t.Context(), nothing)
				switch {
				case err != nil:
					found["by Verify"]++
				case head != anchor:
					found["by the head"]++
				default:
					t.Fatalf("%s: not found", name)
				}
			}
			t.Log(found)
		})
	}
}

// A snapshot that somebody changed is found: the state would not be what the records come to.
func TestChangedSnapshotIsFound(t *testing.T) {
	d, log := memory(t)
	submit(t, d, set("service.a", "weight", int64(1234)))
	if err := d.Snapshot(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	seq, text, err := log.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := slices.Index(text, '4')
	for i := range text {
		if string(text[i:min(i+4, len(text))]) == "1234" {
			at = i
		}
	}
	text[at] = '9'
	if err := log.SaveSnapshot(t.Context(), seq, text); err != nil {
		t.Fatal(err)
	}
	nothing := func(*config.Op, uint64) error { return nil }
	if _, err := d.Verify(t.Context(), nothing); err != nil {
		t.Errorf("the document that did not begin with it: %v", err)
	}
	if _, err := open(t, log).Verify(t.Context(), nothing); err == nil {
		t.Error("the document that began with it passes")
	}
}

// A log that was put back to an earlier state is not written to by who knows more, and opens again as it is, with a snapshot of what is lost, too.
func TestPutBack(t *testing.T) {
	d, log := memory(t)
	submit(t, d, set("service.a", "weight", int64(1)), set("service.a", "weight", int64(2)))
	earlier := recordsOf(t, log)[:2]
	if err := d.Snapshot(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	store := oplog.NewMemory()
	if err := store.Create(t.Context(), "bench"); err != nil {
		t.Fatal(err)
	}
	back, err := store.Open(t.Context(), "bench")
	if err != nil {
		t.Fatal(err)
	}
	if err := back.Append(t.Context(), oplog.Head{}, earlier); err != nil {
		t.Fatal(err)
	}
	moved := &switched{Log: log}
	knowsMore := open(t, moved)
	moved.Log = back
	if _, err := knowsMore.Submit(t.Context(), engine.Batch{Requests: []config.Request{set("service.a", "weight", int64(3))}}); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("a write on top of what is lost: %v, want it unavailable", err)
	}
	again := open(t, corrupt{log, earlier})
	if again.Head().Seq != 2 {
		t.Errorf("opened again it ends with record %d, want 2", again.Head().Seq)
	}
}

// switched is a log in the place of which another one can be put.
type switched struct{ oplog.Log }
