//go:build !unix

package pack

import (
	"io"
	"os"
)

// canMap says that mapFile does not take memory for all of a file.
const canMap = false

// mapFile returns a copy of the first size bytes of a file. Nothing that is written to it reaches the file.
func mapFile(f *os.File, size int64, _ bool) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(f, 0, size))
}

func unmapFile([]byte) error { return nil }
