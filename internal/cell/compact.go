package cell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

const (
	// maxTail is how many packs may lie behind those in geometric order before they are merged: each costs every look-up
	// a search, and each merge costs a sync.
	maxTail = 8
	// ratio is how much larger a pack stays than all newer ones together. With 2, a byte is written anew about as often
	// as the repository doubles.
	ratio = 2
)

// Compact merges packs and, when references have moved backwards, sets what they no longer reach aside. One runs at a
// time; a second one waits. Readers are not held up, and the writer only while the catalogue changes.
//
//  1. keep house: note since when which roots are named by no reference; drop packs set aside longer ago than Grace.
//  2. If a root has been loose for SettleAfter (longer in large repositories), find all that no reference leads to. Write
//     the packs from the first that has some of it as two: what stays, and what is set aside.
//  3. Otherwise merge the newest packs, as far back as one is not at least twice as large as all newer ones together.
//     The merged pack has the place of the oldest of them.
//
// What is written goes through pack.Receive like a push: each object is hashed again, and no link may be missing. A crash
// leaves the old packs, or the new ones, and perhaps files that are swept.
func (c *Cell) Compact(ctx context.Context) error {
	select {
	case c.compaction <- struct{}{}:
		defer func() { <-c.compaction }()
	case <-ctx.Done():
		return ctx.Err()
	}
	defer c.Hold()()
	due, err := c.keepHouse(ctx)
	if err == nil && due {
		err = c.setAside(ctx)
	} else if err == nil {
		err = c.merge(ctx)
	}
	if err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	return nil
}

// NeedsCompaction reports whether Compact would find something to do.
func (c *Cell) NeedsCompaction() bool {
	st := c.state.Load()
	if st.backwards || worthMerging(st.packs) {
		return true
	}
	if !st.loosest.IsZero() && time.Since(st.loosest) >= c.settle(st) {
		return true
	}
	return slices.ContainsFunc(st.aside, c.expired)
}

// settleBytes is the size of a repository for which SettleAfter is meant. To find what is unreachable takes a walk, and a
// new copy of perhaps all of it; what is n times as large waits n times as long.
const settleBytes = 128 << 20

func (c *Cell) settle(st *state) time.Duration {
	bytes := int64(0)
	for _, p := range st.packs {
		bytes += p.row.size
	}
	return c.opts.SettleAfter * time.Duration(1+bytes/settleBytes)
}

func (c *Cell) expired(r packRow) bool { return time.Since(r.aside) >= c.opts.Grace }

// keepHouse is step 1. It reports whether step 2 is due. A root is an object that no other names, so that it is reachable
// only if a reference names it: no walk is needed to find what was left behind.
func (c *Cell) keepHouse(ctx context.Context) (due bool, err error) {
	unlock, err := c.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	s, err := c.database()
	if err != nil {
		return false, err
	}
	known, err := s.looseRoots(ctx)
	if err != nil {
		return false, err
	}
	var dropped []packRow
	err = c.write(context.WithoutCancel(ctx), func(d *draft) error {
		ch := change{looseAt: now()}
		due = d.findLoose(known, &ch)
		if dropped = slices.DeleteFunc(slices.Clone(d.aside), func(r packRow) bool { return !c.expired(r) }); len(dropped) > 0 {
			d.aside = slices.DeleteFunc(slices.Clone(d.aside), c.expired)
			ch.dropPacks = ids(dropped)
		}
		if d.backwards || len(ch.loose)+len(ch.tied)+len(dropped) > 0 {
			d.backwards = false
			d.changes = append(d.changes, ch)
		}
		return nil
	})
	if err == nil {
		c.removeFiles(dropped)
	}
	return due, err
}

// findLoose compares the roots with the references and with what was known of them.
func (d *draft) findLoose(known map[git.OID]time.Time, ch *change) (due bool) {
	named := make(map[git.OID]bool, d.refs.Len())
	for _, r := range d.refs.List() {
		named[r.OID] = true
	}
	d.loosest = time.Time{}
	for _, o := range d.objects.Roots() {
		since, wasLoose := known[o]
		switch {
		case named[o] && wasLoose:
			ch.tied = append(ch.tied, o)
			continue
		case named[o]:
			continue
		case !wasLoose:
			ch.loose = append(ch.loose, o)
			since = ch.looseAt
		}
		if time.Since(since) >= d.cell.settle(&d.state) {
			due = true
		}
		if d.loosest.IsZero() || since.Before(d.loosest) {
			d.loosest = since
		}
	}
	return due
}

// merge is step 3.
func (c *Cell) merge(ctx context.Context) error {
	st := c.state.Load()
	if !worthMerging(st.packs) {
		return nil
	}
	from := tailStart(st.packs)
	set := odb.NewSet(st.objects)
	set.AddAll(st.objects)
	merged, err := c.rewrite(ctx, st, from, set)
	if err != nil {
		return err
	}
	return c.install(ctx, st, &replacement{from: from, keep: merged})
}

