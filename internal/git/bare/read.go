package bare

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/skep-dev/skep/internal/errkind"
)

const (
	// maxSmallFile bounds files of one line: HEAD, a reference, .git and commondir. A name has 4 KiB at most.
	maxSmallFile = 64 << 10
	// maxListFile bounds files of a line for each of some things: alternates, shallow.
	maxListFile = 64 << 20
)

// openRegular opens a file that is one. It does not wait for who writes to a pipe, and touches no device.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file: %w", path, errkind.Invalid)
	}
	if err != nil {
		_ = f.Close() // only read from
		return nil, err
	}
	return f, nil
}

// readFile reads a regular file that has most bytes at most.
func readFile(path string, most int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", path, most, errkind.TooLarge)
	}
	return b, nil
}
