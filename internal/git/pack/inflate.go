package pack

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/adler32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zlib"

	"github.com/skep-dev/skep/internal/errkind"
)

const (
	// deflateLevel is zlib's own default and git's: what is written once is stored and sent many times, and the levels
	// above cost twice the time for 2% of the size.
	deflateLevel = 6
	// quickLevel is for what is deflated only to be sent, while the client waits. Measured on git's own sources, level 6
	// takes 1.6 times its CPU for 9% less, level 1 saves 6% of CPU for 3% more.
	quickLevel = 2
	// ioBufferSize is what a pooled buffer holds: one read or write of a pack. Most entries fit in one.
	ioBufferSize = 64 << 10
	// zlibWindow and zlibMethod are RFC 1950's CINFO and CM; git's zlib writes 7 and 8.
	zlibMaxWindow = 7
	zlibMethod    = 8
	zlibHasDict   = 0x20
)

var (
	errInflateShort = fmt.Errorf("compressed data ends before the size that was said: %w", errkind.Invalid)
	errInflateLong  = fmt.Errorf("compressed data goes on after the size that was said: %w", errkind.Invalid)
	errInflateCut   = fmt.Errorf("compressed data is cut off: %w: %w", errkind.Invalid, io.ErrUnexpectedEOF)
	errInflateData  = fmt.Errorf("compressed data is damaged: %w", errkind.Invalid)
	errInflateSum   = fmt.Errorf("compressed data's checksum is wrong: %w", errkind.Invalid)
)

// inflater reads one zlib stream and not a byte after it. It comes from getInflater and goes back with putInflater.
type inflater struct {
	r    flate.Reader
	fr   io.ReadCloser // klauspost's: about 40 KB of state, hence the pool
	sum  hash.Hash32
	tail [4]byte
	more [1]byte
	err  error // sticky
}

var inflaters = sync.Pool{New: func() any {
	return &inflater{fr: flate.NewReader(new(bytes.Reader)), sum: adler32.New()}
}}

// getInflater starts on the zlib stream that begins at r. Errors of r are returned as they are; a stream that is cut off
// or damaged wraps errkind.Invalid.
func getInflater(r flate.Reader) *inflater {
	f := inflaters.Get().(*inflater) //nolint:errcheck,forcetypeassert // the pool has nothing else
	f.start(r)
	return f
}

func putInflater(f *inflater) {
	f.r = nil
	inflaters.Put(f)
}

// start reads the stream's header.
func (f *inflater) start(r flate.Reader) {
	f.r = r
	f.err = nil
	head := f.tail[:2]
	if f.err = f.readFull(head); f.err != nil {
		return
	}
	if head[0]&15 != zlibMethod || head[0]>>4 > zlibMaxWindow || binary.BigEndian.Uint16(head)%31 != 0 ||
		head[1]&zlibHasDict != 0 {
		f.err = errInflateData
		return
	}
	f.sum.Reset()
	if err := f.fr.(flate.Resetter).Reset(r, nil); err != nil { //nolint:errcheck,forcetypeassert // klauspost promises it
		f.err = err
	}
}

func (f *inflater) readFull(b []byte) error {
	if _, err := io.ReadFull(f.r, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errInflateCut
		}
		return err
	}
	return nil
}

// Read returns io.EOF after the stream's checksum was read and found right.
func (f *inflater) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.fr.Read(p)
	f.sum.Write(p[:n])
	if err == nil {
		return n, nil
	}
	f.err = f.end(err)
	return n, f.err
}

// end turns an error of flate into one of ours, and reads the checksum at the stream's end.
func (f *inflater) end(err error) error {
	if err == io.EOF { //nolint:errorlint // flate returns it bare, once for every stream
		if err := f.readFull(f.tail[:]); err != nil {
			return err
		}
		if binary.BigEndian.Uint32(f.tail[:]) != f.sum.Sum32() {
			return errInflateSum
		}
		return io.EOF
	}
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errInflateCut
	case errors.As(err, &corrupt):
		return errInflateData
	}
	return err
}

