package odb

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// maxPathBytes bounds a path that is written: PATH_MAX, beyond which nobody could check the file out. It bounds the depth
// of trees as well.
const maxPathBytes = 4096

// Change is one file to write into a tree or, with Delete, to take out of it.
type Change struct {
	Path string // slash-separated, relative, checked: no "", ".", "..", ".git" part
	// Mode is a file's, an executable's, a symbolic link's or a gitlink's. 0 is a file, executable if it is so already.
	Mode   git.Mode
	Data   []byte
	OID    git.OID // instead of Data: an object the store has; of a gitlink, the commit of the other repository
	Delete bool
}

// change is a Change on its way down the trees.
type change struct {
	*Change
	rest string  // of the path, from the tree at hand on
	oid  git.OID // of what is written
}

// Edit writes the trees (and blobs) that base becomes by the changes. base may be zero: the empty tree. Directories are
// made where a path needs them and go when nothing is left in them. Deleting what is not there wraps errkind.NotFound;
// putting a file in the place of a directory, or below a file, wraps errkind.Conflict unless the same changes delete what
// is in the way.
func (w *Writer) Edit(base git.OID, changes []Change) (tree git.OID, err error) {
	list := make([]change, len(changes))
	for i := range changes {
		c := change{Change: &changes[i], rest: changes[i].Path}
		if err := w.prepare(&c); err != nil {
			return git.OID{}, err
		}
		list[i] = c
	}
	// Sorted by component, the changes of a directory are neighbours, and a file comes before what is below its name.
	slices.SortFunc(list, func(a, b change) int { return comparePaths(a.Path, b.Path) })
	for i := range list[:max(0, len(list)-1)] {
		if list[i].Path == list[i+1].Path {
			return git.OID{}, fmt.Errorf("two changes of %q: %w", list[i].Path, errkind.Invalid)
		}
	}
	tree, err = w.editTree(base, list)
	if err == nil && tree.IsZero() {
		return w.Put(git.Tree, nil)
	}
	return tree, err
}

// prepare checks a change and writes its blob.
func (w *Writer) prepare(c *change) (err error) {
	if err := checkPath(c.Path, c.Delete); err != nil {
		return err
	}
	if c.Delete {
		return nil
	}
	if !c.OID.IsZero() && c.Data != nil {
		return fmt.Errorf("write %q: both an object ID and data: %w", c.Path, errkind.Invalid)
	}
	if err := git.CheckEntry(path.Base(c.Path), cmp.Or(c.Mode, git.ModeFile)); err != nil { // a link at .gitmodules
		return fmt.Errorf("write %q: %w", c.Path, err)
	}
	c.oid = c.OID
	switch c.Mode {
	case 0, git.ModeFile, git.ModeExec, git.ModeSymlink:
	case git.ModeGitlink: // names a commit of another repository, which nobody can check here
		if c.OID.IsZero() {
			return fmt.Errorf("write %q: a gitlink needs a commit's ID: %w", c.Path, errkind.Invalid)
		}
		return nil
	default:
		return fmt.Errorf("write %q: mode %s is not of a file, a symbolic link or a gitlink: %w", c.Path, c.Mode, errkind.Invalid)
	}
	if c.OID.IsZero() {
		c.oid, err = w.Put(git.Blob, c.Data)
		return err
	}
	k, err := w.stat(c.OID)
	if err != nil {
		return fmt.Errorf("write %q: %w", c.Path, err)
	}
	if k != git.Blob {
		return fmt.Errorf("write %q: %s is a %s, not a blob: %w", c.Path, c.OID, k, errkind.Invalid)
	}
	return nil
}

// editTree applies changes, all below one tree, and returns the new tree: zero when nothing is left in it.
func (w *Writer) editTree(base git.OID, changes []change) (git.OID, error) {
	entries, err := w.entries(base)
	if err != nil {
		return git.OID{}, err
	}
	places := map[string]int{} // of the names that change; a tree may have far more entries
	for _, c := range changes {
		places[firstPart(c.rest)] = -1
	}
	for i, e := range entries {
		if _, ok := places[string(e.Name)]; ok {
			places[string(e.Name)] = i
		}
	}
	for len(changes) > 0 {
		name := firstPart(changes[0].rest)
		n := 1
		for n < len(changes) && firstPart(changes[n].rest) == name {
			n++
		}
		at := places[name]
		if at < 0 {
			at = len(entries)
			entries = append(entries, git.Entry{})
		}
		if entries[at], err = w.editEntry(entries[at], changes[:n]); err != nil {
			return git.OID{}, err
		}
		entries[at].Name = []byte(name)
		changes = changes[n:]
	}
	return w.putTree(entries)
}

