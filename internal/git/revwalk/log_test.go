package revwalk_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

func logOf(t *testing.T, g *revwalk.Graph, tips []git.OID, opts revwalk.LogOptions) (list []git.OID) {
	t.Helper()
	for o, err := range g.Log(t.Context(), tips, opts) {
		if err != nil {
			t.Fatalf("Log(%v, %+v): %v", tips, opts, err)
		}
		list = append(list, o)
	}
	return list
}

// With both Not and Path, or with Not and wrong clocks, git's answer depends now and then on what it has found out so far
// when it looks at a commit, and ours does not: these seeds are free of such cases.
func TestLogIsGits(t *testing.T) {
	for seed := range uint64(seeds) {
		r, rng := history(t, seed, 60), rngOf(seed)
		g := graphOf(t, r.store(2))
		commits := r.OIDs("", "rev-list", "--all")
		paths := []string{"", "", "a", "a/b", "lib/f", "g", "lib-x/h", "sub", "moved-a", "nothing/here", "f"}
		for range 50 {
			opts, args := revwalk.LogOptions{}, []string{"log", "--format=%H"}
			tips := some(rng, commits, 2)
			if seed%2 == 0 && rng.IntN(4) == 0 {
				opts.Since = time.Unix(int64(1_700_000_000+rng.IntN(3600)), 0)
				args = append(args, fmt.Sprint("--since=@", opts.Since.Unix()))
			}
			if rng.IntN(4) == 0 {
				opts.Until = time.Unix(int64(1_700_000_000+rng.IntN(3600)), 0)
				args = append(args, fmt.Sprint("--until=@", opts.Until.Unix()))
			}
			if opts.FirstParent = rng.IntN(4) == 0; opts.FirstParent {
				args = append(args, "--first-parent")
			}
			for _, o := range tips {
				args = append(args, o.String())
			}
			if rng.IntN(3) == 0 {
				opts.Not = some(rng, commits, 2)
				for _, o := range opts.Not {
					args = append(args, "^"+o.String())
				}
			}
			if opts.Path = paths[rng.IntN(len(paths))]; opts.Path != "" {
				args = append(args, "--", opts.Path)
			}
			want, got := r.OIDs("", args...), logOf(t, g, tips, opts)
			if !slices.Equal(got, want) {
				t.Errorf("seed %d: git %s:\n%v\nwant\n%v", seed, strings.Join(args, " "), got, want)
			}
		}
	}
}

func TestLogReadsNoFurtherThanItsCaller(t *testing.T) {
	r := history(t, 1, 60)
	g := graphOf(t, r.store(1))
	n := 0
	for _, err := range g.Log(t.Context(), []git.OID{r.OID("main")}, revwalk.LogOptions{Path: "a"}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d commits, want 2", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for o, err := range g.Log(ctx, []git.OID{r.OID("main")}, revwalk.LogOptions{Path: "a"}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Log after the end of its context yields %s, %v", o, err)
		}
	}
	for o, err := range g.Log(t.Context(), []git.OID{{1}}, revwalk.LogOptions{}) {
		if err == nil {
			t.Errorf("Log of an unknown commit yields %s", o)
		}
	}
}
