package pack

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

const (
	// maxInflation is what one byte of deflate can become at most (zlib.net, "Technical Details": 1032:1). A size above
	// it is a lie and is not allocated.
	maxInflation = 1032
	// putEvery is the distance in a long chain at which bases are put into the cache besides the last one: so a neighbour in the
	// chain finds one within few steps, and the cache is not flooded with a chain of thousands.
	putEvery = 8
	// maxKeptScratch is the largest scratch buffer that outlives a Read.
	maxKeptScratch = 256 << 10
)

// scratch is what a Read needs besides its result.
type scratch struct {
	chain []Pos
	delta []byte
	tmp   [2][]byte // results that are only the base of the next one
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func putScratch(s *scratch) {
	for _, b := range []*[]byte{&s.delta, &s.tmp[0], &s.tmp[1]} {
		if cap(*b) > maxKeptScratch {
			*b = nil
		}
	}
	scratches.Put(s)
}

// Read inflates one object, applying its deltas. bases may be nil; it keeps inflated bases between calls, while the result
// is left to the caller to keep. Objects over MaxReadBytes are refused with errkind.TooLarge: stream them with OpenObject.
func (p *Pack) Read(at Pos, bases BaseCache) (git.Object, error) {
	if size := p.ObjectSize(at); size > MaxReadBytes {
		return git.Object{}, fmt.Errorf("read object %s of %d bytes, the limit is %d: %w",
			p.OID(at), size, MaxReadBytes, errkind.TooLarge)
	}
	o, err := p.read(at, bases)
	if err != nil {
		return git.Object{}, fmt.Errorf("read object %s: %w", p.OID(at), err)
	}
	return o, nil
}

func (p *Pack) read(at Pos, bases BaseCache) (git.Object, error) {
	s := scratches.Get().(*scratch) //nolint:errcheck,forcetypeassert // the pool has nothing else
	defer putScratch(s)
	base, fits, err := p.findBase(s, at, bases, MaxReadBytes)
	if err != nil {
		return git.Object{}, err
	}
	if fits {
		o, err := p.applyChain(s, base, bases)
		if !errors.Is(err, errkind.TooLarge) {
			return o, err
		}
	}
	return p.readStreamed(at, bases)
}

// findBase follows the deltas from at down to an entry that is none, or to a base that the cache has, which it returns.
// s.chain has the way, the last entry first to be read: without a cached base, that is the one that is no delta. fits says
// whether all objects on the way are most bytes at most.
func (p *Pack) findBase(s *scratch, at Pos, bases BaseCache, most int64) (base git.Object, fits bool, err error) {
	s.chain = s.chain[:0]
	for cur := at; ; {
		if len(s.chain) > 0 && bases != nil {
			if o, ok := bases.Get(p, cur); ok {
				return o, true, nil
			}
		}
		if p.ObjectSize(cur) > most {
			return git.Object{}, false, nil
		}
		if len(s.chain) > maxDeltaDepth {
			return git.Object{}, false, fmt.Errorf("chain of more than %d deltas: %w", maxDeltaDepth, errkind.Invalid)
		}
		s.chain = append(s.chain, cur)
		next, ok := p.Base(cur)
		if !ok {
			return git.Object{}, true, nil
		}
		cur = next
	}
}

// applyChain reads the entries of s.chain, last one first, each on top of the one before. base is what the last one is a
// delta of, or zero when it is no delta.
func (p *Pack) applyChain(s *scratch, base git.Object, bases BaseCache) (git.Object, error) {
	for i, at := range slices.Backward(s.chain) {
		// The result leaves this function when it is the last one, or when the cache keeps it.
		keep := i == 0 || (bases != nil && (i == 1 || i%putEvery == 0 || i == len(s.chain)-1))
		var dst []byte
		if !keep {
			dst = s.tmp[i&1]
		}
		data, err := p.step(s, dst, at, base.Data)
		if err != nil {
			return git.Object{}, err
		}
		base = git.Object{Kind: p.Kind(at), Data: data}
		if !keep {
			s.tmp[i&1] = data
		} else if i > 0 {
			bases.Put(p, at, base)
		}
	}
	return base, nil
}

// step reads one entry, and applies it to base if it is a delta.
func (p *Pack) step(s *scratch, dst []byte, at Pos, base []byte) ([]byte, error) {
	size := p.ObjectSize(at)
	if _, ok := p.Base(at); !ok {
		return p.inflateEntry(dst, at, size)
	}
	delta, err := p.inflateEntry(s.delta, at, min(maxDeltaSize(size), MaxReadBytes))
	if err != nil {
		return nil, err
	}
	s.delta = delta
	data, err := applyDelta(dst, base, delta, size)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != size {
		return nil, errTableSize
	}
	return data, nil
}

// maxDeltaSize bounds the size of a delta that makes size bytes: each instruction has at most 8 bytes and makes at least
// one, an insert has one byte more than it makes.
func maxDeltaSize(size int64) int64 { return maxDeltaHeader + 8*size }

// inflateEntry inflates the entry at into dst's memory, where that is large enough. The result, for a delta the delta
// itself, is at most limit bytes, for another entry exactly as many.
func (p *Pack) inflateEntry(dst []byte, at Pos, limit int64) ([]byte, error) {
	offset, length := p.Extent(at)
	if length > ioBufferSize {
		return p.inflateBigEntry(dst, at, limit)
	}
	buf := getBuffer()
	defer putBuffer(buf)
	src := buf[:length]
	if err := readFullAt(p.data, src, offset); err != nil {
		return nil, fmt.Errorf("read pack at offset %d: %w", offset, err)
	}
	h, err := p.entryHeader(at, src, limit, length)
	if err != nil {
		return nil, err
	}
	dst = sized(dst, h.size)
	n, err := inflate(dst, src[h.n:])
	if err != nil {
		return nil, err
	}
	if n != len(src)-h.n {
		return nil, errEntryLength
	}
	return dst, nil
}

func (p *Pack) inflateBigEntry(dst []byte, at Pos, limit int64) ([]byte, error) {
	e, err := p.openEntry(at, limit)
	if err != nil {
		return nil, err
	}
	defer e.close()
	dst = sized(dst, e.header.size)
	if err := e.fill(dst); err != nil {
		return nil, err
	}
	return dst, nil
}

// sized returns a slice of a size that was checked, in dst's memory where that is large enough.
func sized(dst []byte, size int64) []byte {
	if int64(cap(dst)) >= size {
		return dst[:size]
	}
	return make([]byte, size)
}

// entryHeader parses the header at the start of b and holds it against the table.
func (p *Pack) entryHeader(at Pos, b []byte, limit, length int64) (entryHeader, error) {
	h, err := parseEntryHeader(b)
	if err != nil {
		return h, err
	}
	_, delta := p.Base(at)
	switch {
	case h.isDelta() != delta, h.isDelta() && (h.kind == refDelta) != p.IsRefDelta(at), !delta && h.kind != p.Kind(at):
		return h, fmt.Errorf("pack entry's kind is not what the table says: %w", errkind.Invalid)
	case !delta && h.size != p.ObjectSize(at):
		return h, errTableSize
	case h.size > limit:
		return h, fmt.Errorf("pack entry of %d bytes, the limit is %d: %w", h.size, limit, errkind.TooLarge)
	case h.size/maxInflation > length:
		return h, fmt.Errorf("pack entry of %d bytes cannot inflate to %d: %w", length, h.size, errkind.Invalid)
	}
	return h, nil
}

var (
	errTableSize   = fmt.Errorf("object's size is not what the table says: %w", errkind.Invalid)
	errEntryLength = fmt.Errorf("pack entry does not end where the next one starts: %w", errkind.Invalid)
)
