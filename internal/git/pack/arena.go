package pack

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"github.com/skep-dev/skep/internal/mapped"
)

// arenaAfter is how many elements an array may have on the heap. All arrays of a receive together then have less than
// 50 MiB there, and a push of fewer objects, as nearly all are, touches no file for them.
const arenaAfter = 128 << 10

// arena gives a receive the arrays that grow with the number of objects. Small ones are on the heap. Large ones are files
// that are mapped: the kernel may write their pages back and use the memory for something else, so that they do not count
// against a bound on memory.
//
// The files have no names, so none is left behind whatever happens. Their blocks are allocated before they are mapped: a
// full disk is then an error, while a page of a sparse file that finds no room when it is first written to ends the process
// (SIGBUS). So does an array that is used after release or close, and a disk that fails to read a page back.
//
// The elements must have no pointers: the garbage collector does not look into files. Safe for concurrent use.
type arena struct {
	dir     string
	after   int                         // elements on the heap at most
	reserve func(*os.File, int64) error // reserveBlocks, except in tests

	mu   sync.Mutex
	maps map[unsafe.Pointer][]byte // guarded by mu; mapped files, by their first byte
}

func newArena(dir string, after int, reserve func(*os.File, int64) error) *arena {
	return &arena{dir: dir, after: after, reserve: reserve, maps: map[unsafe.Pointer][]byte{}}
}

// newArray returns n elements, all zero.
func newArray[T any](a *arena, n int) ([]T, error) { return newPart[T](a, n, 1) }

// newPart is newArray for one of so many parts of an array: it is the whole that counts for where it lies.
func newPart[T any](a *arena, n, parts int) ([]T, error) {
	if !mapped.Real || n <= a.after/parts {
		return make([]T, n), nil
	}
	var zero T
	b, err := a.anonymous(int64(n) * int64(unsafe.Sizeof(zero)))
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n), nil
}

// grow makes room for more elements behind those that s has. It may move them.
func grow[T any](a *arena, s *[]T, more int) error {
	old := *s
	if cap(old)-len(old) >= more {
		return nil
	}
	s2, err := newArray[T](a, len(old)+more)
	if err != nil {
		return err
	}
	*s = s2[:copy(s2, old)]
	release(a, old)
	return nil
}

// push appends an element. It doubles what there is when there is no room.
func push[T any](a *arena, s *[]T, v T) error {
	if len(*s) == cap(*s) {
		if err := grow(a, s, max(len(*s), 16)); err != nil {
			return err
		}
	}
	*s = append(*s, v)
	return nil
}

// release gives an array back before close does, if it lies in a file.
func release[T any](a *arena, s []T) {
	at := unsafe.Pointer(unsafe.SliceData(s))
	a.mu.Lock()
	b, ok := a.maps[at]
	delete(a.maps, at)
	a.mu.Unlock()
	if ok {
		if err := mapped.Release(b); err != nil {
			panic(fmt.Sprintf("bug: unmap %d bytes: %v", len(b), err)) // there is no other reason than a wrong address
		}
	}
}

// anonymous maps a new file without a name.
func (a *arena) anonymous(size int64) ([]byte, error) {
	f, err := unnamedFile(a.dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // the mapping keeps it
	if err := a.reserve(f, size); err != nil {
		return nil, fmt.Errorf("reserve %d bytes on disk: %w", size, err)
	}
	return a.keep(f, size, true)
}

// keep maps a file until close.
func (a *arena) keep(f *os.File, size int64, writable bool) ([]byte, error) {
	b, err := mapped.File(f, size, writable)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.maps[unsafe.Pointer(unsafe.SliceData(b))] = b
	return b, nil
}

// close gives back all that was not released.
func (a *arena) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, b := range a.maps {
		errs = append(errs, mapped.Release(b))
	}
	clear(a.maps)
	return errors.Join(errs...)
}

// unnamedFile makes a file for what is too big for memory. It has no name any more: nothing is left behind whatever
// happens.
func unnamedFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "receive-*.scratch")
	if err != nil {
		return nil, fmt.Errorf("make a scratch file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("make a scratch file: %w", err)
	}
	return f, nil
}

// writeZeros allocates a new file's blocks in the way that works everywhere.
func writeZeros(f *os.File, size int64) error {
	zeros := getBuffer()
	defer putBuffer(zeros)
	clear(zeros[:])
	for at := int64(0); at < size; {
		n, err := f.WriteAt(zeros[:min(size-at, int64(len(zeros)))], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}
