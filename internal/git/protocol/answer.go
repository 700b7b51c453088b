package protocol

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// sendPack writes the rest of an answer: in v2 the shallow-info and packfile sections, in v0 and v1 the pack alone.
//
// The pack comes out of the answer cache, or goes into it on its way. On a hit nothing is planned: for a client that
// deepens, the kept answer starts with the boundary it was told.
func (u *upload) sendPack(ctx context.Context, f *fetchRequest) (err error) {
	u.pw.hold = false
	if err := u.pw.Send(); err != nil {
		return err
	}
	mux := newMuxer(u.out, f.sideBand, u.view.config().uploadKeepAlive)
	mux.all = u.pw.band
	defer func() {
		if err != nil {
			mux.Fail(publicText(err))
			u.told = true
		}
		mux.Abort()
	}()
	a := &answer{view: u.view, opts: u.opts, fetch: f, req: f.plan(u.view)}
	if !f.noProgress && f.sideBand > 0 {
		a.progress = mux.Progress
	}
	dst := &answerSink{mux: mux, v2: u.opts.Version == V2, named: f.named, lines: f.shallows > 0, deepens: f.deepens()}
	dst.prepare()
	if u.opts.Cache == nil {
		err = a.make(ctx, dst)
	} else {
		err = u.opts.Cache.Pack(ctx, a.key(), dst, a.make)
	}
	if err != nil {
		return err
	}
	if err = dst.finish(); err != nil {
		return err
	}
	return mux.Close()
}

// answer makes what a fetch is answered with: the boundary for a client that deepens, then the pack.
type answer struct {
	view     View
	opts     UploadOptions
	fetch    *fetchRequest
	req      revwalk.Request
	progress func(text string) // may be nil; may be called after the request is over
}

// key names the answer: a digest of all that the answer depends on, and of nothing else.
func (a *answer) key() [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte("skep fetch answer 2\n"))
	r := a.req
	for _, list := range [][]git.OID{r.Wants, r.Haves, r.Shallow, r.Not} {
		hashOIDs(h, list)
	}
	since := int64(-1)
	if !r.Since.IsZero() {
		since = r.Since.Unix()
	}
	h.Write(fmt.Appendf(nil, "depth %d %t since %d filter %q thin %t ofs %t\n",
		r.Depth, r.DeepenRelative, since, r.Filter.String(), r.Thin, a.fetch.ofsDelta))
	if len(r.IncludeTag) > 0 {
		digest := a.view.annotated().digest
		h.Write(digest[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// hashOIDs adds a set: its size, and its members in order.
func hashOIDs(h hash.Hash, list []git.OID) {
	list = slices.Clone(list)
	slices.SortFunc(list, git.OID.Compare)
	list = slices.Compact(list)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(list))))
	for i := range list {
		h.Write(list[i][:])
	}
}

// make writes the answer. It may run for several clients at once, and be kept.
func (a *answer) make(ctx context.Context, w io.Writer) error {
	g, err := a.view.Graph()
	if err != nil {
		return err
	}
	plan, err := g.Plan(ctx, a.req)
	if err != nil {
		return err
	}
	if a.fetch.deepens() {
		if _, err := w.Write(encodeBoundary(plan.Shallow, plan.Unshallow)); err != nil {
			return err
		}
	}
	if a.progress != nil {
		n := plan.Send.Len()
		a.progress(fmt.Sprintf("Enumerating objects: %d, done.\n", n))
		if n > 0 {
			a.progress(fmt.Sprintf("Counting objects: 100%% (%d/%d), done.\n", n, n))
		}
	}
	_, err = a.view.Objects.WritePack(ctx, w, plan.Send, odb.WriteOptions{
		OfsDelta: a.fetch.ofsDelta, Given: plan.Given,
	})
	if err != nil {
		return err
	}
	if a.progress != nil {
		a.progress(a.total(plan))
	}
	return nil
}

// total is pack-objects' last line. What was sent was reused as it lay, but for deltas whose base stays behind.
func (a *answer) total(plan *revwalk.Plan) string {
	n, deltas := plan.Send.Len(), 0
	for i, p := range a.view.Objects.Packs() {
		for at := range plan.Send.InPack(i) {
			if base, ok := p.Base(at); ok {
				from := odb.Place{Pack: i, Pos: base}
				if plan.Send.Has(from) || (plan.Given != nil && plan.Given.Has(from)) {
					deltas++
				}
			}
		}
	}
	return fmt.Sprintf("Total %d (delta %d), reused %d (delta %d), pack-reused %d\n", n, deltas, n, deltas, n)
}

