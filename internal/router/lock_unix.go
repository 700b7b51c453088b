//go:build unix

package router

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/skep-dev/skep/internal/errkind"
)

// lockFile takes a lock that ends with the process, however that ends.
func lockFile(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("another process is using it: %w", errkind.Unavailable)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}
