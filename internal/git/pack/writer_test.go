package pack_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// wrote checks that git takes a packfile, strictly, and finds the objects in it that there should be.
func wrote(t *testing.T, packfile []byte, want []pack.GitObject) {
	t.Helper()
	g := index(t, packfile, "--strict")
	byID := func(a, b pack.GitObject) int { return a.OID.Compare(b.OID) }
	same := func(a, b pack.GitObject) bool {
		return a.OID == b.OID && a.Kind == b.Kind && bytes.Equal(a.Data, b.Data)
	}
	got := slices.SortedFunc(slices.Values(g.objects), byID)
	if !slices.EqualFunc(got, slices.SortedFunc(slices.Values(want), byID), same) {
		t.Errorf("git finds %d objects, or others than the %d that were written", len(got), len(want))
	}
	if err := g.open(t).Verify(t.Context(), nil); err != nil {
		t.Errorf("Verify() = %v", err)
	}
}

// writing writes a pack of n objects and returns it.
func writing(t *testing.T, n int, write func(*pack.Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pack.NewWriter(&b, uint32(n))
	if err != nil {
		t.Fatal(err)
	}
	if err := write(w); err != nil {
		t.Fatalf("write pack: %v", err)
	}
	if w.Offset() != int64(b.Len()) && w.Offset() < int64(b.Len()) {
		t.Errorf("Offset() = %d, but %d bytes were sent", w.Offset(), b.Len())
	}
	name, err := w.Close()
	if err != nil {
		t.Fatalf("Close() = %v", err)
	}
	if got := git.OID(b.Bytes()[b.Len()-git.OIDSize:]); got != name {
		t.Errorf("Close() = %s, the trailer is %s", name, got)
	}
	return b.Bytes()
}

func sources(t *testing.T) map[string]*gitPack {
	t.Helper()
	src := newOracle(t)
	src.history(60)
	return map[string]*gitPack{
		"offset deltas":    index(t, src.packAll("--delta-base-offset")),
		"reference deltas": index(t, src.packAll()),
	}
}

func TestWriterWritesObjects(t *testing.T) {
	t.Parallel()
	for name, g := range sources(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrote(t, writing(t, len(g.objects), func(w *pack.Writer) error {
				for i, o := range g.objects {
					obj := git.Object{Kind: o.Kind, Data: o.Data}
					var err error
					switch i % 3 {
					case 0:
						err = w.Object(obj)
					case 1:
						err = w.Stream(o.Kind, int64(len(o.Data)), io.NopCloser(bytes.NewReader(o.Data)))
					case 2:
						var raw []byte
						if raw, err = pack.AppendEntry(raw, obj); err == nil {
							err = w.Entry(raw)
						}
					}
					if err != nil {
						return err
					}
				}
				return nil
			}), g.objects)
		})
	}
}

// Entries are copied one by one, and deltas name their bases in either way, whichever way they were stored.
func TestWriterCopiesEntries(t *testing.T) {
	t.Parallel()
	for name, g := range sources(t) {
		for _, by := range []string{"offset", "ID"} {
			t.Run(name+" by "+by, func(t *testing.T) {
				t.Parallel()
				p := g.open(t)
				wrote(t, writing(t, p.Len()+1, func(w *pack.Writer) error {
					// Something in front, so that no offset stays.
					if err := w.Object(git.Object{Kind: git.Blob, Data: []byte("in front")}); err != nil {
						return err
					}
					written := map[pack.Pos]int64{}
					for at := range pack.Pos(p.Len()) {
						written[at] = w.Offset()
						var base pack.Base
						if b, ok := p.Base(at); ok && by == "ID" {
							base.OID = p.OID(b)
						} else if ok {
							base.Offset = written[b]
						}
						if err := w.Copy(p, at, base); err != nil {
							return err
						}
					}
					return nil
				}), append(slices.Clone(g.objects), pack.GitObject{
					OID: git.Hash(git.Blob, []byte("in front")), Kind: git.Blob, Data: []byte("in front"),
				}))
			})
		}
	}
}

