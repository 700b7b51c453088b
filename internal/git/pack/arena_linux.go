package pack

import (
	"errors"
	"os"
	"syscall"
)

// reserveBlocks makes a new file size bytes long, all of them allocated.
func reserveBlocks(f *os.File, size int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS): // NFS before 4.2, some FUSE
			return writeZeros(f, size)
		}
		return err
	}
}
