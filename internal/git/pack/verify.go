package pack

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // Git's object format; collisions were looked for when the pack came in
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"sort"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// verifyCacheBytes is what Verify keeps of delta bases: enough for the windows in which git writes its chains.
const verifyCacheBytes = 48 << 20

// generationsEntry is about what an object costs in a generations besides its data.
const generationsEntry = 80

// Verify reads the whole pack: every entry's CRC, every object's ID, content check and row in the table, the trailer. It
// reads the file twice: first as bytes, then as objects. progress may be nil. What is wrong wraps errkind.Invalid.
func (p *Pack) Verify(ctx context.Context, progress func(done, total int)) error {
	if err := p.idx.verify(); err != nil {
		return err
	}
	if err := p.tab.verify(); err != nil {
		return err
	}
	if err := p.verifyBytes(ctx); err != nil {
		return err
	}
	v := verifier{p: p, bases: &generations{limit: verifyCacheBytes}, sum: sha1.New()} //nolint:gosec // see the import
	v.named, v.outside = make([]uint64, (p.Len()+63)/64), make([]uint64, (p.tab.outsideCount+63)/64)
	for i := range p.Len() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.object(ctx, Pos(i)); err != nil {
			return fmt.Errorf("verify object %s at offset %d: %w", p.OID(Pos(i)), p.offset(Pos(i)), err)
		}
		if progress != nil {
			progress(i+1, p.Len())
		}
	}
	if err := v.roots(); err != nil {
		return err
	}
	for i := range p.tab.outsideCount {
		if v.outside[i/64]&(1<<(i%64)) == 0 {
			return fmt.Errorf("no object names %x, which the table says is outside: %w", p.tab.outsideID(i), errkind.Invalid)
		}
	}
	return nil
}

// verifyBytes checks what does not need inflating: header, CRCs, trailer.
func (p *Pack) verifyBytes(ctx context.Context) error {
	sum := sha1.New() //nolint:gosec // see the import
	head := make([]byte, packHeaderSize)
	if err := readFullAt(p.data, head, 0); err != nil {
		return fmt.Errorf("read pack's header: %w", err)
	}
	if string(head[:4]) != "PACK" || binary.BigEndian.Uint32(head[4:]) != packVersion ||
		binary.BigEndian.Uint32(head[8:]) != uint32(p.Len()) {
		return fmt.Errorf("pack's header is not one of version %d with %d objects: %w", packVersion, p.Len(), errkind.Invalid)
	}
	sum.Write(head)
	s := getSection(p.data, packHeaderSize, p.size-packHeaderSize)
	defer putSection(s)
	crc := crc32.NewIEEE()
	for i := range p.Len() {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := Pos(i)
		crc.Reset()
		_, length := p.Extent(at)
		if err := hashPart(s, length, sum, crc); err != nil {
			return fmt.Errorf("read pack's entry at %d: %w", p.offset(at), err)
		}
		if crc.Sum32() != p.idx.crc(int(p.tab.idxPos(at))) {
			return fmt.Errorf("pack's entry at %d has a wrong CRC: %w", p.offset(at), errkind.Invalid)
		}
	}
	trailer := make([]byte, packTrailerSize)
	if _, err := io.ReadFull(s.buf, trailer); err != nil {
		return fmt.Errorf("read pack's trailer: %w", err)
	}
	if name := p.Checksum(); !bytes.Equal(trailer, sum.Sum(nil)) || !bytes.Equal(trailer, name[:]) {
		return fmt.Errorf("pack's checksum is wrong: %w", errkind.Invalid)
	}
	return nil
}

func hashPart(s *section, length int64, sums ...hash.Hash) error {
	for length > 0 {
		b, err := s.buf.Peek(int(min(length, ioBufferSize)))
		if err != nil {
			return err
		}
		for _, h := range sums {
			h.Write(b)
		}
		if _, err := s.buf.Discard(len(b)); err != nil {
			return err
		}
		length -= int64(len(b))
	}
	return nil
}

// verifier is the state of the second pass.
type verifier struct {
	p       *Pack
	bases   *generations
	sum     hash.Hash
	named   []uint64 // a bit for each object that another one names
	outside []uint64 // a bit for each object of the table's outside list that was seen to be named
	commits int      // how many rows of the table were seen
	parents []git.OID
	row     []git.OID
}

func (v *verifier) object(ctx context.Context, at Pos) error {
	if err := v.base(at); err != nil {
		return err
	}
	kind, size := v.p.Kind(at), v.p.ObjectSize(at)
	v.sum.Reset()
	v.sum.Write(git.AppendHeader(nil, kind, size))
	if size > MaxReadBytes {
		return v.big(ctx, at, kind)
	}
	o, err := v.p.read(at, v.bases)
	if err != nil {
		return err
	}
	v.bases.Put(v.p, at, o)
	v.sum.Write(o.Data)
	if err := v.id(at); err != nil {
		return err
	}
	if err := git.Check(kind, o.Data); err != nil {
		return err
	}
	return v.links(at, o)
}

