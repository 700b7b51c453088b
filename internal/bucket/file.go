package bucket

import (
	"os"
	"sync"
)

// File is an open file of a bucket. It is safe for concurrent use, except Close.
type File struct {
	f    *os.File
	size int64

	mu    sync.Mutex
	bytes []byte // guarded by mu: the result of Bytes
	unmap func() error
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
	f.bytes, f.unmap, err = contents(f.f, f.size)
	return f.bytes, err
}

// Close closes the file. What Bytes returned is invalid after it.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unmap != nil {
		if err := f.unmap(); err != nil {
			return err
		}
		f.unmap, f.bytes = nil, nil
	}
	return f.f.Close()
}
