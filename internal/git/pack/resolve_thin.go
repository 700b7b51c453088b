package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// complete makes a thin pack whole: it appends the bases that the pack lacks and resolves what waits for them.
//
// What is asked for comes in the order of the pack, and each base's whole family is resolved before the next is asked
// for. So an object that the pack has as a delta on an outside base is not appended besides, as long as its entry
// precedes those of its deltas; git index-pack --fix-thin goes the same way.
func (r *resolver) complete(ctx context.Context) error {
	absent := newBitset(len(r.t.refs)) // those whose base the store lacks
	for k, c := range r.t.refs {
		if r.t.base[c.num] != none || absent.has(int32(k)) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := r.appendBase(ctx, c.base)
		if err != nil {
			return fmt.Errorf("complete the thin pack with %s: %w", c.base, err)
		}
		if b == nil {
			for _, other := range r.t.refsOn(&c.base) {
				absent.set(other)
			}
			continue
		}
		if err := r.run(ctx, r.rc.opts.Workers); err != nil {
			return err
		}
	}
	left := r.rc.deltas - int(r.rc.resolved.Load())
	if left == 0 {
		return nil
	}
	for _, c := range r.t.refs {
		if r.t.base[c.num] == none {
			return fmt.Errorf("pack has %d unresolved deltas: the base %s of the one at offset %d is missing: %w", left, c.base,
				r.t.off[c.num], errkind.Invalid)
		}
	}
	panic("bug: deltas are left, but none waits for a base")
}

// appendBase appends an outside object to the pack and puts it onto the stack. It returns nil when there is none.
func (r *resolver) appendBase(ctx context.Context, o git.OID) (*base, error) {
	if r.rc.opts.Base == nil {
		return nil, nil
	}
	if r.rc.given == nil {
		r.rc.given = newJudge(newLinkSet(r.rc.mem), r.rc.commits)
	}
	obj, ok, err := r.rc.opts.Base(o)
	var c content
	var num int32
	switch {
	case errors.Is(err, errkind.TooLarge) && r.rc.opts.OpenBase != nil:
		num, c, err = r.appendStream(ctx, o)
	case err == nil && !ok:
		return nil, nil
	case err == nil:
		num, err = r.appendObject(o, obj.Kind, int64(len(obj.Data)), bytes.NewReader(obj.Data), io.Discard)
		if err == nil {
			err = r.rc.given.note(num, obj.Kind, obj.Data)
		}
		if len(obj.Data) <= maxHeld {
			c = content{mem: r.bufs.get(len(obj.Data)), size: int64(len(obj.Data))}
			copy(c.mem, obj.Data)
		}
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.newBase(num, nil)
	if b == nil {
		panic("bug: nothing waits for a base that was asked for")
	}
	r.push(b)
	r.put(b, c)
	r.root = int32(r.t.len()) // it is on the stack already
	return b, nil
}

// appendStream is appendBase for an object that is too big for memory.
func (r *resolver) appendStream(ctx context.Context, o git.OID) (num int32, c content, err error) {
	kind, size, src, err := r.rc.opts.OpenBase(ctx, o)
	if err != nil {
		return 0, c, err
	}
	defer func() { _ = src.Close() }()
	if kind != git.Blob {
		return 0, c, fmt.Errorf("%s has %d bytes, the limit is %d: %w", kind, size, maxHeld, errkind.TooLarge)
	}
	c, err = r.fill(size, func(out io.Writer) error {
		num, err = r.appendObject(o, kind, size, src, out)
		return err
	})
	return num, c, err
}

// appendObject writes an object as the pack's last entry. The store is not trusted with what the ID says.
func (r *resolver) appendObject(o git.OID, kind git.Kind, size int64, src io.Reader, besides io.Writer) (int32, error) {
	rc := r.rc
	if size > rc.opts.MaxObjectBytes || rc.t.len() >= int(rc.opts.MaxObjects) {
		return 0, fmt.Errorf("base of %d bytes, object %d of the pack: %w", size, rc.t.len(), errkind.TooLarge)
	}
	if err := rc.spend(size, rc.packBytes); err != nil {
		return 0, err
	}
	out := &entryWriter{rc: rc}
	if _, err := out.Write(appendEntryHeader(nil, entryHeader{kind: kind, size: size})); err != nil {
		return 0, err
	}
	z := getDeflater(out)
	defer putDeflater(z)
	j := rc.given
	j.startHash(kind, size)
	n, err := io.Copy(io.MultiWriter(z, j.hash, besides), src)
	if err != nil {
		return 0, err
	}
	if err := z.Close(); err != nil {
		return 0, err
	}
	got, err := j.endHash()
	if err != nil {
		return 0, err
	}
	if got != o || n != size {
		return 0, fmt.Errorf("store has object %s of %d bytes under that name", got, n)
	}
	rc.appended++
	return rc.t.append(o, kind, uint32(size), out.crc, rc.spill.size)
}

// entryWriter appends an entry to the pack.
type entryWriter struct {
	rc  *receiver
	crc uint32
}

func (e *entryWriter) Write(p []byte) (int, error) {
	if e.rc.spill.size+int64(len(p)) > e.rc.opts.MaxPackBytes {
		return 0, fmt.Errorf("completed pack has more than %d bytes: %w", e.rc.opts.MaxPackBytes, errkind.TooLarge)
	}
	e.crc = crc32.Update(e.crc, crc32.IEEETable, p)
	if err := e.rc.spill.append(p); err != nil {
		return 0, err
	}
	return len(p), nil
}