// worthMerging reports whether the packs behind those in geometric order are too many, or large.
func worthMerging(packs []*livePack) bool {
	tail := packs[tailStart(packs):]
	warm := 0
	for _, p := range tail {
		if !p.row.hot {
			warm++
		}
	}
	return len(tail) > maxTail || warm > 1
}

// tailStart finds the first pack that is not at least ratio times as large as all behind it. If all are, it is the last
// one: a tail of one has nothing to merge.
func tailStart(packs []*livePack) int {
	start := max(0, len(packs)-1)
	var newer int64
	for i, p := range slices.Backward(packs) {
		if p.row.size < ratio*newer {
			start = i
		}
		newer += p.row.size
	}
	return start
}

// rewritten is a pack that landed but is not in the catalogue yet.
type rewritten struct {
	row     packRow // with data
	live    *livePack
	roots   []git.OID   // its own
	outside []pack.Link // what it needs
}

// rewrite writes those objects of a set that the first packs lack as the pack that takes the place of the others. It goes
// the way of a push of them: deltas on objects of the first packs stay, and their bases are appended. It returns nil if
// there are none.
func (c *Cell) rewrite(ctx context.Context, st *state, from int, set *odb.Set) (*rewritten, error) {
	first := odb.NewStore(gitPacks(st.packs[:from]), nil, c.opts.Objects)
	base := given{store: first, set: odb.NewSet(first)}
	base.set.AddAll(first)
	set.AndNot(base.set)
	if set.Len() == 0 {
		return nil, nil //nolint:nilnil // there is nothing to write
	}
	return c.writeAgain(ctx, st.objects, set, base, st.packs[from].row.id)
}

// given are all the objects of some packs, that deltas of a new one may stand on.
type given struct {
	store *odb.Store
	set   *odb.Set
}

// writeAgain writes objects of a store as a new pack and brings it into its place.
func (c *Cell) writeAgain(ctx context.Context, s *odb.Store, set *odb.Set, base given, id int64) (_ *rewritten, err error) {
	received, err := c.receiveAgain(ctx, s, set, base)
	if err != nil {
		return nil, fmt.Errorf("rewrite %d objects: %w", set.Len(), internal(err))
	}
	defer func() { err = errors.Join(err, received.Close()) }()
	if err := c.opts.fault("rewritten"); err != nil {
		return nil, err
	}
	row, live, err := c.land(ctx, received, id)
	if err != nil {
		return nil, err
	}
	return &rewritten{row: row, live: live, roots: received.Roots, outside: slices.Clone(received.Outside)}, nil
}

// receiveAgain pipes a new pack of stored objects into quarantine.
func (c *Cell) receiveAgain(ctx context.Context, s *odb.Store, set *odb.Set, base given) (*pack.Received, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, err := s.WritePack(ctx, w, set, odb.WriteOptions{OfsDelta: true, Given: base.set})
		w.CloseWithError(err)
	}()
	defer func() {
		r.CloseWithError(io.ErrClosedPipe) // lets go of the goroutine when Receive gave up
		<-written
	}()
	return pack.Receive(ctx, bufio.NewReaderSize(r, 256<<10), base.store.Completing(pack.ReceiveOptions{
		Dir:        c.opts.TempDir,
		Room:       c.opts.Room,
		MemoryPack: maxHot,
		// What was taken in is taken in again, whatever it adds up to.
		MaxPackBytes:   math.MaxInt64,
		MaxObjectBytes: math.MaxUint32,
		MaxTotalBytes:  math.MaxInt64,
		MaxObjects:     math.MaxUint32,
		MaxRoots:       math.MaxInt,
	}))
}

// watch notes, while packs are being set aside, what packs that come meanwhile need of the old ones.
type watch struct {
	outside []git.OID
}

// setAside is step 2. Only packs from the first that has something to drop are written anew: what people throw away is
// mostly young, and the old packs are large.
func (c *Cell) setAside(ctx context.Context) error {
	st, w, err := c.startWatch(ctx)
	if err != nil {
		return err
	}
	defer c.watching.Store(nil)
	graph, err := st.graph.get()
	if err != nil {
		return err
	}
	named := values(st.refs)
	live, err := graph.Reachable(ctx, named)
	if err != nil {
		return err
	}
	dead := odb.NewSet(st.objects)
	dead.AddAll(st.objects)
	dead.AndNot(live)
	r := &replacement{from: firstWith(dead, len(st.packs)), watch: w}
	if err := c.divide(ctx, st, dead, r); err != nil {
		c.unland(r.fresh()...)
		return err
	}
	// What is left is reachable from references, so what no object names is a reference's value: one that was a root
	// before, or one that only dead objects named. Of the latter some may be named by the living as well. That is no harm:
	// whoever has all roots still has everything.
	isValue := set(named)
	for _, o := range st.objects.Roots() {
		if at, ok := st.objects.Find(o); ok && isValue[o] && live.Has(at) {
			r.rootsLeft = append(r.rootsLeft, o)
		}
	}
	if r.aside != nil {
		for _, l := range r.aside.outside {
			if isValue[l.OID] {
				r.rootsLeft = append(r.rootsLeft, l.OID)
			}
		}
	}
	return c.install(ctx, st, r)
}

