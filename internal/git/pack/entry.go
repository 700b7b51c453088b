package pack

import (
	"fmt"
	"io"
	"math"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// The kinds that only pack entries have (https://git-scm.com/docs/gitformat-pack). 0 and 5 are reserved.
const (
	ofsDelta git.Kind = 6
	refDelta git.Kind = 7
)

const (
	// packHeaderSize is "PACK", the version and the number of objects.
	packHeaderSize = 12
	// packTrailerSize is the SHA-1 of everything before it.
	packTrailerSize = git.OIDSize
	// maxSizeBytes is how many bytes a size takes at most: 4 bits, then 7 a byte, for 63 bits.
	maxSizeBytes = 10
	// maxDistanceBytes is how many bytes an ofs-delta's distance takes at most: 7 bits a byte, for 63 bits.
	maxDistanceBytes = 9
	// maxEntryHeader is the longest entry header that parseEntryHeader accepts.
	maxEntryHeader = maxSizeBytes + git.OIDSize
	// minEntrySize is a header of one byte and the zlib stream of nothing.
	minEntrySize = 1 + 8
)

// entryHeader is what stands before an entry's compressed bytes.
type entryHeader struct {
	kind         git.Kind // one of the four, ofsDelta or refDelta
	size         int64    // of the inflated bytes: the object's, or the delta's
	baseDistance int64    // of an ofsDelta: how far before the entry its base starts; > 0
	baseOID      git.OID  // of a refDelta
	n            int      // the header's own length
}

// isDelta reports whether the entry holds a delta.
func (h *entryHeader) isDelta() bool { return h.kind == ofsDelta || h.kind == refDelta }

// parseEntryHeader reads the header at the start of b. A header that b cuts off wraps io.ErrUnexpectedEOF besides
// errkind.Invalid; maxEntryHeader bytes are always enough.
func parseEntryHeader(b []byte) (entryHeader, error) {
	var h entryHeader
	if len(b) == 0 {
		return h, errShortHeader
	}
	c := b[0]
	h.kind, h.size, h.n = git.Kind(c>>4&7), int64(c&15), 1
	for shift := 4; c&0x80 != 0; shift += 7 {
		if h.n == len(b) {
			return h, errShortHeader
		}
		c = b[h.n]
		h.n++
		bits := int64(c & 0x7f)
		if shift > 62 || bits > math.MaxInt64>>shift {
			return h, fmt.Errorf("pack entry's size does not fit 63 bits: %w", errkind.Invalid)
		}
		h.size |= bits << shift
	}
	switch h.kind {
	case git.Commit, git.Tree, git.Blob, git.Tag:
	case ofsDelta:
		d, n, err := parseDistance(b[h.n:])
		if err != nil {
			return h, err
		}
		h.baseDistance = d
		h.n += n
	case refDelta:
		if len(b)-h.n < git.OIDSize {
			return h, errShortHeader
		}
		h.n += copy(h.baseOID[:], b[h.n:])
	default:
		return h, fmt.Errorf("pack entry of reserved kind %d: %w", uint8(h.kind), errkind.Invalid)
	}
	return h, nil
}

// parseDistance reads an ofs-delta's distance: big-endian groups of 7 bits, each but the last one less than it counts.
func parseDistance(b []byte) (distance int64, n int, err error) {
	for n < len(b) {
		c := b[n]
		n++
		distance |= int64(c & 0x7f)
		if c&0x80 == 0 {
			if distance == 0 {
				return 0, n, fmt.Errorf("delta's base is the delta itself: %w", errkind.Invalid)
			}
			return distance, n, nil
		}
		if distance > math.MaxInt64>>7-1 {
			return 0, n, fmt.Errorf("distance to a delta's base does not fit 63 bits: %w", errkind.Invalid)
		}
		distance = (distance + 1) << 7
	}
	return 0, n, errShortHeader
}

// appendEntryHeader appends h, which must be one that parseEntryHeader could return; n is not looked at.
func appendEntryHeader(b []byte, h entryHeader) []byte {
	if h.size < 0 || (h.kind == ofsDelta && h.baseDistance <= 0) {
		panic("bug: pack entry header out of range")
	}
	c := byte(h.kind)<<4 | byte(h.size&15)
	for rest := h.size >> 4; rest != 0; rest >>= 7 {
		b = append(b, c|0x80)
		c = byte(rest & 0x7f)
	}
	b = append(b, c)
	switch h.kind {
	case ofsDelta:
		b = appendDistance(b, h.baseDistance)
	case refDelta:
		b = append(b, h.baseOID[:]...)
	default:
	}
	return b
}

func appendDistance(b []byte, d int64) []byte {
	var buf [maxDistanceBytes]byte
	i := len(buf) - 1
	buf[i] = byte(d & 0x7f)
	for d >>= 7; d != 0; d >>= 7 {
		d--
		i--
		buf[i] = byte(d&0x7f) | 0x80
	}
	return append(b, buf[i:]...)
}

var errShortHeader = fmt.Errorf("pack entry's header is cut off: %w: %w", errkind.Invalid, io.ErrUnexpectedEOF)
