package pack

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/skep-dev/skep/internal/errkind"
)

// A delta (https://git-scm.com/docs/gitformat-pack) is the sizes of its base and of its result, then instructions: copy a
// range of the base, or insert the bytes that follow.

const (
	// maxDeltaHeader is two sizes of 63 bits, 7 bits a byte.
	maxDeltaHeader = 2 * 9
	// maxDeltaDepth bounds a chain of deltas where nothing else does. Git writes at most 4,095 (pack.depth's own limit);
	// receiving a pack enforces a limit up to this one.
	maxDeltaDepth = 10_000
	// trustedResult is the largest result that is allocated because a delta's header says so; for larger ones the
	// instructions are counted first.
	trustedResult = 64 << 10
	// deltaCopyBuffer moves copied ranges when a delta is applied from file to file.
	deltaCopyBuffer = 32 << 10
)

// deltaSizes reads a delta's header: the sizes of base and result, and the header's length n. It does not need more than
// the first maxDeltaHeader bytes.
func deltaSizes(delta []byte) (base, result int64, n int, err error) {
	base, i := deltaSize(delta)
	if i == 0 {
		return 0, 0, 0, errDeltaHeader
	}
	result, j := deltaSize(delta[i:])
	if j == 0 {
		return 0, 0, 0, errDeltaHeader
	}
	return base, result, i + j, nil
}

// deltaSize reads a little-endian number of 7 bits a byte; n is 0 when it is cut off or over 63 bits.
func deltaSize(b []byte) (size int64, n int) {
	for shift := 0; n < len(b) && shift < 63; shift += 7 {
		c := b[n]
		n++
		size |= int64(c&0x7f) << shift
		if c&0x80 == 0 {
			return size, n
		}
	}
	return 0, 0
}

// applyDelta applies delta to base and returns the result, in dst's memory where that is large enough. A result over
// limit wraps errkind.TooLarge. dst must not overlap base or delta. Memory is not allocated by what a header claims but
// by what the instructions really make.
func applyDelta(dst, base, delta []byte, limit int64) ([]byte, error) {
	baseSize, size, n, err := deltaSizes(delta)
	if err != nil {
		return nil, err
	}
	if baseSize != int64(len(base)) {
		return nil, fmt.Errorf("delta is for a base of %d bytes, not %d: %w", baseSize, len(base), errkind.Invalid)
	}
	if size > limit {
		return nil, fmt.Errorf("delta makes %d bytes, the limit is %d: %w", size, limit, errkind.TooLarge)
	}
	ops := delta[n:]
	if int64(cap(dst)) < size {
		if size > trustedResult {
			if made := deltaMakes(ops); made != size {
				return nil, errDeltaResult
			}
		}
		dst = make([]byte, size)
	}
	dst = dst[:size]
	at := 0
	for i := 0; i < len(ops); {
		c := ops[i]
		i++
		if c&0x80 == 0 { // insert
			n := int(c)
			if n == 0 {
				return nil, errDeltaReserved
			}
			if n > len(ops)-i {
				return nil, errDeltaCut
			}
			if n > len(dst)-at {
				return nil, errDeltaResult
			}
			copy(dst[at:], ops[i:i+n])
			i += n
			at += n
			continue
		}
		offset, n, used := copyOp(c, ops[i:])
		if used < 0 {
			return nil, errDeltaCut
		}
		i += used
		if offset > len(base) || n > len(base)-offset {
			return nil, errDeltaRange
		}
		if n > len(dst)-at {
			return nil, errDeltaResult
		}
		copy(dst[at:at+n], base[offset:])
		at += n
	}
	if at != len(dst) {
		return nil, errDeltaResult
	}
	return dst, nil
}

// copyOp reads what follows a copy instruction's first byte c. used is negative when ops is cut off.
func copyOp(c byte, ops []byte) (offset, n, used int) {
	i := 0
	for bit := range 4 {
		if c&(1<<bit) != 0 {
			if i == len(ops) {
				return 0, 0, -1
			}
			offset |= int(ops[i]) << (8 * bit)
			i++
		}
	}
	for bit := range 3 {
		if c&(0x10<<bit) != 0 {
			if i == len(ops) {
				return 0, 0, -1
			}
			n |= int(ops[i]) << (8 * bit)
			i++
		}
	}
	if n == 0 {
		n = 0x10000
	}
	return offset, n, i
}

