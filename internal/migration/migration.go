// Package migration reads the numbered steps of a database's schema.
//
// A schema is a folder of files: 0001_first.sql, 0002_second.sql and so on. A database remembers how many of them it has
// had; Pending gives the rest. Who applies them does so one at a time, each in one transaction with the new number, so that a
// crash leaves whole steps only.
package migration

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// Step is one migration.
type Step struct {
	Number int // from 1
	Name   string
	SQL    string
}

// Read reads NNNN_what.sql files. Their numbers count from 1 without a gap: a step that is missing from the program is a
// mistake to find before it meets data.
func Read(fsys fs.FS) ([]Step, error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, err
	}
	out := make([]Step, 0, len(names))
	for i, name := range names { // Glob sorts
		number, _, _ := strings.Cut(name, "_")
		if n, err := strconv.Atoi(number); err != nil || n != i+1 {
			return nil, fmt.Errorf("migration %s is not number %d", name, i+1)
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		out = append(out, Step{i + 1, name, string(text)})
	}
	return out, nil
}

// Pending returns the steps that a database which has had version of them lacks. One that has had more than there are was
// made by a newer program, whose rules this one does not know: errkind.Unsupported.
func Pending(steps []Step, version int) ([]Step, error) {
	if version > len(steps) {
		return nil, fmt.Errorf("its schema %d is newer than this program, which knows %d: %w", version, len(steps), errkind.Unsupported)
	}
	return steps[version:], nil
}
