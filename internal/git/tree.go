package git

import (
	"bytes"
	"fmt"
	"iter"
	"strconv"

	"github.com/skep-dev/skep/internal/errkind"
)

// Mode is a tree entry's mode, as git writes it in octal.
type Mode uint32

// The modes that git writes.
const (
	ModeDir     Mode = 0o040000
	ModeFile    Mode = 0o100644
	ModeGroup   Mode = 0o100664 // written by very old gits; still legal
	ModeExec    Mode = 0o100755
	ModeSymlink Mode = 0o120000
	ModeGitlink Mode = 0o160000 // a commit of another repository: a submodule
)

func (m Mode) String() string { return fmt.Sprintf("%06o", uint32(m)) }

// Kind returns the kind of object that an entry of this mode names.
func (m Mode) Kind() Kind {
	switch m {
	case ModeDir:
		return Tree
	case ModeGitlink:
		return Commit
	default:
		return Blob
	}
}

// Known reports whether m is one of the modes that git writes.
func (m Mode) Known() bool {
	switch m {
	case ModeDir, ModeFile, ModeGroup, ModeExec, ModeSymlink, ModeGitlink:
		return true
	}
	return false
}

// Entry is one entry of a tree. Name is bytes, part of the tree's data: copy it to keep it.
type Entry struct {
	Mode Mode
	Name []byte
	OID  OID
}

// TreeEntries reads a tree's content in order. It stops at the first malformed entry, with an error.
func TreeEntries(data []byte) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for len(data) > 0 {
			e, n, err := NextEntry(data)
			if !yield(e, err) || err != nil {
				return
			}
			data = data[n:]
		}
	}
}

// NextEntry reads the first entry of a tree's content, and says how many bytes it has.
func NextEntry(data []byte) (e Entry, n int, err error) {
	sp := bytes.IndexByte(data[:min(len(data), 8)], ' ')
	if sp < 1 {
		return e, 0, fmt.Errorf("tree entry has no mode: %w", errkind.Invalid)
	}
	for _, c := range data[:sp] {
		if c < '0' || c > '7' {
			return e, 0, fmt.Errorf("tree entry mode %q is not octal: %w", clip(data[:sp]), errkind.Invalid)
		}
		e.Mode = e.Mode<<3 | Mode(c-'0')
	}
	rest := data[sp+1:]
	end := bytes.IndexByte(rest, 0)
	if end < 0 || len(rest) < end+1+OIDSize {
		return e, 0, fmt.Errorf("tree entry is cut short: %w", errkind.Invalid)
	}
	e.Name = rest[:end:end]
	e.OID = OID(rest[end+1 : end+1+OIDSize])
	return e, sp + 1 + end + 1 + OIDSize, nil
}

// AppendEntry appends an entry in the form that is hashed. Entries must come in the order of CompareEntries.
func AppendEntry(b []byte, e Entry) []byte {
	b = strconv.AppendUint(b, uint64(e.Mode), 8)
	b = append(b, ' ')
	b = append(b, e.Name...)
	b = append(b, 0)
	return append(b, e.OID[:]...)
}

// CompareEntries orders entries as trees hold them: by name, where a directory's name counts as if it ended with '/'.
func CompareEntries(aName []byte, aMode Mode, bName []byte, bMode Mode) int {
	n := min(len(aName), len(bName))
	if c := bytes.Compare(aName[:n], bName[:n]); c != 0 {
		return c
	}
	return int(endByte(aName, aMode, n)) - int(endByte(bName, bMode, n))
}

func endByte(name []byte, m Mode, at int) byte {
	switch {
	case at < len(name):
		return name[at]
	case m == ModeDir:
		return '/'
	}
	return 0
}
