package pack

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkInflate decompresses this package's source, whole files and pieces: as inflate does it, which has all of a stream in memory, and as
// the inflater, which reads it bit by bit.
func BenchmarkInflate(b *testing.B) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		b.Fatal(err)
	}
	var source []byte
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		source = append(source, data...)
	}
	for _, bm := range []struct {
		name string
		size int
	}{{"100B", 100}, {"600B", 600}, {"2KB", 2 << 10}, {"10KB", 10 << 10}, {"60KB", 60 << 10}} {
		var packed [][]byte
		for at := 0; at+bm.size <= len(source); at += bm.size {
			packed = append(packed, deflate(nil, source[at:at+bm.size]))
		}
		dst := make([]byte, bm.size)
		run := func(name string, inflate func(src []byte) error) {
			b.Run(name+"/"+bm.name, func(b *testing.B) {
				b.SetBytes(int64(len(packed) * bm.size))
				b.ReportAllocs()
				for b.Loop() {
					for _, src := range packed {
						if err := inflate(src); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
		run("buffer", func(src []byte) error {
			_, err := inflate(dst, src)
			return err
		})
		r := new(bytes.Reader)
		run("stream", func(src []byte) error {
			r.Reset(src)
			f := getInflater(r)
			defer putInflater(f)
			return f.fill(dst)
		})
	}
}