// encodeBoundary is the start of a kept answer for a client that deepens: two lists, each with its length before it.
func encodeBoundary(shallow, unshallow []git.OID) []byte {
	b := make([]byte, 0, 8+git.OIDSize*(len(shallow)+len(unshallow)))
	for _, list := range [][]git.OID{shallow, unshallow} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
		for i := range list {
			b = append(b, list[i][:]...)
		}
	}
	return b
}

// appendBoundary writes the lists as git does: lines without a line feed.
func appendBoundary(pw *PktWriter, shallow, unshallow []git.OID) {
	for _, o := range shallow {
		pw.text("shallow ", o.String())
	}
	for _, o := range unshallow {
		pw.text("unshallow ", o.String())
	}
}

// answerSink takes a finished or growing answer, splits the boundary off, and passes the pack on.
type answerSink struct {
	mux     *muxer
	v2      bool
	named   []git.Ref // what was wanted by name
	lines   bool      // the client named its boundary: v2 has a section for the new one
	deepens bool

	head   []byte // collected until the boundary is whole
	past   bool   // the pack has begun
	lists  [2][]git.OID
	inList int
}

// maxBoundary bounds what a kept answer's head may claim: there are no more boundary commits than git can number.
const maxBoundary = 1 << 31

// prepare says what comes before the pack, when that is known from the start.
func (s *answerSink) prepare() {
	switch {
	case s.deepens && s.v2:
		s.mux.wait()
	case s.deepens:
		s.mux.beginBands()
	default:
		s.begin()
	}
}

// begin writes the sections' headers.
func (s *answerSink) begin() {
	s.past = true
	if !s.v2 {
		s.mux.beginBands()
		return
	}
	pw := NewPktWriter(nil)
	pw.hold, pw.band = true, s.mux.all
	if s.deepens || s.lines {
		pw.Line("shallow-info")
		appendBoundary(pw, s.lists[0], s.lists[1])
		pw.Delim()
	}
	// After the boundary, as the specification says and clients expect; git's own server has it the other way round.
	if len(s.named) > 0 {
		pw.Line("wanted-refs")
		for _, r := range s.named {
			pw.Line(r.OID.String(), " ", string(r.Name))
		}
		pw.Delim()
	}
	pw.Line("packfile")
	s.mux.begin(slices.Clone(pw.buf))
	pw.Close()
}

// Write implements io.Writer.
func (s *answerSink) Write(p []byte) (int, error) {
	if s.past {
		return s.mux.Write(p)
	}
	n := len(p)
	for !s.past && len(p) > 0 {
		need, err := s.need()
		if err != nil {
			return 0, err
		}
		k := min(need-len(s.head), len(p))
		s.head = append(s.head, p[:k]...)
		p = p[k:]
		if len(s.head) == need {
			s.take()
		}
	}
	if len(p) > 0 {
		if _, err := s.mux.Write(p); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// need returns the size of the part of the boundary that is being collected: a list's length, or the list as well.
func (s *answerSink) need() (int, error) {
	if len(s.head) < 4 {
		return 4, nil
	}
	n := binary.BigEndian.Uint32(s.head)
	if n > maxBoundary/git.OIDSize {
		return 0, fmt.Errorf("kept answer claims %d boundary commits: %w", n, errkind.Internal)
	}
	return 4 + int(n)*git.OIDSize, nil
}

// take ends a part.
func (s *answerSink) take() {
	n := int(binary.BigEndian.Uint32(s.head))
	if len(s.head) < 4+n*git.OIDSize {
		return // that was the length; the list follows
	}
	for b := s.head[4:]; len(b) > 0; b = b[git.OIDSize:] {
		s.lists[s.inList] = append(s.lists[s.inList], git.OID(b))
	}
	s.head = s.head[:0]
	if s.inList++; s.inList == len(s.lists) {
		s.begin()
	}
}

// finish checks that the answer was whole.
func (s *answerSink) finish() error {
	if !s.past {
		return fmt.Errorf("answer ends before its pack: %w", errkind.Internal)
	}
	return nil
}
