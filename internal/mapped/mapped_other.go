//go:build !unix

package mapped

import (
	"fmt"
	"io"
	"os"
)

// Real says that File does not take memory for all of a file, and that what is written to it reaches the file.
const Real = false

// File returns a copy of the first size bytes of a file. Nothing that is written to it reaches the file.
func File(f *os.File, size int64, _ bool) ([]byte, error) {
	b := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), b); err != nil {
		return nil, fmt.Errorf("read %d bytes of %s: %w", size, f.Name(), err)
	}
	return b, nil
}

// Release gives back what File returned.
func Release([]byte) error { return nil }
