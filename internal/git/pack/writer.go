package pack

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the pack format's own checksum, over bytes that were checked when they came in
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

const packVersion = 2

// Writer writes a packfile of a known number of objects to a stream: header, entries, trailer. After an error every call
// returns it. A Writer that is not closed is just dropped.
type Writer struct {
	w      io.Writer
	sum    hash.Hash
	buf    *[ioBufferSize]byte // from the pool; nil after Close
	n      int                 // how much of buf is filled
	sent   int64               // what left buf
	left   uint32              // objects to come
	err    error
	header [maxEntryHeader]byte
}

// NewWriter writes the header.
func NewWriter(w io.Writer, objects uint32) (*Writer, error) {
	pw := &Writer{w: w, sum: sha1.New(), buf: getBuffer(), left: objects} //nolint:gosec // see the import
	head := append(pw.header[:0], "PACK"...)
	head = binary.BigEndian.AppendUint32(head, packVersion)
	head = binary.BigEndian.AppendUint32(head, objects)
	_, err := pw.write(head)
	return pw, err
}

// Offset is where the next entry starts.
func (w *Writer) Offset() int64 { return w.sent + int64(w.n) }

// Object writes a whole object, deflating it.
func (w *Writer) Object(o git.Object) error {
	return w.Stream(o.Kind, int64(len(o.Data)), bytes.NewReader(o.Data))
}

// Stream writes a whole object of a known size from a reader, deflating it. The reader must end there.
func (w *Writer) Stream(k git.Kind, size int64, r io.Reader) error {
	if err := w.start(1); err != nil {
		return err
	}
	if !k.Valid() || size < 0 {
		return w.fail(fmt.Errorf("write object of %s with %d bytes: %w", k, size, errkind.Invalid))
	}
	if _, err := w.write(appendEntryHeader(w.header[:0], entryHeader{kind: k, size: size})); err != nil {
		return err
	}
	z := getDeflater(writerFunc(w.write))
	defer putDeflater(z)
	// One byte more than the size, to see that there is none.
	n, err := copyPooled(z, io.LimitReader(r, size+1))
	if err == nil && n != size {
		err = fmt.Errorf("write object: %d bytes were said, %d or more came: %w", size, n, errkind.Invalid)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		return w.fail(err)
	}
	return nil
}

// Entry writes an entry that AppendEntry has made.
func (w *Writer) Entry(raw []byte) error {
	if err := w.start(1); err != nil {
		return err
	}
	_, err := w.write(raw)
	return err
}

// AppendEntry appends a whole object's entry to b, deflating it quickly: what can be done ahead, on another core.
func AppendEntry(b []byte, o git.Object) ([]byte, error) {
	if !o.Kind.Valid() {
		return nil, fmt.Errorf("make pack entry of %s: %w", o.Kind, errkind.Invalid)
	}
	return deflate(appendEntryHeader(b, entryHeader{kind: o.Kind, size: int64(len(o.Data))}), o.Data), nil
}

// Copy writes an entry of another pack with its compressed bytes as they are: whole objects, or a delta whose base is
// said by base: the offset at which it was written to this pack (BaseOffset) or its ID (BaseOID).
func (w *Writer) Copy(p *Pack, at Pos, base Base) error {
	if err := w.start(1); err != nil {
		return err
	}
	offset, length := p.Extent(at)
	if _, delta := p.Base(at); !delta {
		return w.copy(p, offset, length)
	}
	tmp := getBuffer()
	defer putBuffer(tmp)
	part := tmp[:min(length, int64(len(tmp)))] // nearly always the whole entry
	if err := readFullAt(p.data, part, offset); err != nil {
		return w.fail(fmt.Errorf("read pack %s at offset %d: %w", p.Checksum(), offset, err))
	}
	h, err := parseEntryHeader(part)
	if err != nil {
		return w.fail(fmt.Errorf("copy object %s: %w", p.OID(at), err))
	}
	rest := part[h.n:]
	switch {
	case base.Offset > 0:
		h.kind, h.baseDistance = ofsDelta, w.Offset()-base.Offset
		if h.baseDistance <= 0 {
			panic("bug: delta copied before its base")
		}
	case base.OID.IsZero():
		panic("bug: delta copied without its base")
	default:
		h.kind, h.baseOID = refDelta, base.OID
	}
	if _, err := w.write(appendEntryHeader(w.header[:0], h)); err != nil {
		return err
	}
	if _, err := w.write(rest); err != nil {
		return err
	}
	return w.copy(p, offset+int64(len(part)), length-int64(len(part)))
}