// fill inflates exactly len(dst) bytes and then wants the stream's end.
func (f *inflater) fill(dst []byte) error {
	for len(dst) > 0 {
		n, err := f.Read(dst)
		dst = dst[n:]
		if err != nil && len(dst) > 0 {
			if err == io.EOF { //nolint:errorlint // Read returns it bare
				return errInflateShort
			}
			return err
		}
	}
	for {
		n, err := f.Read(f.more[:])
		switch {
		case n > 0:
			return errInflateLong
		case err == io.EOF: //nolint:errorlint // Read returns it bare
			return nil
		case err != nil:
			return err
		}
	}
}

// section is a pooled buffered reader over a part of a pack.
type section struct {
	part   io.SectionReader
	buf    *bufio.Reader
	length int64
}

var sections = sync.Pool{New: func() any {
	return &section{buf: bufio.NewReaderSize(nil, ioBufferSize)}
}}

func getSection(r io.ReaderAt, offset, length int64) *section {
	s := sections.Get().(*section) //nolint:errcheck,forcetypeassert // the pool has nothing else
	s.part = *io.NewSectionReader(r, offset, length)
	s.buf.Reset(&s.part)
	s.length = length
	return s
}

func putSection(s *section) {
	s.part = io.SectionReader{}
	s.buf.Reset(nil)
	sections.Put(s)
}

// consumed is how many bytes were taken out of the section.
func (s *section) consumed() int64 {
	at, _ := s.part.Seek(0, io.SeekCurrent) // a section's seek to where it is cannot fail
	return at - int64(s.buf.Buffered())
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, ioBufferSize) }}

// getReader returns a pooled buffered reader; putReader takes it back.
func getReader(r io.Reader) *bufio.Reader {
	b := readers.Get().(*bufio.Reader) //nolint:errcheck,forcetypeassert // the pool has nothing else
	b.Reset(r)
	return b
}

func putReader(b *bufio.Reader) {
	b.Reset(nil)
	readers.Put(b)
}

var buffers = sync.Pool{New: func() any { return new([ioBufferSize]byte) }}

// getBuffer returns a buffer of ioBufferSize bytes; putBuffer takes it back.
func getBuffer() *[ioBufferSize]byte {
	return buffers.Get().(*[ioBufferSize]byte) //nolint:errcheck,forcetypeassert // the pool has nothing else
}

func putBuffer(b *[ioBufferSize]byte) { buffers.Put(b) }

var deflaters, quickDeflaters = deflaterPool(deflateLevel), deflaterPool(quickLevel)

func deflaterPool(level int) *sync.Pool {
	return &sync.Pool{New: func() any {
		z, err := zlib.NewWriterLevel(io.Discard, level)
		if err != nil {
			panic("bug: " + err.Error())
		}
		return z
	}}
}

// getDeflater returns a pooled zlib writer to w. Close it for the stream's end, then give it back with putDeflater.
func getDeflater(w io.Writer) *zlib.Writer {
	z := deflaters.Get().(*zlib.Writer) //nolint:errcheck,forcetypeassert // the pool has nothing else
	z.Reset(w)
	return z
}

func putDeflater(z *zlib.Writer) {
	z.Reset(io.Discard)
	deflaters.Put(z)
}

// deflate appends, quickly, the zlib stream of src to dst.
func deflate(dst, src []byte) []byte {
	b := bytes.NewBuffer(dst)
	z := quickDeflaters.Get().(*zlib.Writer) //nolint:errcheck,forcetypeassert // the pool has nothing else
	z.Reset(b)
	_, err := z.Write(src)
	if err = errors.Join(err, z.Close()); err != nil {
		panic("bug: deflate into memory: " + err.Error())
	}
	z.Reset(io.Discard)
	quickDeflaters.Put(z)
	return b.Bytes()
}
