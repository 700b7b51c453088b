package git

import (
	"slices"
	"sort"
	"strings"
)

// Ref is one reference and what it names.
type Ref struct {
	Name   RefName
	OID    OID
	Peeled OID // what an annotated tag leads to in the end; zero for everything else
}

// Refs is one immutable state of a repository's references: sorted by name, HEAD apart. The zero Refs is empty.
type Refs struct {
	// Head is the branch that HEAD names. It need not exist: HEAD is then unborn.
	Head     RefName
	list     []Ref
	detached OID                 // what HEAD names when it names no branch
	symbolic map[RefName]RefName // what other symbolic references name
}

// NewRefs makes a state from references sorted by name. It keeps list, which the caller gives up.
func NewRefs(head RefName, list []Ref) *Refs {
	if !slices.IsSortedFunc(list, func(a, b Ref) int { return strings.Compare(string(a.Name), string(b.Name)) }) {
		panic("bug: references are not sorted")
	}
	return &Refs{Head: head, list: list}
}

// List returns all references in order of name. The caller does not change it.
func (r *Refs) List() []Ref { return r.list }

// Len returns how many references there are, HEAD not counted.
func (r *Refs) Len() int { return len(r.list) }

// Get finds one reference.
func (r *Refs) Get(name RefName) (Ref, bool) {
	i, ok := r.search(name)
	if !ok {
		return Ref{}, false
	}
	return r.list[i], true
}

// HeadRef returns the reference that HEAD names, unless HEAD is unborn. One without a name is a detached HEAD.
func (r *Refs) HeadRef() (Ref, bool) {
	if !r.detached.IsZero() {
		return Ref{OID: r.detached}, true
	}
	return r.Get(r.Head)
}

// Target returns what a symbolic reference other than HEAD names, or nothing.
func (r *Refs) Target(name RefName) RefName { return r.symbolic[name] }

// Prefix returns the references whose names start with p, in order. The caller does not change the slice.
func (r *Refs) Prefix(p string) []Ref {
	from := sort.Search(len(r.list), func(i int) bool { return string(r.list[i].Name) >= p })
	n := sort.Search(len(r.list)-from, func(i int) bool { return !strings.HasPrefix(string(r.list[from+i].Name), p) })
	return r.list[from : from+n]
}

// Blocker returns an existing reference that name cannot stand beside, because one would be a directory of the other:
// refs/heads/a and refs/heads/a/b.
func (r *Refs) Blocker(name RefName) (RefName, bool) {
	if below := r.Prefix(string(name) + "/"); len(below) > 0 {
		return below[0].Name, true
	}
	for i := strings.LastIndexByte(string(name), '/'); i > 0; i = strings.LastIndexByte(string(name[:i]), '/') {
		if _, ok := r.search(name[:i]); ok {
			return name[:i], true
		}
	}
	return "", false
}

// With returns a new state in which the given references are set, or removed where their OID is zero.
func (r *Refs) With(changes []Ref) *Refs {
	changes = slices.Clone(changes)
	slices.SortFunc(changes, func(a, b Ref) int { return strings.Compare(string(a.Name), string(b.Name)) })
	out := make([]Ref, 0, len(r.list)+len(changes))
	rest := r.list
	for _, c := range changes {
		i, found := slices.BinarySearchFunc(rest, c.Name, func(a Ref, n RefName) int { return strings.Compare(string(a.Name), string(n)) })
		out = append(out, rest[:i]...)
		if found {
			i++
		}
		if !c.OID.IsZero() {
			out = append(out, c)
		}
		rest = rest[i:]
	}
	next := *r
	next.list = append(out, rest...)
	return &next
}

// WithHead returns a new state whose HEAD names another branch.
func (r *Refs) WithHead(head RefName) *Refs {
	next := *r
	next.Head, next.detached = head, OID{}
	return &next
}

// WithDetachedHead returns a new state whose HEAD names an object and no branch.
func (r *Refs) WithDetachedHead(o OID) *Refs {
	next := *r
	next.Head, next.detached = "", o
	return &next
}

// WithSymbolic returns a new state in which these of the references name others. It keeps the map, which the caller gives up.
func (r *Refs) WithSymbolic(symbolic map[RefName]RefName) *Refs {
	next := *r
	next.symbolic = symbolic
	return &next
}

func (r *Refs) search(name RefName) (int, bool) {
	i := sort.Search(len(r.list), func(i int) bool { return r.list[i].Name >= name })
	return i, i < len(r.list) && r.list[i].Name == name
}

// RefUpdate asks that a reference move from one value to another. A zero Old means that it must not exist yet, a zero New
// deletes it.
type RefUpdate struct {
	Name     RefName
	Old, New OID
}
