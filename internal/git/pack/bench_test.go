package pack_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/skep-dev/skep/internal/git/pack"
)

func benchPack(b *testing.B) (*gitPack, *pack.Pack) {
	b.Helper()
	src := newOracle(b)
	src.history(1000)
	g := index(b, src.packAll("--delta-base-offset"))
	return g, g.open(b)
}

// BenchmarkRead reads every object of a pack in order; bytes are those of the objects.
func BenchmarkRead(b *testing.B) {
	g, p := benchPack(b)
	var size int64
	for _, o := range g.objects {
		size += int64(len(o.Data))
	}
	for _, bm := range []struct {
		name  string
		bases func() pack.BaseCache
	}{
		{"no cache", func() pack.BaseCache { return nil }},
		{"cache", func() pack.BaseCache { return mapCache{} }},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				bases := bm.bases()
				for at := range pack.Pos(p.Len()) {
					o, err := p.Read(at, bases)
					if err != nil {
						b.Fatal(err)
					}
					if bases != nil {
						bases.Put(p, at, o)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*p.Len()), "ns/object")
		})
	}
}

// BenchmarkCopyRange writes whole packs: as one range, entry by entry, and without hashing.
func BenchmarkCopyRange(b *testing.B) {
	g, p := benchPack(b)
	write := func(b *testing.B, entries func(w *pack.Writer) error) {
		b.Helper()
		b.SetBytes(int64(len(g.data)))
		b.ReportAllocs()
		for b.Loop() {
			w, err := pack.NewWriter(io.Discard, uint32(p.Len()))
			if err == nil {
				err = entries(w)
			}
			if err == nil {
				_, err = w.Close()
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("range", func(b *testing.B) {
		write(b, func(w *pack.Writer) error { return w.CopyRange(p, 0, pack.Pos(p.Len())) })
	})
	b.Run("entries", func(b *testing.B) {
		write(b, func(w *pack.Writer) error {
			for at := range pack.Pos(p.Len()) {
				base := pack.Base{}
				if on, ok := p.Base(at); ok {
					base.Offset, _ = p.Extent(on)
				}
				if err := w.Copy(p, at, base); err != nil {
					return err
				}
			}
			return nil
		})
	})
	b.Run("verbatim", func(b *testing.B) {
		b.SetBytes(int64(len(g.data)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.WriteTo(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkFind looks up every object of a pack, in pack order.
func BenchmarkFind(b *testing.B) {
	g, p := benchPack(b)
	b.ReportAllocs()
	for b.Loop() {
		for i := range g.objects {
			if _, ok := p.Find(g.objects[i].OID); !ok {
				b.Fatal("not found")
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(g.objects)), "ns/find")
}

func BenchmarkOpen(b *testing.B) {
	g, _ := benchPack(b)
	table := pack.TableOf(b, g.data, g.objects, 0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pack.Open(bytes.NewReader(g.data), int64(len(g.data)), g.idx, table, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(g.objects)), "ns/object")
}
