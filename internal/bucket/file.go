package bucket

import (
	"os"
	"sync"

	"github.com/skep-dev/skep/internal/mapped"
)

// File is an open file of a bucket. It is safe for concurrent use, except Close.
type File struct {
	f    *os.File
	size int64

	mu    sync.Mutex
	bytes []byte // guarded by mu: the result of Bytes
}

// Size is the file's length.
func (f *File) Size() int64 { return f.size }

// ReadAt reads as io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// Bytes returns the whole content: mapped memory where the system has it, so that only what is touched is read and the
// kernel may take it back; else a copy. It is valid until Close, and nobody may write to it.
func (f *File) Bytes() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bytes != nil || f.size == 0 {
		return f.bytes, nil
	}
	var err error
	f.bytes, err = mapped.File(f.f, f.size, false)
	return f.bytes, err
}

// Close closes the file. What Bytes returned is invalid after it.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bytes != nil {
		if err := mapped.Release(f.bytes); err != nil {
			return err
		}
		f.bytes = nil
	}
	return f.f.Close()
}
