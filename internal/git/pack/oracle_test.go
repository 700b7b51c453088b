package pack_test

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/pack"
)

// oracle is a bare repository that real git keeps.
type oracle struct{ gittest.Repo }

func newOracle(tb testing.TB) oracle {
	tb.Helper()
	return oracle{gittest.New(tb)}
}

// history fills the repository with a bit of everything: commits with and without merges, nested trees, symlinks,
// gitlinks, tags of tags, empty and big blobs, text that deltas well and noise that does not.
func (o oracle) history(commits int) {
	o.TB.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	lines := make([]string, 400)
	for i := range lines {
		lines[i] = fmt.Sprintf("line %d of a text that changes bit by bit: %x", i, rnd.Uint64())
	}
	data := func(s string) { fmt.Fprintf(&b, "data %d\n%s\n", len(s), s) }
	for i := range commits {
		fmt.Fprintf(&b, "commit refs/heads/main\nmark :%d\ncommitter C <c@example.com> %d +0100\n", i+1, 1700000000+60*i)
		data(fmt.Sprintf("commit %d\n\nwith a body", i))
		if i > 5 && i%7 == 0 {
			fmt.Fprintf(&b, "merge :%d\n", i-3)
		}
		lines[rnd.IntN(len(lines))] = fmt.Sprintf("a new line %x", rnd.Uint64())
		fmt.Fprintf(&b, "M 100644 inline text/file\n")
		data(strings.Join(lines, "\n"))
		fmt.Fprintf(&b, "M 100755 inline bin/tool%d\n", i%20)
		data(fmt.Sprintf("#!/bin/sh\n# %d\n%s", i, strings.Join(lines[:i%50], "\n")))
		fmt.Fprintf(&b, "M 120000 inline link\n")
		data(fmt.Sprintf("bin/tool%d", i%20))
		if i == 1 {
			fmt.Fprintf(&b, "M 100644 inline empty\n")
			data("")
			fmt.Fprintf(&b, "M 160000 %040x sub\n", 0x1234567)
			noise := make([]byte, 300<<10)
			for k := range noise {
				noise[k] = byte(rnd.Uint32())
			}
			fmt.Fprintf(&b, "M 100644 inline noise\n")
			data(string(noise))
			fmt.Fprintf(&b, "M 100644 inline zeros\n")
			data(string(make([]byte, 3<<20)))
		}
	}
	fmt.Fprintf(&b, "tag v1\nfrom :1\ntagger T <t@example.com> 1700000000 +0000\n")
	data("a tag")
	o.FastImport(b.String())
	o.Git("tag", "-a", "-m", "tag of a tag", "v2", "v1")
	o.Git("tag", "-a", "-m", "tag of a tree", "v3", "main^{tree}")
}

// packAll packs everything that references reach.
func (o oracle) packAll(args ...string) []byte {
	o.TB.Helper()
	return o.PackObjects("", append([]string{"--all", "--no-reuse-delta", "--no-reuse-object"}, args...)...)
}

// gitPack is a pack in memory, with what git says about it.
type gitPack struct {
	data    []byte
	idx     []byte
	objects []pack.GitObject // in pack order
}

// index has git index a packfile, and tell what is in it.
func index(tb testing.TB, packfile []byte, args ...string) *gitPack {
	tb.Helper()
	o := newOracle(tb)
	path := filepath.Join(o.Dir, "objects", "pack", "pack-1.pack")
	if err := os.WriteFile(path, packfile, 0o600); err != nil {
		tb.Fatal(err)
	}
	o.Git(append(append([]string{"index-pack"}, args...), path)...)
	idx, err := os.ReadFile(strings.TrimSuffix(path, ".pack") + ".idx")
	if err != nil {
		tb.Fatal(err)
	}
	g := &gitPack{data: packfile, idx: idx}
	s := bufio.NewScanner(strings.NewReader(o.GitIn(string(idx), "show-index")))
	for s.Scan() {
		var offset int64
		var id string
		if _, err := fmt.Sscan(s.Text(), &offset, &id); err != nil {
			tb.Fatal(err)
		}
		g.objects = append(g.objects, pack.GitObject{OID: git.MustParseOID(id), Offset: offset})
	}
	slices.SortFunc(g.objects, func(a, b pack.GitObject) int { return int(a.Offset - b.Offset) })
	ids := make([]git.OID, len(g.objects))
	for i, obj := range g.objects {
		ids[i] = obj.OID
	}
	for i, obj := range o.Read(ids...) {
		g.objects[i].Kind, g.objects[i].Data = obj.Kind, obj.Data
	}
	return g
}

// open opens the pack by git's index and a table of what git says.
func (g *gitPack) open(tb testing.TB) *pack.Pack {
	tb.Helper()
	return g.openIn(tb, nil)
}

// openIn is open for a pack that has a room.
func (g *gitPack) openIn(tb testing.TB, room *pack.Room) *pack.Pack {
	tb.Helper()
	p, err := pack.Open(bytes.NewReader(g.data), int64(len(g.data)), g.idx, pack.TableOf(tb, g.data, g.objects, 0), room)
	if err != nil {
		tb.Fatalf("open pack: %v", err)
	}
	return p
}

// byHand makes a packfile of raw entries.
func byHand(tb testing.TB, entries ...[]byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := pack.NewWriter(&b, uint32(len(entries)))
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		if err := w.Entry(e); err != nil {
			tb.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// mapCache is a BaseCache without a limit.
type mapCache map[pack.Pos]git.Object

func (m mapCache) Get(_ *pack.Pack, at pack.Pos) (git.Object, bool) {
	o, ok := m[at]
	return o, ok
}
func (m mapCache) Put(_ *pack.Pack, at pack.Pos, o git.Object) { m[at] = o }