// editEntry applies to one entry of a tree (of mode 0 when it does not exist) the changes of its name and of what is below
// it. It returns the new entry, of mode 0 when nothing is left.
func (w *Writer) editEntry(was git.Entry, changes []change) (now git.Entry, err error) {
	first := changes[0]
	isDir := was.Mode == git.ModeDir
	if strings.Contains(first.rest, "/") { // all changes are below the name
		if was.Mode != 0 && !isDir {
			return now, below(first, changes)
		}
		return w.editDir(was.OID, changes)
	}
	under := changes[1:]
	switch {
	case first.Delete && was.Mode == 0:
		return now, fmt.Errorf("delete %q: %w", first.Path, errkind.NotFound)
	case first.Delete && isDir:
		return now, fmt.Errorf("delete %q: it is a directory, only files are deleted: %w", first.Path, errkind.Invalid)
	case first.Delete && len(under) == 0:
		return now, nil
	case first.Delete: // a directory comes in the file's place
		return w.editDir(git.OID{}, under)
	}
	if i := slices.IndexFunc(under, func(c change) bool { return !c.Delete }); i >= 0 {
		return now, fmt.Errorf("write both %q and %q: a file and a directory of one name: %w", first.Path, under[i].Path, errkind.Invalid)
	}
	switch {
	case isDir:
		left, err := w.editDir(was.OID, under)
		if err != nil {
			return now, err
		}
		if left.Mode != 0 {
			return now, fmt.Errorf("write %q: it is a directory: %w", first.Path, errkind.Conflict)
		}
	case len(under) > 0:
		return now, fmt.Errorf("delete %q: %w", under[0].Path, errkind.NotFound)
	}
	now = git.Entry{Mode: first.Mode, OID: first.oid}
	if now.Mode == 0 {
		now.Mode = git.ModeFile
		if was.Mode == git.ModeExec {
			now.Mode = git.ModeExec
		}
	}
	return now, nil
}

// below says why changes cannot be made below what is a file.
func below(first change, changes []change) error {
	if i := slices.IndexFunc(changes, func(c change) bool { return c.Delete }); i >= 0 {
		return fmt.Errorf("delete %q: %w", changes[i].Path, errkind.NotFound)
	}
	dir := strings.TrimSuffix(first.Path, first.rest) + firstPart(first.rest)
	return fmt.Errorf("write %q: %q is a file: %w", first.Path, dir, errkind.Conflict)
}

// editDir applies changes below a directory's name to its tree.
func (w *Writer) editDir(base git.OID, changes []change) (now git.Entry, err error) {
	for i := range changes {
		_, changes[i].rest, _ = strings.Cut(changes[i].rest, "/")
	}
	tree, err := w.editTree(base, changes)
	if err != nil || tree.IsZero() {
		return now, err
	}
	return git.Entry{Mode: git.ModeDir, OID: tree}, nil
}

// entries reads a tree; the zero OID is the empty one.
func (w *Writer) entries(tree git.OID) (list []git.Entry, err error) {
	if tree.IsZero() {
		return nil, nil
	}
	obj, err := w.Read(tree)
	if err != nil {
		return nil, err
	}
	if obj.Kind != git.Tree {
		return nil, fmt.Errorf("object %s is a %s, not a tree: %w", tree, obj.Kind, errkind.Invalid)
	}
	for e, err := range git.TreeEntries(obj.Data) {
		if err != nil {
			return nil, fmt.Errorf("read tree %s: %w", tree, err)
		}
		list = append(list, e)
	}
	return list, nil
}

// putTree writes a tree of entries in any order; those of mode 0 are gone.
func (w *Writer) putTree(entries []git.Entry) (git.OID, error) {
	entries = slices.DeleteFunc(entries, func(e git.Entry) bool { return e.Mode == 0 })
	if len(entries) == 0 {
		return git.OID{}, nil
	}
	slices.SortFunc(entries, func(a, b git.Entry) int { return git.CompareEntries(a.Name, a.Mode, b.Name, b.Mode) })
	size := 0
	for _, e := range entries {
		size += len("100644 ") + len(e.Name) + 1 + git.OIDSize
	}
	data := make([]byte, 0, size)
	for _, e := range entries {
		data = git.AppendEntry(data, e)
	}
	return w.Put(git.Tree, data)
}

// checkPath judges a path from outside. What is only deleted may have any name that a tree can hold.
func checkPath(p string, deleted bool) error {
	bad := func(why string) error {
		return fmt.Errorf("path %q %s: %w", p[:min(len(p), 200)], why, errkind.Invalid)
	}
	switch {
	case p == "":
		return bad("is empty")
	case len(p) > maxPathBytes:
		return bad(fmt.Sprintf("is longer than %d bytes", maxPathBytes))
	case strings.IndexByte(p, 0) >= 0:
		return bad("contains a NUL byte")
	case !deleted && strings.IndexByte(p, '\\') >= 0:
		return bad("contains a backslash")
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" {
			return bad("has an empty part")
		}
		if deleted {
			continue
		}
		// The same rule judges the trees that are pushed.
		if err := git.CheckName(part); err != nil {
			return bad(fmt.Sprintf("has the part %q (%v)", part, err))
		}
	}
	return nil
}

func firstPart(p string) string {
	name, _, _ := strings.Cut(p, "/")
	return name
}

// comparePaths orders paths component by component: "a", "a/b", "a.c".
func comparePaths(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	a, b = a[n:], b[n:]
	switch {
	case a == "" || b == "":
		return cmp.Compare(len(a), len(b))
	case a[0] == '/':
		return -1
	case b[0] == '/':
		return 1
	}
	return bytes.Compare([]byte(a[:1]), []byte(b[:1]))
}
