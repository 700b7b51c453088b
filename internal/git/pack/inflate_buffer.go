package pack

import (
	"encoding/binary"
	"hash/adler32"
	"sync"
)

// This is inflate (RFC 1950, RFC 1951) for the case that package pack nearly always has: all of the compressed bytes are in memory,
// and the size of the result is known. Nothing is copied through a window, nothing is suspended and resumed, and 64 bits
// of the stream are taken at a time. FuzzInflate holds it against the standard library.

// bufferInflater is the state of one inflate. With its tables it has about 8 KB, so it comes from a pool.
type bufferInflater struct {
	src, dst []byte
	in, out  int    // how much of src is in bits, and of dst is filled
	bits     uint64 // what comes next, first bit lowest; bits above n may be there already, and are what src has
	n        uint   // how many of bits count

	own  huffTables // of the block at hand, when it has codes of its own
	pre  [preTableSize]uint32
	lens [litSymbols + distSymbols]uint8
}

var bufferInflaters = sync.Pool{New: func() any { return new(bufferInflater) }}

// inflate decompresses the zlib stream at the start of src into dst, which it must fill exactly. It returns how many
// bytes of src the stream takes. What is in dst after an error is not said.
func inflate(dst, src []byte) (int, error) {
	if len(src) < 2 {
		return 0, errInflateCut
	}
	if src[0]&15 != zlibMethod || src[0]>>4 > zlibMaxWindow || binary.BigEndian.Uint16(src)%31 != 0 || src[1]&zlibHasDict != 0 {
		return 0, errInflateData
	}
	d := bufferInflaters.Get().(*bufferInflater) //nolint:errcheck,forcetypeassert // the pool has nothing else
	d.src, d.dst, d.in, d.out, d.bits, d.n = src, dst, 2, 0, 0, 0
	err := d.blocks()
	in, out := d.in, d.out
	d.src, d.dst = nil, nil
	bufferInflaters.Put(d)
	switch {
	case err != nil:
		return 0, err
	case out < len(dst):
		return 0, errInflateShort
	case len(src)-in < 4:
		return 0, errInflateCut
	case binary.BigEndian.Uint32(src[in:]) != adler32.Checksum(dst):
		return 0, errInflateSum
	}
	return in + 4, nil
}

// blocks decodes all blocks, and leaves in where the stream ends.
func (d *bufferInflater) blocks() error {
	for last := false; !last; {
		d.refill()
		if d.n < 3 {
			return errInflateCut
		}
		last = d.bits&1 != 0
		kind := d.bits >> 1 & 3
		d.take(3)
		var err error
		switch kind {
		case 0:
			err = d.stored()
		case 1:
			err = d.codes(fixedTables)
		case 2:
			if err = d.readCodes(); err == nil {
				err = d.codes(&d.own)
			}
		default:
			err = errInflateData
		}
		if err != nil {
			return err
		}
	}
	d.align()
	return nil
}

// refill takes in bytes until there are at least 56 bits, or src is at its end.
func (d *bufferInflater) refill() {
	if len(d.src)-d.in >= 8 {
		d.bits |= binary.LittleEndian.Uint64(d.src[d.in:]) << (d.n & 63)
		d.in += int((63 - d.n) >> 3)
		d.n |= 56
		return
	}
	d.bits &= 1<<(d.n&63) - 1
	for d.n < 56 && d.in < len(d.src) {
		d.bits |= uint64(d.src[d.in]) << (d.n & 63)
		d.in++
		d.n += 8
	}
}

func (d *bufferInflater) take(n uint) {
	d.bits >>= n & 63
	d.n -= n
}

// align drops the rest of a byte that was begun, and gives back whole bytes.
func (d *bufferInflater) align() {
	d.in -= int(d.n >> 3)
	d.bits, d.n = 0, 0
}

// stored copies a block that is not compressed.
func (d *bufferInflater) stored() error {
	d.align()
	if len(d.src)-d.in < 4 {
		return errInflateCut
	}
	n, check := binary.LittleEndian.Uint16(d.src[d.in:]), binary.LittleEndian.Uint16(d.src[d.in+2:])
	if n != ^check {
		return errInflateData
	}
	d.in += 4
	if len(d.src)-d.in < int(n) {
		return errInflateCut
	}
	if len(d.dst)-d.out < int(n) {
		return errInflateLong
	}
	d.out += copy(d.dst[d.out:], d.src[d.in:d.in+int(n)])
	d.in += int(n)
	return nil
}

