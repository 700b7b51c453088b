package pack

import (
	"os"
	"syscall"
	"testing"
)

// Blocks that are reserved are there: no later write to the file needs room.
func TestReserveBlocks(t *testing.T) {
	t.Parallel()
	for name, reserve := range map[string]func(*os.File, int64) error{"as the system can": reserveBlocks, "zeros": writeZeros} {
		f, err := unnamedFile(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		const size = 1<<20 + 1234
		if err := reserve(f, size); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		info, err := f.Stat()
		if err != nil || info.Size() != size {
			t.Errorf("%s: file has %d bytes, %v, want %d", name, info.Size(), err, size)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Blocks*512 < size {
			t.Errorf("%s: file has %d blocks of 512 bytes, which are less than %d bytes", name, st.Blocks, size)
		}
	}
}
