package odb

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// maxWriterBytes bounds what a Writer collects in memory: a commit over REST, whose request body is bounded as well.
// Whoever has more to write pushes a pack.
const maxWriterBytes = 64 << 20

// Writer collects objects made on this side (a commit over REST) and turns them into a quarantine through Receive. It is
// not safe for concurrent use.
type Writer struct {
	store *Store
	index map[git.OID]int // into list
	list  []made
	bytes int64
}

type made struct {
	oid git.OID
	obj git.Object
}

// NewWriter makes a writer of objects that shall join the store.
func (s *Store) NewWriter() *Writer { return &Writer{store: s, index: map[git.OID]int{}} }

// Put takes an object, unless the writer or the store has it, and returns its ID. It keeps data, which the caller does
// not change any more. What the object says is checked by Finish.
func (w *Writer) Put(k git.Kind, data []byte) (git.OID, error) {
	if !k.Valid() {
		return git.OID{}, fmt.Errorf("write an object of %s: %w", k, errkind.Invalid)
	}
	o := git.Hash(k, data)
	if _, ok := w.index[o]; ok || w.store.Has(o) {
		return o, nil
	}
	w.bytes += int64(len(data)) + git.OIDSize
	if w.bytes > maxWriterBytes {
		return git.OID{}, fmt.Errorf("write more than %d bytes of objects at once: %w", maxWriterBytes, errkind.TooLarge)
	}
	w.index[o] = len(w.list)
	w.list = append(w.list, made{oid: o, obj: git.Object{Kind: k, Data: data}})
	return o, nil
}

// Read returns an object of the writer or else of its store.
func (w *Writer) Read(o git.OID) (git.Object, error) {
	if i, ok := w.index[o]; ok {
		return w.list[i].obj, nil
	}
	return w.store.Read(o)
}

// stat returns the kind of an object of the writer or else of its store.
func (w *Writer) stat(o git.OID) (git.Kind, error) {
	if i, ok := w.index[o]; ok {
		return w.list[i].obj.Kind, nil
	}
	k, _, err := w.store.Stat(o)
	return k, err
}

// Finish writes what was put as a pack and hands it to Receive, which checks it like any other. When there was nothing
// new to put, the pack has no objects.
func (w *Writer) Finish(ctx context.Context, opts pack.ReceiveOptions) (*Quarantine, error) {
	// Commits, then trees, then blobs and tags, as git orders its packs: histories read the front of a pack only.
	slices.SortStableFunc(w.list, func(a, b made) int { return int(a.obj.Kind) - int(b.obj.Kind) })
	for i, m := range w.list {
		w.index[m.oid] = i
	}
	r, pipe := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		pipe.CloseWithError(w.write(pipe))
	}()
	q, err := w.store.Receive(ctx, r, opts)
	r.CloseWithError(io.ErrClosedPipe) // lets go of the goroutine when Receive gave up
	<-written
	return q, err
}

func (w *Writer) write(to io.Writer) error {
	pw, err := pack.NewWriter(to, uint32(len(w.list)))
	if err != nil {
		return err
	}
	for _, m := range w.list {
		if err := pw.Object(m.obj); err != nil {
			return err
		}
	}
	_, err = pw.Close()
	return err
}
