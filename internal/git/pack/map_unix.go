//go:build unix

package pack

import (
	"fmt"
	"math"
	"os"
	"syscall"
)

// canMap says that mapFile does not take memory for all of a file.
const canMap = true

// mapFile returns the first size bytes of a file, which stay valid when it is closed, until unmapFile.
func mapFile(f *os.File, size int64, writable bool) ([]byte, error) {
	if size > math.MaxInt {
		return nil, fmt.Errorf("%d bytes do not fit the address space", size)
	}
	prot := syscall.PROT_READ
	if writable {
		prot |= syscall.PROT_WRITE
	}
	return syscall.Mmap(int(f.Fd()), 0, int(size), prot, syscall.MAP_SHARED)
}

func unmapFile(b []byte) error { return syscall.Munmap(b) }