// preOrder is the order in which the lengths of the code for code lengths come.
var preOrder = [preSymbols]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// readCodes reads a block's own codes (RFC 1951, section 3.2.7).
func (d *bufferInflater) readCodes() error {
	d.refill()
	if d.n < 14 {
		return errInflateCut
	}
	lits, dists, pres := int(d.bits&31)+257, int(d.bits>>5&31)+1, int(d.bits>>10&15)+4
	d.take(14)
	if lits > maxLitSymbols || dists > maxDistSymbols {
		return errInflateData
	}
	var preLens [preSymbols]uint8
	for i := range pres {
		if d.n < 3 {
			if d.refill(); d.n < 3 {
				return errInflateCut
			}
		}
		preLens[preOrder[i]] = uint8(d.bits & 7)
		d.take(3)
	}
	if !buildHuffman(d.pre[:], preBits, symbolEntries.pre[:], preLens[:]) {
		return errInflateData
	}
	if err := d.readLengths(lits + dists); err != nil {
		return err
	}
	if d.lens[256] == 0 || !d.own.build(d.lens[:lits], d.lens[lits:lits+dists]) {
		return errInflateData
	}
	return nil
}

// readLengths reads n code lengths, which are themselves coded.
func (d *bufferInflater) readLengths(n int) error {
	const longest = preBits + 7 // a code and its extra bits
	for i := 0; i < n; {
		if d.n < longest {
			d.refill()
		}
		e := d.pre[d.bits&(preTableSize-1)]
		length := uint(e & huffLenMask)
		if e&huffSpecial != 0 {
			return errInflateData
		}
		if length > d.n {
			return errInflateCut
		}
		symbol := uint8(e >> 16)
		if symbol < 16 {
			d.take(length)
			d.lens[i] = symbol
			i++
			continue
		}
		// 16 repeats what was before, 17 and 18 are runs of zeros.
		value, least, extra := uint8(0), 3, uint(3)
		switch symbol {
		case 16:
			if i == 0 {
				return errInflateData
			}
			value, extra = d.lens[i-1], 2
		case 18:
			least, extra = 11, 7
		}
		if length+extra > d.n {
			return errInflateCut
		}
		repeat := least + int(d.bits>>length&(1<<extra-1))
		d.take(length + extra)
		if repeat > n-i {
			return errInflateData
		}
		for range repeat {
			d.lens[i] = value
			i++
		}
	}
	return nil
}

// codes decodes a block's symbols up to its end.
func (d *bufferInflater) codes(t *huffTables) error {
	for {
		// Where fewer than 8 bytes are left, it goes symbol by symbol, seeing that there are as many bits as each takes.
		if done, err := d.codesFast(t); done || err != nil {
			return err
		}
		if done, err := d.codeSlow(t); done || err != nil {
			return err
		}
	}
}