// base checks that a delta's header names the base that the table names.
func (v *verifier) base(at Pos) error {
	base, delta := v.p.Base(at)
	if !delta {
		return nil
	}
	offset, length := v.p.Extent(at)
	var buf [maxEntryHeader]byte
	head := buf[:min(length, maxEntryHeader)]
	if err := readFullAt(v.p.data, head, offset); err != nil {
		return err
	}
	h, err := parseEntryHeader(head)
	if err != nil {
		return err
	}
	if (h.kind == ofsDelta && offset-h.baseDistance == v.p.offset(base)) || (h.kind == refDelta && h.baseOID == v.p.OID(base)) {
		return nil
	}
	return fmt.Errorf("delta's base is not what the table says: %w", errkind.Invalid)
}

func (v *verifier) big(ctx context.Context, at Pos, kind git.Kind) error {
	if kind != git.Blob {
		return fmt.Errorf("%s of more than %d bytes: %w", kind, MaxReadBytes, errkind.TooLarge)
	}
	r, err := v.p.OpenObject(ctx, at, v.bases)
	if err != nil {
		return err
	}
	_, err = copyPooled(v.sum, r)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	return v.id(at)
}

func (v *verifier) id(at Pos) error {
	var got git.OID
	if v.sum.Sum(got[:0]); got != v.p.OID(at) {
		return fmt.Errorf("object's content has the ID %s: %w", got, errkind.Invalid)
	}
	return nil
}

// links marks what an object names, and compares a commit with its row.
func (v *verifier) links(at Pos, o git.Object) error {
	for named, err := range git.Links(o.Kind, o.Data) {
		if err != nil {
			return err
		}
		if int(at) >= v.p.Len()-v.p.Appended() {
			break // it counts where it came from
		}
		if to, ok := v.p.Find(named); ok {
			v.named[to/64] |= 1 << (to % 64)
			continue
		}
		i := sort.Search(v.p.tab.outsideCount, func(i int) bool { return bytes.Compare(v.p.tab.outsideID(i), named[:]) >= 0 })
		if i == v.p.tab.outsideCount || !bytes.Equal(v.p.tab.outsideID(i), named[:]) {
			return fmt.Errorf("it names %s, which is neither in the pack nor outside in its table: %w", named, errkind.Invalid)
		}
		v.outside[i/64] |= 1 << (i % 64)
	}
	if o.Kind == git.Commit {
		return v.commit(at, o.Data)
	}
	return nil
}

func (v *verifier) commit(at Pos, data []byte) error {
	tree, parents, when, err := git.CommitLinks(data, v.parents[:0])
	if err != nil {
		return err
	}
	v.parents = parents
	// Open saw that there are as many rows as commits, in ascending order.
	row := v.p.tab.commit(v.commits, v.row)
	v.row = row.Parents
	v.commits++
	if row.Pos != at || row.Tree != tree || row.When != when || !slices.Equal(row.Parents, parents) {
		return fmt.Errorf("commit is not what the table says: %w", errkind.Invalid)
	}
	return nil
}

// roots compares the objects that nobody named with the table's.
func (v *verifier) roots() error {
	seen := 0
	for i := range v.p.Len() {
		if v.named[i/64]&(1<<(i%64)) != 0 {
			continue
		}
		if seen == v.p.tab.rootCount || v.p.tab.root(seen) != Pos(i) {
			return fmt.Errorf("object %s is no root in the table, but no object names it: %w", v.p.OID(Pos(i)), errkind.Invalid)
		}
		seen++
	}
	if seen != v.p.tab.rootCount {
		return fmt.Errorf("root %s is named by another object: %w", v.p.OID(v.p.tab.root(seen)), errkind.Invalid)
	}
	return nil
}

// generations is a BaseCache for one goroutine and one pack. It drops the older half of what it has when it is full.
type generations struct {
	limit int64
	used  int64 // by young
	young map[Pos]git.Object
	old   map[Pos]git.Object
}

// Get is a BaseCache's.
func (g *generations) Get(p *Pack, at Pos) (git.Object, bool) {
	if o, ok := g.young[at]; ok {
		return o, true
	}
	o, ok := g.old[at]
	if ok {
		g.Put(p, at, o)
	}
	return o, ok
}

// Put is a BaseCache's.
func (g *generations) Put(_ *Pack, at Pos, o git.Object) {
	if _, ok := g.young[at]; ok {
		return
	}
	if g.young == nil || g.used+int64(len(o.Data)) > g.limit/2 {
		g.old, g.young, g.used = g.young, map[Pos]git.Object{}, 0
	}
	g.young[at] = o
	g.used += int64(len(o.Data)) + generationsEntry
}