// deltaMakes counts what instructions make, without checking them otherwise.
func deltaMakes(ops []byte) (size int64) {
	for i := 0; i < len(ops); {
		c := ops[i]
		i++
		if c&0x80 == 0 {
			i += int(c)
			size += int64(c)
			continue
		}
		_, n, used := copyOp(c, ops[i:])
		if used < 0 {
			return -1
		}
		i += used
		size += int64(n)
	}
	return size
}

// streamDelta is applyDelta for what is too big for memory: the base is read where it is copied from, the delta and the
// result are streams. It reads delta to its end and checks that the result is limit bytes at most. It returns how many
// bytes it wrote.
func streamDelta(w io.Writer, base io.ReaderAt, baseSize int64, delta *bufio.Reader, limit int64) (int64, error) {
	head, err := delta.Peek(maxDeltaHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read delta: %w", err)
	}
	wantBase, size, n, err := deltaSizes(head)
	if err != nil {
		return 0, err
	}
	if wantBase != baseSize {
		return 0, fmt.Errorf("delta is for a base of %d bytes, not %d: %w", wantBase, baseSize, errkind.Invalid)
	}
	if size > limit {
		return 0, fmt.Errorf("delta makes %d bytes, the limit is %d: %w", size, limit, errkind.TooLarge)
	}
	if _, err := delta.Discard(n); err != nil {
		return 0, fmt.Errorf("read delta: %w", err)
	}
	s := deltaStream{w: w, base: base, baseSize: baseSize, delta: delta, left: size}
	for {
		c, err := delta.ReadByte()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return size - s.left, fmt.Errorf("read delta: %w", err)
		}
		if c&0x80 == 0 {
			err = s.insert(int(c))
		} else {
			err = s.copy(c)
		}
		if err != nil {
			return size - s.left, err
		}
	}
	if s.left != 0 {
		return size - s.left, errDeltaResult
	}
	return size, nil
}

// deltaStream is the state of one streamDelta.
type deltaStream struct {
	w        io.Writer
	base     io.ReaderAt
	baseSize int64
	delta    *bufio.Reader
	left     int64 // what the result still lacks
	buf      []byte
}

func (s *deltaStream) insert(n int) error {
	if n == 0 {
		return errDeltaReserved
	}
	if int64(n) > s.left {
		return errDeltaResult
	}
	b, err := s.delta.Peek(n)
	if len(b) < n {
		if errors.Is(err, io.EOF) {
			return errDeltaCut
		}
		return fmt.Errorf("read delta: %w", err)
	}
	if _, err := s.w.Write(b); err != nil {
		return fmt.Errorf("write delta's result: %w", err)
	}
	s.left -= int64(n)
	_, err = s.delta.Discard(n)
	return err
}

func (s *deltaStream) copy(c byte) error {
	const most = 7 // bytes after the first
	b, err := s.delta.Peek(most)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read delta: %w", err)
	}
	from, n, used := copyOp(c, b)
	if used < 0 {
		return errDeltaCut
	}
	if _, err := s.delta.Discard(used); err != nil {
		return fmt.Errorf("read delta: %w", err)
	}
	offset, size := int64(from), int64(n)
	if offset > s.baseSize || size > s.baseSize-offset {
		return errDeltaRange
	}
	if size > s.left {
		return errDeltaResult
	}
	if s.buf == nil {
		s.buf = make([]byte, deltaCopyBuffer)
	}
	for size > 0 {
		part := s.buf[:min(size, int64(len(s.buf)))]
		if err := readFullAt(s.base, part, offset); err != nil {
			return fmt.Errorf("read delta's base: %w", err)
		}
		if _, err := s.w.Write(part); err != nil {
			return fmt.Errorf("write delta's result: %w", err)
		}
		offset += int64(len(part))
		size -= int64(len(part))
		s.left -= int64(len(part))
	}
	return nil
}

// readFullAt fills b. Only a short read is an error: a ReaderAt may say io.EOF along with the last bytes.
func readFullAt(r io.ReaderAt, b []byte, offset int64) error {
	if offset < 0 || offset > math.MaxInt64-int64(len(b)) {
		return fmt.Errorf("read at offset %d: %w", offset, errkind.Invalid)
	}
	n, err := r.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

var (
	errDeltaHeader   = fmt.Errorf("delta's header is cut off or over 63 bits: %w", errkind.Invalid)
	errDeltaReserved = fmt.Errorf("delta has the reserved instruction 0: %w", errkind.Invalid)
	errDeltaCut      = fmt.Errorf("delta's last instruction is cut off: %w", errkind.Invalid)
	errDeltaRange    = fmt.Errorf("delta copies from outside its base: %w", errkind.Invalid)
	errDeltaResult   = fmt.Errorf("delta does not make the size it says: %w", errkind.Invalid)
)