// codesFast decodes while there are 8 bytes to take in. done says that the block has ended.
//
//nolint:funlen // one loop, whose state must stay in registers: a call costs as much as the symbol
func (d *bufferInflater) codesFast(t *huffTables) (done bool, err error) {
	src, dst := d.src, d.dst
	in, out, b, n := d.in, d.out, d.bits, d.n
	lit, dist := &t.lit, &t.dist
	var e uint32
	for len(src)-in >= 8 {
		// At least 56 bits are there after this. A length with its distance has at most 48.
		b |= binary.LittleEndian.Uint64(src[in:]) << (n & 63)
		in += int((63 - n) >> 3)
		n |= 56
		if e = lit[b&(1<<litBits-1)]; e&huffLiteral != 0 {
			if uint(out) >= uint(len(dst)) {
				err = errInflateLong
				break
			}
			dst[out] = byte(e >> 16)
			out++
			b >>= e & huffBitMask
			n -= uint(e & huffBitMask)
			if e = lit[b&(1<<litBits-1)]; e&huffLiteral != 0 {
				if uint(out) >= uint(len(dst)) {
					err = errInflateLong
					break
				}
				dst[out] = byte(e >> 16)
				out++
				b >>= e & huffBitMask
				n -= uint(e & huffBitMask)
				continue
			}
			if n < 48 {
				continue // it is looked up again, with more bits
			}
		}
		if e&huffSpecial != 0 {
			if e&huffSubtable == huffSubtable {
				b >>= litBits
				n -= litBits
				e = lit[uint64(e>>16)+b&(1<<(e>>8&huffLenMask)-1)]
			}
			if e&huffLiteral != 0 {
				if uint(out) >= uint(len(dst)) {
					err = errInflateLong
					break
				}
				dst[out] = byte(e >> 16)
				out++
				b >>= e & huffBitMask
				n -= uint(e & huffBitMask)
				continue
			}
			if e&huffSpecial != 0 {
				b >>= e & huffBitMask
				n -= uint(e & huffBitMask)
				if done = e&huffEnd == huffEnd; !done {
					err = errInflateData
				}
				break
			}
		}
		length := int(e>>16) + int(b&(1<<(e&huffBitMask)-1)>>(e>>8&huffLenMask))
		b >>= e & huffBitMask
		n -= uint(e & huffBitMask)
		if e = dist[b&(1<<distBits-1)]; e&huffSpecial != 0 {
			if e&huffSubtable == huffSubtable {
				b >>= distBits
				n -= distBits
				e = dist[uint64(e>>16)+b&(1<<(e>>8&huffLenMask)-1)]
			}
			if e&huffSpecial != 0 {
				err = errInflateData
				break
			}
		}
		distance := int(e>>16) + int(b&(1<<(e&huffBitMask)-1)>>(e>>8&huffLenMask))
		b >>= e & huffBitMask
		n -= uint(e & huffBitMask)
		if distance > out || length > len(dst)-out {
			err = matchError(distance, out)
			break
		}
		if distance >= 8 && length+8 <= len(dst)-out {
			from, to := dst[out-distance:], dst[out:]
			for i := 0; i < length; i += 8 { // up to 7 bytes too many, which what follows writes over
				binary.LittleEndian.PutUint64(to[i:], binary.LittleEndian.Uint64(from[i:]))
			}
		} else {
			copyMatch(dst, out, distance, length)
		}
		out += length
	}
	d.in, d.out, d.bits, d.n = in, out, b, n
	return done, err
}

func matchError(distance, out int) error {
	if distance > out {
		return errInflateData
	}
	return errInflateLong
}

// copyMatch repeats length bytes from distance before, which may be less than length: then they repeat themselves.
func copyMatch(dst []byte, out, distance, length int) {
	to := dst[out : out+length]
	if distance == 1 {
		c := dst[out-1]
		for i := range to {
			to[i] = c
		}
		return
	}
	for len(to) > 0 {
		// What is copied doubles what can be copied next.
		n := copy(to, dst[out-distance:out])
		to = to[n:]
		out += n
	}
}

// codeSlow decodes one symbol.
func (d *bufferInflater) codeSlow(t *huffTables) (done bool, err error) {
	d.refill()
	e, value, err := d.symbol(t.lit[:], litBits)
	switch {
	case err != nil:
		return false, err
	case e&huffLiteral != 0:
		if d.out >= len(d.dst) {
			return false, errInflateLong
		}
		d.dst[d.out] = byte(value)
		d.out++
		return false, nil
	case e&huffEnd == huffEnd:
		return true, nil
	}
	length := value
	if _, value, err = d.symbol(t.dist[:], distBits); err != nil {
		return false, err
	}
	if value > d.out || length > len(d.dst)-d.out {
		return false, matchError(value, d.out)
	}
	copyMatch(d.dst, d.out, value, length)
	d.out += length
	return false, nil
}

// symbol takes one symbol and its extra bits.
func (d *bufferInflater) symbol(table []uint32, tableBits uint) (e uint32, value int, err error) {
	e = table[d.bits&(1<<tableBits-1)]
	if e&huffSubtable == huffSubtable {
		if d.n < tableBits {
			return 0, 0, errInflateCut
		}
		d.take(tableBits)
		e = table[uint64(e>>16)+d.bits&(1<<(e>>8&huffLenMask)-1)]
	}
	if e&huffSpecial != 0 && e&huffEnd != huffEnd {
		return 0, 0, errInflateData
	}
	all, code := uint(e&huffBitMask), e>>8&huffLenMask
	if all > d.n {
		return 0, 0, errInflateCut
	}
	value = int(e&^huffLiteral>>16) + int(d.bits&(1<<all-1)>>code)
	d.take(all)
	return e, value, nil
}
