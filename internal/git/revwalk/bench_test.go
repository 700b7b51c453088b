package revwalk_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// benchRepo is what HEAD leads to in a repository that SKEP_BENCH_REPO names, or a made one.
func benchRepo(b *testing.B) (gitRepo, *odb.Store) {
	b.Helper()
	r := gitRepo{gittest.At(b, os.Getenv("SKEP_BENCH_REPO"))}
	if r.Dir == "" {
		r = history(b, 1, 2000)
	}
	s := odb.NewStore(nil, nil, nil)
	packfile := r.PackObjects("HEAD\n", "--delta-base-offset")
	q, err := s.Receive(b.Context(), bytes.NewReader(packfile), pack.ReceiveOptions{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { q.Close() })
	return r, odb.NewStore(q.Store.Packs(), []git.OID{r.OID("HEAD")}, odb.NewCache(96<<20))
}

func BenchmarkNewGraph(b *testing.B) {
	_, s := benchRepo(b)
	var g *revwalk.Graph
	for b.Loop() {
		g = graphOf(b, s)
	}
	b.ReportMetric(float64(g.Len()), "commits")
}

func BenchmarkPlan(b *testing.B) {
	r, s := benchRepo(b)
	g := graphOf(b, s)
	head, before := []git.OID{r.OID("HEAD")}, []git.OID{r.OID("HEAD~50")}
	unrooted := graphOf(b, odb.NewStore(s.Packs(), nil, odb.NewCache(96<<20)))
	for _, bb := range []struct {
		name string
		g    *revwalk.Graph
		r    revwalk.Request
	}{
		{"everything", g, revwalk.Request{Wants: head}},
		{"blob-none", g, revwalk.Request{Wants: head, Filter: revwalk.Filter{BlobNone: true}}},
		{"depth-1", g, revwalk.Request{Wants: head, Depth: 1}},
		{"50-commits", g, revwalk.Request{Wants: head, Haves: before, Thin: true}},
		{"1-commit", g, revwalk.Request{Wants: head, Haves: []git.OID{r.OID("HEAD~1")}, Thin: true}},
		{"depth-1-again", g, revwalk.Request{Wants: head, Haves: before, Shallow: before, Depth: 1, Thin: true}},
		{"unshallow", g, revwalk.Request{Wants: head, Haves: head, Shallow: head, Depth: revwalk.Infinite, Thin: true}},
		{"walk", unrooted, revwalk.Request{Wants: head}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			var p *revwalk.Plan
			for b.Loop() {
				p = plan(b, bb.g, bb.r)
			}
			b.ReportMetric(float64(p.Send.Len()), "objects")
		})
	}
}

func BenchmarkReach(b *testing.B) {
	r, s := benchRepo(b)
	g := graphOf(b, s)
	head, old := r.OID("HEAD"), r.OID("HEAD~200")
	b.Run("IsAncestor", func(b *testing.B) {
		for b.Loop() {
			if ok, err := g.IsAncestor(b.Context(), old, head); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("MergeBases", func(b *testing.B) {
		for b.Loop() {
			if _, err := g.MergeBases(b.Context(), old, head); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("LogPath", func(b *testing.B) {
		n := 0
		for b.Loop() {
			for _, err := range g.Log(b.Context(), []git.OID{head}, revwalk.LogOptions{Path: "README.md"}) {
				if err != nil {
					b.Fatal(err)
				}
				if n++; n%20 == 0 {
					break
				}
			}
		}
	})
}
