package pack_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// smallPack has each kind of object and of delta in a few hundred bytes, and names a commit that is not in it.
func smallPack(tb testing.TB) *gitPack {
	tb.Helper()
	src := newOracle(tb)
	text := bytes.Repeat([]byte("a line of text\n"), 20)
	blob := func(b []byte) string {
		return strings.TrimSpace(src.GitIn(string(b), "hash-object", "-w", "--stdin"))
	}
	a, b := blob(text), blob(append(slices.Clone(text), "more"...))
	one := strings.TrimSpace(src.GitIn("100644 blob "+a+"\ta\n100644 blob "+b+"\tb\n", "mktree"))
	two := strings.TrimSpace(src.GitIn("040000 tree "+one+"\ta\n", "mktree"))
	zero := strings.TrimSpace(src.GitIn("left out", "commit-tree", strings.TrimSpace(src.GitIn("", "mktree"))))
	first := strings.TrimSpace(src.GitIn("first", "commit-tree", "-p", zero, one))
	second := strings.TrimSpace(src.GitIn("second", "commit-tree", "-p", first, two))
	src.Git("update-ref", "refs/heads/main", second)
	src.Git("tag", "-a", "-m", "a tag", "v1", first)
	return index(tb, src.PackObjects("main\nv1\n^"+zero+"\n", "--no-reuse-delta", "--no-reuse-object", "--delta-base-offset"))
}

// Whatever byte changes, in whichever of the three files, either Open or Verify sees it. Even when the changed index or
// table has a checksum that fits.
func TestVerifySeesEveryChangedByte(t *testing.T) {
	t.Parallel()
	g := smallPack(t)
	table := pack.TableOf(t, g.data, g.objects, 0)
	check := func(t *testing.T, what string, at int, data, idx, table []byte) {
		t.Helper()
		p, err := pack.Open(bytes.NewReader(data), int64(len(data)), idx, table, nil)
		if err == nil {
			err = p.Verify(t.Context(), nil)
		}
		if k := errkind.Of(err); err == nil || (k != errkind.Invalid && k != errkind.TooLarge && k != errkind.Unsupported) {
			t.Errorf("%s, byte %d: %v, want errkind.Invalid", what, at, err)
		}
	}
	change := func(b []byte, at int, by byte) []byte {
		b = slices.Clone(b)
		b[at] ^= by
		return b
	}
	sign := func(b []byte) []byte {
		sum := sha1.Sum(b[:len(b)-sha1.Size])
		return append(b[:len(b)-sha1.Size], sum[:]...)
	}
	for _, by := range []byte{0x01, 0x08, 0x80, 0xff} {
		for at := range g.data {
			check(t, "packfile", at, change(g.data, at, by), g.idx, table)
		}
		for at := range g.idx {
			check(t, "index", at, g.data, change(g.idx, at, by), table)
			if at < len(g.idx)-sha1.Size {
				check(t, "signed index", at, g.data, sign(change(g.idx, at, by)), table)
			}
		}
		for at := range table {
			check(t, "table", at, g.data, g.idx, change(table, at, by))
			// How many of the last entries were appended is not written in a pack.
			if appended := at >= 52 && at < 56; at < len(table)-sha1.Size && !appended {
				check(t, "signed table", at, g.data, g.idx, sign(change(table, at, by)))
			}
		}
	}
	for _, cut := range []int{1, 20, 21, 100} {
		check(t, "cut packfile", cut, g.data[:len(g.data)-cut], g.idx, table)
		check(t, "cut index", cut, g.data, g.idx[:len(g.idx)-cut], table)
		check(t, "cut table", cut, g.data, g.idx, table[:len(table)-cut])
	}
}

func TestVerifyStopsWithItsContext(t *testing.T) {
	t.Parallel()
	g := smallPack(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.open(t).Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify() = %v, want context.Canceled", err)
	}
}

func TestVerifyReportsProgress(t *testing.T) {
	t.Parallel()
	p := smallPack(t).open(t)
	calls, last := 0, 0
	err := p.Verify(t.Context(), func(done, total int) { calls, last = calls+1, total-done })
	if err != nil || calls == 0 || last != 0 {
		t.Errorf("Verify() = %v, with %d reports, the last of %d to go", err, calls, last)
	}
}

// Content that git would not take does not pass either, however well its pack is made.
func TestVerifyChecksContent(t *testing.T) {
	t.Parallel()
	bad := []byte("100644 .git\x00" + string(make([]byte, git.OIDSize)))
	entry, err := pack.AppendEntry(nil, git.Object{Kind: git.Tree, Data: bad})
	if err != nil {
		t.Fatal(err)
	}
	if err := index(t, byHand(t, entry)).open(t).Verify(t.Context(), nil); errkind.Of(err) != errkind.Invalid {
		t.Errorf("Verify() of a tree with .git = %v, want errkind.Invalid", err)
	}
}