// Base says how a copied delta names its base. The zero Base is for entries that are no deltas.
type Base struct {
	Offset int64   // > 0: an ofs-delta to this earlier offset of the pack being written
	OID    git.OID // otherwise a ref-delta to this object
}

// CopyRange writes the entries [from, to) of another pack as they lie, headers included, at the speed of copying and
// hashing. It is for runs whose headers stay true: an ofs-delta among them must have its base as far before it as in p,
// that is in the run, or in what was written with the same shift (the offset here less the offset in p); a ref-delta's base
// must be in the pack being written, or the receiver must have it. Pack.Run finds such runs.
func (w *Writer) CopyRange(p *Pack, from, to Pos) error {
	if from >= to {
		return w.err
	}
	if err := w.start(uint32(to - from)); err != nil {
		return err
	}
	start := p.offset(from)
	return w.copy(p, start, p.end(to-1)-start)
}

// Run returns the end of the longest run from at, not beyond to, that CopyRange may write right after the entries [since,
// at) were written in the same way: it stops at the first ofs-delta whose base lies before since. Ref-deltas do not stop
// it: whether their bases are sent is the caller's concern.
func (p *Pack) Run(since, at, to Pos) Pos {
	for ; at < to; at++ {
		if base := p.tab.baseOf(at); base < since && !p.tab.isRefDelta(at) {
			break
		}
	}
	return at
}

// Close writes the trailer and returns it: the pack's name. It fails if there were fewer objects than the header says.
func (w *Writer) Close() (git.OID, error) {
	if w.err == nil && w.left != 0 {
		w.err = fmt.Errorf("write pack: %d objects are missing", w.left)
	}
	w.flush()
	var name git.OID
	if w.err == nil {
		w.sum.Sum(name[:0])
		_, w.err = w.w.Write(name[:])
	}
	if w.buf != nil {
		putBuffer(w.buf)
		w.buf = nil
	}
	if w.err != nil {
		return git.OID{}, w.err
	}
	w.err = errWriterClosed
	return name, nil
}

var errWriterClosed = errors.New("pack writer is closed")

// start counts the objects that are about to be written.
func (w *Writer) start(objects uint32) error {
	if w.err != nil {
		return w.err
	}
	if objects > w.left {
		return w.fail(fmt.Errorf("write pack: %d objects more than its header says", objects-w.left))
	}
	w.left -= objects
	return nil
}

func (w *Writer) fail(err error) error {
	if w.err == nil {
		w.err = err
	}
	return w.err
}

// write puts b behind what is buffered.
func (w *Writer) write(b []byte) (int, error) {
	done := 0
	for w.err == nil && done < len(b) {
		if w.n == len(w.buf) {
			w.flush()
			continue
		}
		n := copy(w.buf[w.n:], b[done:])
		w.n += n
		done += n
	}
	return done, w.err
}

// copy reads a part of a pack right into the buffer.
func (w *Writer) copy(p *Pack, offset, length int64) error {
	for w.err == nil && length > 0 {
		// A read of a few bytes into the buffer's rest costs as much as one of a whole buffer.
		if free := int64(len(w.buf) - w.n); free < length && free < ioBufferSize/2 {
			w.flush()
			continue
		}
		part := w.buf[w.n : w.n+int(min(length, int64(len(w.buf)-w.n)))]
		if err := readFullAt(p.data, part, offset); err != nil {
			return w.fail(fmt.Errorf("read pack %s at offset %d: %w", p.Checksum(), offset, err))
		}
		w.n += len(part)
		offset += int64(len(part))
		length -= int64(len(part))
	}
	return w.err
}

// flush hashes and sends what is buffered.
func (w *Writer) flush() {
	if w.err != nil || w.n == 0 {
		return
	}
	b := w.buf[:w.n]
	w.sum.Write(b)
	w.n = 0
	w.sent += int64(len(b))
	if _, err := w.w.Write(b); err != nil {
		w.err = err
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
