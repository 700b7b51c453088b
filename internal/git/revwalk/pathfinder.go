package revwalk

import (
	"strings"

	"github.com/skep-dev/skep/internal/git"
)

// entry is what a path leads to in a tree; the zero entry is nothing.
type entry struct {
	mode git.Mode
	oid  git.OID
}

// pathFinder looks one path up in many trees. Most commits leave most trees as they are, so it remembers what each tree on
// the way leads to.
type pathFinder struct {
	g     *Graph
	parts []string
	known []map[git.OID]entry // by how deep the tree lies
}

// maxKnownTrees bounds what a pathFinder remembers for each part of its path: some megabytes. It starts anew when full.
const maxKnownTrees = 1 << 14

func newPathFinder(g *Graph, path string) *pathFinder {
	f := &pathFinder{g: g}
	for part := range strings.SplitSeq(path, "/") {
		if part != "" {
			f.parts = append(f.parts, part)
			f.known = append(f.known, map[git.OID]entry{})
		}
	}
	return f
}

// at returns what the path leads to in a commit's tree.
func (f *pathFinder) at(c uint32) (entry, error) {
	e := entry{mode: git.ModeDir, oid: f.g.tree[c]}
	var unknown []git.OID // the trees on the way that were not known
	var err error
	first := 0
	for i := range f.parts {
		if e.mode != git.ModeDir {
			return f.remember(first, unknown, entry{}), nil
		}
		if last, ok := f.known[i][e.oid]; ok {
			return f.remember(first, unknown, last), nil
		}
		if len(unknown) == 0 {
			first = i
		}
		unknown = append(unknown, e.oid)
		if e, err = f.child(e.oid, f.parts[i]); err != nil {
			return entry{}, err
		}
	}
	return f.remember(first, unknown, e), nil
}

func (f *pathFinder) remember(first int, trees []git.OID, e entry) entry {
	for i, o := range trees {
		if len(f.known[first+i]) == maxKnownTrees {
			clear(f.known[first+i])
		}
		f.known[first+i][o] = e
	}
	return e
}

func (f *pathFinder) child(tree git.OID, name string) (entry, error) {
	data, err := readTree(f.g.store, tree)
	if err != nil {
		return entry{}, err
	}
	for e, err := range git.TreeEntries(data) {
		if err != nil {
			return entry{}, err
		}
		if string(e.Name) == name {
			return entry{mode: e.Mode, oid: e.OID}, nil
		}
	}
	return entry{}, nil
}
