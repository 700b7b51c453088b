//go:build unix

package mapped

import (
	"fmt"
	"math"
	"os"
	"syscall"
)

// Real says that File does not take memory for all of a file, and that what is written to it reaches the file.
const Real = true

// File returns the first size bytes of a file, more than none. They stay valid when the file is closed, until Release.
// Nobody may write to them unless writable says so.
func File(f *os.File, size int64, writable bool) ([]byte, error) {
	if size > math.MaxInt {
		return nil, fmt.Errorf("map %s: %d bytes do not fit the address space", f.Name(), size)
	}
	prot := syscall.PROT_READ
	if writable {
		prot |= syscall.PROT_WRITE
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(size), prot, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of %s: %w", size, f.Name(), err)
	}
	return b, nil
}

// Release gives back what File returned.
func Release(b []byte) error { return syscall.Munmap(b) }