// Runs that Run finds are copied as they lie; only what stands between them is written anew.
func TestWriterCopiesRanges(t *testing.T) {
	t.Parallel()
	for name, g := range sources(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := g.open(t)
			n := pack.Pos(p.Len())
			runs := 0
			packfile := writing(t, p.Len(), func(w *pack.Writer) error {
				var since pack.Pos
				for at := pack.Pos(0); at < n; {
					// A cut at every hundredth entry: a whole object instead of what is stored moves all that follow.
					if at%100 == 50 {
						if err := w.Object(git.Object{Kind: p.Kind(at), Data: g.objects[at].Data}); err != nil {
							return err
						}
						at++
						since = at
						continue
					}
					end := p.Run(since, at, min(n, at+50-at%50))
					if end == at { // its base lies before the cut
						base, _ := p.Base(at)
						if err := w.Copy(p, at, pack.Base{OID: p.OID(base)}); err != nil {
							return err
						}
						at++
						since = at
						continue
					}
					runs++
					if err := w.CopyRange(p, at, end); err != nil {
						return err
					}
					at = end
				}
				return nil
			})
			if runs == 0 || runs > p.Len()/2 {
				t.Errorf("%d runs for %d objects", runs, p.Len())
			}
			wrote(t, packfile, g.objects)
		})
	}
}

func TestWriterCopiesWholePacks(t *testing.T) {
	t.Parallel()
	for name, g := range sources(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := g.open(t)
			got := writing(t, p.Len(), func(w *pack.Writer) error { return w.CopyRange(p, 0, pack.Pos(p.Len())) })
			if !bytes.Equal(got, g.data) {
				t.Error("CopyRange of everything does not give the same packfile")
			}
			var b bytes.Buffer
			if n, err := p.WriteTo(&b); err != nil || n != p.Size() || !bytes.Equal(b.Bytes(), g.data) {
				t.Errorf("WriteTo() = %d, %v, or not the same packfile", n, err)
			}
		})
	}
}

func TestWriterWritesNothing(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	got := writing(t, 0, func(*pack.Writer) error { return nil })
	if want := src.PackOnly(""); !bytes.Equal(got, want) {
		t.Errorf("pack of nothing = %x, want %x", got, want)
	}
}

func TestWriterRefusesOtherCountsAndSizes(t *testing.T) {
	t.Parallel()
	blob := git.Object{Kind: git.Blob, Data: []byte("some bytes")}
	newWriter := func(n uint32) *pack.Writer {
		w, err := pack.NewWriter(io.Discard, n)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := newWriter(2)
	if err := w.Object(blob); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err == nil {
		t.Error("Close() with an object missing = nil")
	}
	w = newWriter(1)
	if err := errors.Join(w.Object(blob), w.Object(blob)); err == nil {
		t.Error("one object too many: nil")
	}
	if _, err := w.Close(); err == nil {
		t.Error("Close() after an error = nil")
	}
	for _, size := range []int64{9, 11, 0, -1} {
		w = newWriter(1)
		if err := w.Stream(git.Blob, size, strings.NewReader("some bytes")); errkind.Of(err) != errkind.Invalid {
			t.Errorf("Stream() of 10 bytes as %d = %v, want errkind.Invalid", size, err)
		}
	}
	if err := newWriter(1).Object(git.Object{Kind: 6}); errkind.Of(err) != errkind.Invalid {
		t.Errorf("Object() of kind 6 = %v, want errkind.Invalid", err)
	}
}

// brokenWriter fails after so many bytes.
type brokenWriter int

func (b *brokenWriter) Write(p []byte) (int, error) {
	if int(*b) < len(p) {
		return 0, errBroken
	}
	*b -= brokenWriter(len(p))
	return len(p), nil
}

var errBroken = errors.New("connection is gone")

func TestWriterReturnsTheErrorOfItsStream(t *testing.T) {
	t.Parallel()
	g := sources(t)["offset deltas"]
	p := g.open(t)
	for _, room := range []int{0, 11, 100_000} {
		bw := brokenWriter(room)
		w, err := pack.NewWriter(&bw, uint32(p.Len()))
		if err == nil {
			err = w.CopyRange(p, 0, pack.Pos(p.Len()))
		}
		if err == nil {
			_, err = w.Close()
		}
		if !errors.Is(err, errBroken) {
			t.Errorf("with room for %d bytes: %v, want the stream's error", room, err)
		}
	}
}
