package router_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/router"
)

func BenchmarkCreate(b *testing.B) {
	r := open(b, b.TempDir(), router.Options{})
	create(b, r) // builds the image
	for b.Loop() {
		create(b, r)
	}
}

// BenchmarkOpen opens cells that are not open, and closes others for them.
func BenchmarkOpen(b *testing.B) {
	r := open(b, b.TempDir(), router.Options{MaxOpenCells: 1})
	var repos []id.Repo
	for range 10 {
		repos = append(repos, create(b, r))
	}
	i := 0
	for b.Loop() {
		use(b, r, repos[i%len(repos)]).Release()
		i++
	}
}

// BenchmarkCommit makes commits of one small file, each acknowledged when it is durable, on branches of their own.
func BenchmarkCommit(b *testing.B) {
	for _, bench := range []struct {
		name           string
		repos, clients int
	}{
		{"1 repository, 1 client", 1, 1},
		{"1 repository, 8 clients", 1, 8},
		{"8 repositories, 8 clients", 8, 8},
	} {
		b.Run(bench.name, func(b *testing.B) {
			r := open(b, b.TempDir(), router.Options{})
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			go func() { _ = r.Run(ctx) }()
			var repos []id.Repo
			for range bench.repos {
				repos = append(repos, create(b, r))
			}
			var client atomic.Int32
			b.SetParallelism(bench.clients / 2)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				n := int(client.Add(1))
				who := git.Signature{Name: []byte("A"), Email: []byte("a@example.com"), When: time.Unix(1700000000, 0)}
				for i := 0; pb.Next(); i++ {
					h := use(b, r, repos[n%len(repos)])
					_, err := h.Commit(context.Background(), router.CommitRequest{
						Branch: git.Branch(fmt.Sprint("b", n)), Author: who, Committer: who, Message: "m\n",
						Changes: changes(fmt.Sprint(n, i)),
					})
					if err != nil {
						b.Error(err)
					}
					h.Release()
				}
			})
		})
	}
}

// BenchmarkMoveRef moves one of many references.
func BenchmarkMoveRef(b *testing.B) {
	for _, refs := range []int{1, 100_000} {
		b.Run(fmt.Sprint(refs, " refs"), func(b *testing.B) {
			r := open(b, b.TempDir(), router.Options{})
			h := use(b, r, create(b, r))
			defer h.Release()
			one, two := commit(b, h, "one"), commit(b, h, "two")
			updates := make([]git.RefUpdate, refs)
			for i := range updates {
				updates[i] = git.RefUpdate{Name: git.Branch(fmt.Sprintf("b%06d", i)), New: one}
			}
			move := func(u ...git.RefUpdate) {
				errs, err := h.Update(context.Background(), nil, u, protocol.UpdateOptions{Message: "push"})
				if err != nil || errs[0] != nil {
					b.Fatal(errs[0], err)
				}
			}
			move(updates...)
			u := git.RefUpdate{Name: updates[0].Name, Old: one, New: two}
			for b.Loop() {
				move(u)
				u.Old, u.New = u.New, u.Old
			}
		})
	}
}

// TestManyRepositories reports how long it takes to make, to find and to serve many repositories.
func TestManyRepositories(t *testing.T) {
	const n = 2000
	dir := t.TempDir()
	r, err := router.Open(t.Context(), dir, router.Options{})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	repos := make([]id.Repo, n)
	for i := range repos {
		repos[i] = create(t, r)
	}
	made := time.Since(start)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	r = open(t, dir, router.Options{})
	opened := time.Since(start)
	for i := 0; i < n; i += n / 100 {
		h := use(t, r, repos[i])
		if h.View().Refs.Len() != 0 {
			t.Error("a new repository has references")
		}
		h.Release()
	}
	count := 0
	for _, err := range r.Cells() {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != n {
		t.Errorf("%d cells on disk, want %d", count, n)
	}
	t.Logf("%d repositories: %v each to make, %v to open the directory", n, made/time.Duration(n), opened)
}
