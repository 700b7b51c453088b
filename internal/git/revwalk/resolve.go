package revwalk

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// maxRevision bounds a revision's length: no name that a reference may have is longer.
const maxRevision = 2048

// Resolve turns a revision into the object it names: a branch, tag or full reference name, HEAD, @, an ID or a unique
// prefix of at least 4 digits, each followed by any of ^, ^N, ~N, ^{}, ^{commit}, ^{tree}. A name stands for the tag before
// the branch, and for a reference before the prefix of an ID, as in git. errkind.NotFound otherwise, but errkind.Invalid
// for a prefix that several IDs have.
func (g *Graph) Resolve(refs *git.Refs, rev string) (git.OID, error) {
	if len(rev) > maxRevision {
		return git.OID{}, fmt.Errorf("revision of %d bytes: %w", len(rev), errkind.NotFound)
	}
	name, steps := rev, ""
	if i := strings.IndexAny(rev, "^~"); i >= 0 {
		name, steps = rev[:i], rev[i:]
	}
	o, err := g.resolveName(refs, name)
	for err == nil && steps != "" {
		o, steps, err = g.step(o, steps)
	}
	if err != nil {
		return git.OID{}, fmt.Errorf("resolve %q: %w", rev, err)
	}
	return o, nil
}

func (g *Graph) resolveName(refs *git.Refs, name string) (git.OID, error) {
	if o, err := git.ParseOID(strings.ToLower(name)); err == nil {
		if !g.store.Has(o) {
			return git.OID{}, errkind.NotFound
		}
		return o, nil
	}
	if o, ok := resolveRef(refs, name); ok {
		return o, nil
	}
	const shortest = 4
	if len(name) < shortest || len(name) > 2*git.OIDSize || strings.Trim(name, "0123456789abcdefABCDEF") != "" {
		return git.OID{}, errkind.NotFound
	}
	return g.store.ResolvePrefix(name)
}

// ByReference reports whether a revision starts at a reference, and not at an object's ID or its beginning. What does not
// start at a reference may be an object that no reference leads to any more.
func ByReference(refs *git.Refs, rev string) bool {
	if i := strings.IndexAny(rev, "^~"); i >= 0 {
		rev = rev[:i]
	}
	if _, err := git.ParseOID(strings.ToLower(rev)); err == nil {
		return false
	}
	_, ok := resolveRef(refs, rev)
	return ok
}

// resolveRef finds the reference that a name stands for, in the order of gitrevisions(7).
func resolveRef(refs *git.Refs, name string) (git.OID, bool) {
	if name == string(git.HEAD) || name == "@" {
		r, ok := refs.HeadRef()
		return r.OID, ok
	}
	for _, full := range []git.RefName{git.RefName(name), git.RefName("refs/" + name), git.TagRef(name), git.Branch(name)} {
		if r, ok := refs.Get(full); ok {
			return r.OID, true
		}
	}
	return git.OID{}, false
}

// step follows the first of steps, which is not empty, and returns the others.
func (g *Graph) step(o git.OID, steps string) (git.OID, string, error) {
	op, rest := steps[0], steps[1:]
	if op == '^' && strings.HasPrefix(rest, "{") {
		what, rest, ok := strings.Cut(rest[1:], "}")
		if !ok {
			return git.OID{}, "", errkind.NotFound
		}
		o, err := g.peelTo(o, what)
		return o, rest, err
	}
	digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	rest = rest[len(digits):]
	n := 1
	if digits != "" {
		var err error
		if n, err = strconv.Atoi(digits); err != nil {
			return git.OID{}, "", errkind.NotFound
		}
	}
	o, err := g.peelTo(o, "commit")
	if err != nil {
		return git.OID{}, "", err
	}
	switch op {
	case '^':
		o, err = g.parent(o, n)
	case '~':
		for ; n > 0 && err == nil; n-- {
			o, err = g.parent(o, 1)
		}
	default:
		err = errkind.NotFound
	}
	return o, rest, err
}

// parent returns a commit's nth parent, or itself for 0.
func (g *Graph) parent(o git.OID, n int) (git.OID, error) {
	c, ok := g.find(o)
	switch {
	case !ok:
		return git.OID{}, errkind.NotFound
	case n == 0:
		return o, nil
	case n > len(g.parents(c)):
		return git.OID{}, errkind.NotFound
	}
	return g.oid(g.parents(c)[n-1]), nil
}

// peelTo follows tags to what they name and, for a tree, commits to theirs.
func (g *Graph) peelTo(o git.OID, what string) (git.OID, error) {
	target, kind, err := g.store.Peel(o)
	if err != nil {
		return git.OID{}, err
	}
	switch {
	case what == "" || what == kind.String():
		return target, nil
	case what == "object", what == "tag" && o != target:
		return o, nil
	case what == "tree" && kind == git.Commit:
		if tree, ok := g.Tree(target); ok {
			return tree, nil
		}
	}
	return git.OID{}, fmt.Errorf("%s is a %s: %w", target, kind, errkind.NotFound)
}