// firstWith finds the first pack that has objects of a set.
func firstWith(s *odb.Set, packs int) int {
	for i := range packs {
		if s.PackLen(i) > 0 {
			return i
		}
	}
	return packs
}

// divide writes the packs from r.from on anew: as one of what stays, and one of what does not.
func (c *Cell) divide(ctx context.Context, st *state, dead *odb.Set, r *replacement) (err error) {
	if dead.Len() == 0 {
		return nil // the roots that were loose are named after all
	}
	stay := odb.NewSet(st.objects)
	stay.AddAll(st.objects)
	stay.AndNot(dead)
	if r.keep, err = c.rewrite(ctx, st, r.from, stay); err != nil {
		return err
	}
	if r.keep != nil {
		for _, l := range r.keep.outside {
			if at, ok := st.objects.Find(l.OID); !ok || dead.Has(at) {
				return fmt.Errorf("what references lead to lacks object %s, which %s names", l.OID, l.From)
			}
		}
	}
	nothing := given{store: odb.NewStore(nil, nil, nil)} // it is to be whole by itself
	r.aside, err = c.writeAgain(ctx, st.objects, dead, nothing, 0)
	return err
}

// startWatch returns the state from which on packs that come are watched.
func (c *Cell) startWatch(ctx context.Context) (*state, *watch, error) {
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	w := &watch{}
	c.watching.Store(w)
	return c.state.Load(), w, nil
}

func values(refs *git.Refs) []git.OID {
	seen := make(map[git.OID]bool, refs.Len())
	var out []git.OID
	for _, r := range refs.List() {
		if !seen[r.OID] {
			seen[r.OID] = true
			out = append(out, r.OID)
		}
	}
	return out
}

// replacement is what takes the place of a state's packs.
type replacement struct {
	from  int        // the first that goes; all behind it go as well
	keep  *rewritten // nil: nothing is left
	aside *rewritten // what no reference leads to

	// When objects are dropped:
	rootsLeft []git.OID
	watch     *watch // what came meanwhile
}

func (r *replacement) fresh() (out []*livePack) {
	for _, n := range []*rewritten{r.keep, r.aside} {
		if n != nil {
			out = append(out, n.live)
		}
	}
	return out
}

// packs are those of a state after the replacement. The ones that came since st are behind those that go.
func (r *replacement) packs(st *state, now []*livePack) []*livePack {
	out := slices.Clone(now[:r.from])
	if r.keep != nil {
		out = append(out, r.keep.live)
	}
	return append(out, now[len(st.packs):]...)
}

// install puts a replacement into the catalogue, in one transaction, and then removes the files of what it replaces.
func (c *Cell) install(ctx context.Context, st *state, r *replacement) error {
	graph, err := c.prepareInstall(ctx, st, r)
	if err != nil {
		c.unland(r.fresh()...)
		return err
	}
	c.turn <- struct{}{} // short, and the work is done: it is not worth giving up
	defer func() { <-c.turn }()
	err = c.write(context.WithoutCancel(ctx), func(d *draft) error {
		d.opened = r.fresh()
		return d.replace(st, r, graph)
	})
	if r.aside != nil && err == nil {
		r.aside.live.close() // no view has it
	}
	if !c.suspect { // else reload sweeps
		c.removeFiles(rows(st.packs[r.from:]))
		c.removeFiles(rows(r.fresh())) // those that came into no row, after a failure
	}
	return err
}

// prepareInstall does what needs no turn.
func (c *Cell) prepareInstall(ctx context.Context, st *state, r *replacement) (*revwalk.Graph, error) {
	// Views that are in use may not have read these yet, and cannot once the rows are gone.
	for _, p := range st.packs[r.from:] {
		if p.hot != nil {
			if _, err := p.hot.load(ctx); err != nil {
				return nil, err
			}
		}
	}
	// If the present graph was ever needed, readers would have to wait for the new one.
	if st.graph.built.Load() == nil {
		return nil, nil
	}
	return revwalk.NewGraph(odb.NewStore(gitPacks(r.packs(st, st.packs)), nil, c.opts.Objects), nil)
}

