// Package diff compares trees and blobs.
//
//	changes := collect(diff.Trees(ctx, store, oldTree, newTree))
//	changes, err = diff.Renames(ctx, store, changes, 50)
//	for _, c := range changes {
//		stat, err := diff.Patch(w, store, c, 3)
//	}
//
// What it prints is what git diff prints with --full-index, and git apply takes it. Which of several equally short edit
// scripts is found may differ from git's choice, as between git's own algorithms.
package diff

import (
	"fmt"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// Limits. What is over them is answered in a lesser way (as binary, without renames), or refused with errkind.TooLarge.
const (
	// maxTextBytes is the largest blob that is compared line by line; a larger one counts as binary.
	maxTextBytes = 8 << 20
	// maxTextLines does the same for lines: each takes about 50 bytes while two texts are compared.
	maxTextLines = 1 << 19
	// maxDepth bounds nested trees, as git's core.maxTreeDepth does.
	maxDepth = 2048
	// binaryPrefix is how far a NUL is looked for, as in git.
	binaryPrefix = 8000
)

// Side is one side of a change. A zero Mode means that the path is not there on that side.
type Side struct {
	Mode git.Mode
	OID  git.OID
	Path string
}

// Change is a path that differs between two trees.
type Change struct {
	Old, New Side
	// Similarity is of a rename, in percent; 0 otherwise.
	Similarity int
}

// Renamed reports whether the change moves content from one path to another.
func (c Change) Renamed() bool {
	return c.Old.Mode != 0 && c.New.Mode != 0 && c.Old.Path != c.New.Path
}

// path is where a change is listed.
func (c Change) path() string {
	if c.New.Mode == 0 {
		return c.Old.Path
	}
	return c.New.Path
}

// objects is what this package needs of an odb.Store.
type objects interface {
	Read(o git.OID) (git.Object, error)
	Stat(o git.OID) (git.Kind, int64, error)
}

// readTree reads a tree's content; the zero OID is the empty tree.
func readTree(s objects, o git.OID) ([]byte, error) {
	if o.IsZero() {
		return nil, nil
	}
	obj, err := s.Read(o)
	if err != nil {
		return nil, fmt.Errorf("read tree %s: %w", o, err)
	}
	if obj.Kind != git.Tree {
		return nil, fmt.Errorf("read tree %s: it is a %s: %w", o, obj.Kind, errkind.Invalid)
	}
	return obj.Data, nil
}

// readText reads a side's content if lines can be made of it. ok is false if it is binary or too large.
func readText(s objects, side Side) (data []byte, ok bool, err error) {
	if side.Mode == 0 {
		return nil, true, nil
	}
	if side.Mode == git.ModeGitlink {
		return fmt.Appendf(nil, "Subproject commit %s\n", side.OID), true, nil
	}
	kind, size, err := s.Stat(side.OID)
	if err == nil && kind != git.Blob {
		err = fmt.Errorf("it is a %s: %w", kind, errkind.Invalid)
	}
	if err != nil {
		return nil, false, fmt.Errorf("read %s of %s: %w", side.OID, quote(side.Path), err)
	}
	if size > maxTextBytes {
		return nil, false, nil
	}
	obj, err := s.Read(side.OID)
	if err != nil {
		return nil, false, fmt.Errorf("read %s of %s: %w", side.OID, quote(side.Path), err)
	}
	return obj.Data, !isBinary(obj.Data), nil
}
