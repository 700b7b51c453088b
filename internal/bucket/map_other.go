//go:build !unix

package bucket

import (
	"fmt"
	"io"
	"os"
)

func contents(f *os.File, size int64) ([]byte, func() error, error) {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return b, nil, nil
}