// replace brings a replacement into the draft.
func (d *draft) replace(st *state, r *replacement, graph *revwalk.Graph) error {
	old := st.packs[r.from:]
	if len(d.packs) < len(st.packs) || !slices.Equal(d.packs[r.from:len(st.packs)], old) {
		return fmt.Errorf("packs changed under a compaction: %w", errkind.Conflict)
	}
	ch := change{dropPacks: ids(rows(old)), forgetLog: now().Add(-d.cell.opts.KeepLog)}
	if r.keep != nil {
		ch.addPacks = append(ch.addPacks, r.keep.row)
	}
	packs, roots := r.packs(st, d.packs), d.objects.Roots()
	if r.watch != nil {
		roots = r.roots(st.objects.Roots(), roots)
		ch.dropRoots, ch.addRoots = difference(d.objects.Roots(), roots)
		d.loosest = time.Time{}
	}
	objects := odb.NewStore(gitPacks(packs), roots, d.cell.opts.Objects)
	if r.watch != nil {
		if err := d.stillNeeded(objects, r.watch); err != nil {
			return err
		}
	}
	if r.aside != nil && d.cell.opts.Grace >= 0 {
		row := r.aside.row
		row.id, row.aside = d.nextID(), now()
		ch.addPacks = append(ch.addPacks, row)
		row.idx, row.table, row.data = nil, nil, nil
		d.aside = append(slices.Clip(d.aside), row)
	}
	d.packs, d.objects, d.graph = packs, objects, &lazyGraph{store: objects, prev: graph}
	d.retired = old
	d.changes = append(d.changes, ch)
	return nil
}

// stillNeeded sees that nothing that was dropped came into use meanwhile: a reference that went back to it, or a pack
// that names it.
func (d *draft) stillNeeded(objects *odb.Store, w *watch) error {
	for _, r := range d.refs.List() {
		if !objects.Has(r.OID) {
			return fmt.Errorf("%s went back to %s meanwhile: %w", r.Name, r.OID, errkind.Conflict)
		}
	}
	for _, o := range w.outside {
		if !objects.Has(o) {
			return fmt.Errorf("object %s came into use meanwhile: %w", o, errkind.Conflict)
		}
	}
	return nil
}

// roots returns those that are left, together with those that came meanwhile.
func (r *replacement) roots(before, now []git.OID) []git.OID {
	named := set(r.watch.outside)
	out := slices.DeleteFunc(slices.Clone(r.rootsLeft), func(o git.OID) bool { return named[o] })
	have := set(slices.Concat(before, out))
	for _, o := range now {
		if !have[o] {
			out = append(out, o)
		}
	}
	return out
}

// difference returns what only a has, and what only b has.
func difference(a, b []git.OID) (onlyA, onlyB []git.OID) {
	inA, inB := set(a), set(b)
	onlyA = slices.DeleteFunc(slices.Clone(a), func(o git.OID) bool { return inB[o] })
	onlyB = slices.DeleteFunc(slices.Clone(b), func(o git.OID) bool { return inA[o] })
	return onlyA, onlyB
}

func set(list []git.OID) map[git.OID]bool {
	m := make(map[git.OID]bool, len(list))
	for _, o := range list {
		m[o] = true
	}
	return m
}

func rows(packs []*livePack) []packRow {
	out := make([]packRow, len(packs))
	for i, p := range packs {
		out[i] = p.row
	}
	return out
}

func ids(rows []packRow) []int64 {
	out := make([]int64, len(rows))
	for i := range rows {
		out[i] = rows[i].id
	}
	return out
}

// restore brings back what a push's references shall name from what was set aside, by pushing it again: somebody undoes
// a deletion or a forced push within the time of grace. It does nothing if there is no such thing.
func (c *Cell) restore(ctx context.Context, updates []git.RefUpdate) (*odb.Quarantine, error) {
	st := c.state.Load()
	for _, row := range slices.Backward(st.aside) {
		q, err := c.restorePack(ctx, st, row, updates)
		if q != nil || err != nil {
			return q, err
		}
	}
	return nil, nil //nolint:nilnil // nothing found is no error
}

func (c *Cell) restorePack(ctx context.Context, st *state, row packRow, updates []git.RefUpdate) (*odb.Quarantine, error) {
	p, err := c.openAside(ctx, row)
	if err != nil {
		return nil, err
	}
	defer p.close()
	for _, u := range updates {
		if _, ok := p.pack.Find(u.New); ok && !st.objects.Has(u.New) {
			r := bufio.NewReaderSize(io.NewSectionReader(p.pack.ReaderAt(), 0, p.pack.Size()), 256<<10)
			return st.objects.Receive(ctx, r, c.receiveOptions())
		}
	}
	return nil, nil //nolint:nilnil // nothing found is no error
}

var _ protocol.Receiver = (*Cell)(nil)
