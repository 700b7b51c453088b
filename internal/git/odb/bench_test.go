package odb_test

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
)

// benchStore is the history of a repository that SKEP_BENCH_REPO names, or a made one: a base pack, and what the last
// commits pushed.
func benchStore(b *testing.B) (*odb.Store, gitRepo) {
	b.Helper()
	repo := gitRepo{gittest.At(b, os.Getenv("SKEP_BENCH_REPO"))}
	if repo.Dir == "" {
		repo = newGitRepo(b)
		repo.history(rngOf(1), 2000)
	}
	s := emptyStore()
	for i, revs := range []string{"HEAD~50", "HEAD\n^HEAD~50"} {
		packfile := repo.PackObjects(revs, "--delta-base-offset", "--thin")
		q, err := s.Receive(b.Context(), bytes.NewReader(packfile), pack.ReceiveOptions{Dir: b.TempDir(), MemoryPack: int64(i+1) << 20})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { q.Close() })
		s = q.Store
	}
	return odb.NewStore(s.Packs(), s.Roots(), odb.NewCache(64<<20)), repo
}

func BenchmarkWritePack(b *testing.B) {
	s, repo := benchStore(b)
	all := odb.NewSet(s)
	all.AddAll(s)
	half, rng := odb.NewSet(s), rngOf(1)
	for at := range all.All() {
		if rng.IntN(2) == 0 {
			half.Add(at)
		}
	}
	shallow := odb.NewSet(s)
	for _, o := range append(repo.reachable("HEAD^{tree}"), repo.OID("HEAD")) {
		at, _ := s.Find(o)
		shallow.Add(at)
	}
	base := odb.NewSet(s)
	for at := range all.All() {
		if at.Pack == 0 {
			base.Add(at)
		}
	}
	for _, bb := range []struct {
		name string
		set  *odb.Set
	}{{"base", base}, {"all", all}, {"half", half}, {"shallow", shallow}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			var w countWriter
			before := cpuTime(b)
			for b.Loop() {
				w = 0
				if _, err := s.WritePack(b.Context(), &w, bb.set, odb.WriteOptions{OfsDelta: true}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			b.SetBytes(int64(w))
			b.ReportMetric(float64(bb.set.Len()), "objects")
		})
	}
}

// cpuTime is what the process has used of all cores, which says more than the clock on a machine that others use as well.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type countWriter int64

func (w *countWriter) Write(b []byte) (int, error) {
	*w += countWriter(len(b))
	return len(b), nil
}

func BenchmarkAddAll(b *testing.B) {
	s, _ := benchStore(b)
	for b.Loop() {
		fresh := odb.NewStore(s.Packs(), nil, nil)
		odb.NewSet(fresh).AddAll(fresh)
	}
}

func BenchmarkFind(b *testing.B) {
	s, repo := benchStore(b)
	var list []git.OID
	if repo.Dir == os.Getenv("SKEP_BENCH_REPO") {
		list = repo.reachable("HEAD")
	} else {
		list = repo.All()
	}
	rng := rngOf(1)
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	b.Run("hit", func(b *testing.B) {
		i := 0
		for b.Loop() {
			s.Has(list[i%len(list)])
			i++
		}
	})
	b.Run("miss", func(b *testing.B) {
		i := 0
		for b.Loop() {
			o := list[i%len(list)]
			o[19]++
			s.Has(o)
			i++
		}
	})
	packs := make([]*pack.Pack, 0, 64)
	w := emptyStore().NewWriter()
	for i := range 63 {
		w.Put(git.Blob, fmt.Append(nil, i))
		q, err := w.Finish(b.Context(), pack.ReceiveOptions{})
		if err != nil {
			b.Fatal(err)
		}
		packs = append(packs, q.Pack)
	}
	many := odb.NewStore(append(packs[:0:0], append([]*pack.Pack{s.Packs()[0]}, packs...)...), nil, nil)
	b.Run("miss64", func(b *testing.B) {
		i := 0
		for b.Loop() {
			o := list[i%len(list)]
			o[19]++
			many.Has(o)
			i++
		}
	})
}
