package pack

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // a checksum against damage, and the index format's own
	"encoding/binary"
	"hash"
	"io"
	"sync"
)

// sideWriter writes a side file of a pack, an index or a table: numbers and bytes, and the SHA-1 of all of them at the end.
// The first error stays and comes from end.
type sideWriter struct {
	to  io.Writer
	buf *bufio.Writer // to the writer that feeds to and sum
	sum hash.Hash
}

var sideWriters = sync.Pool{New: func() any {
	return &sideWriter{buf: bufio.NewWriterSize(nil, ioBufferSize), sum: sha1.New()} //nolint:gosec // see the import
}}

// withSideWriter has write write a side file.
func withSideWriter(to io.Writer, write func(*sideWriter) error) error {
	w := sideWriters.Get().(*sideWriter) //nolint:errcheck,forcetypeassert // the pool has nothing else
	defer sideWriters.Put(w)
	w.to = to
	w.sum.Reset()
	w.buf.Reset(io.MultiWriter(to, w.sum))
	if err := write(w); err != nil {
		return err
	}
	return w.end()
}

func (w *sideWriter) bytes(b []byte) { _, _ = w.buf.Write(b) }

func (w *sideWriter) text(s string) { _, _ = w.buf.WriteString(s) }

func (w *sideWriter) u8(v byte) { _ = w.buf.WriteByte(v) }

func (w *sideWriter) u32(v uint32) {
	_, _ = w.buf.Write(binary.BigEndian.AppendUint32(w.buf.AvailableBuffer(), v))
}

func (w *sideWriter) u64(v uint64) {
	_, _ = w.buf.Write(binary.BigEndian.AppendUint64(w.buf.AvailableBuffer(), v))
}

// end writes the checksum.
func (w *sideWriter) end() error {
	if err := w.buf.Flush(); err != nil {
		return err
	}
	_, err := w.to.Write(w.sum.Sum(nil))
	return err
}
