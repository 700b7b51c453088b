package cell

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
)

// draft is the next state in the making, and the changes that lead to it from the state before. Its version is that of
// the state before.
type draft struct {
	state
	cell    *Cell
	changes []change
	opened  []*livePack // for this draft: closed if it fails
	retired []*livePack // no longer in it: closed in time if it succeeds
}

func (c *Cell) newDraft() *draft { return &draft{state: *c.state.Load(), cell: c} }

// take judges a push and, unless nothing of it is left, takes it into the draft: its pack, and the references that may
// move. The pack goes with whatever succeeds; a push of which nothing does leaves nothing.
func (d *draft) take(ctx context.Context, p *push) ([]error, error) {
	if p.q != nil && !d.extends(p.q.Store, p.hasPack()) {
		// The repository moved on. What the pack lacks must be there still, and the roots are others.
		if err := p.q.Rebase(d.objects); err != nil {
			return nil, fmt.Errorf("repository was compacted meanwhile, push again: %w: %w", internal(err), errkind.Unavailable)
		}
	}
	moves, errs := d.judge(p)
	if p.opts.Atomic && failAll(errs) || len(moves) == 0 {
		return errs, nil
	}
	ch := change{}
	if p.hasPack() && !d.redundant(p) {
		if err := d.addPack(ctx, p, &ch); err != nil {
			return nil, err
		}
	}
	d.moveRefs(p, moves, &ch)
	d.changes = append(d.changes, ch)
	return errs, nil
}

// failAll gives all the fate of one. It reports whether there was one that failed.
func failAll(errs []error) bool {
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return false
	}
	for i, err := range errs {
		if err == nil {
			errs[i] = fmt.Errorf("atomic push failure: %w", errkind.Invalid)
		}
	}
	return true
}

// extends reports whether a quarantine's store is the draft's with, perhaps, one more pack.
func (d *draft) extends(s *odb.Store, more bool) bool {
	packs := s.Packs()
	if more {
		packs = packs[:len(packs)-1]
	}
	return slices.Equal(packs, d.objects.Packs())
}

// redundant reports whether the draft has every object of the pack already: two clients pushed the same.
func (d *draft) redundant(p *push) bool {
	for i := range p.q.Pack.Len() {
		if !d.objects.Has(p.q.Pack.OID(pack.Pos(i))) {
			return false
		}
	}
	return true
}

// addPack brings the push's pack into its place and into the draft.
func (d *draft) addPack(ctx context.Context, p *push, ch *change) error {
	row, lp, err := d.cell.land(ctx, p.q.Received, d.nextID())
	if err != nil {
		return fmt.Errorf("store pack: %w", err)
	}
	d.opened = append(d.opened, lp)
	ch.addPacks = []packRow{row}
	ch.dropRoots, ch.addRoots = p.q.Covers, p.q.NewRoots
	if w := d.cell.watching.Load(); w != nil {
		for _, l := range p.q.Outside {
			w.outside = append(w.outside, l.OID)
		}
	}
	d.packs = append(slices.Clip(d.packs), lp)
	d.objects = d.objects.With(lp.pack, p.q.Store.Roots())
	d.graph = d.graph.next(d.objects)
	return nil
}

// moveRefs brings accepted moves into the draft.
func (d *draft) moveRefs(p *push, moves []refChange, ch *change) {
	at := now()
	refs := make([]git.Ref, 0, len(moves))
	for _, m := range moves {
		refs = append(refs, m.Ref)
		ch.log = append(ch.log, RefLogEntry{At: at, Actor: p.opts.Actor, Message: p.opts.Message, Name: m.Name, Old: m.old, New: m.OID})
	}
	ch.refs = moves
	covered := set(ch.dropRoots)
	for _, m := range moves {
		if !m.old.IsZero() && !covered[m.old] {
			d.backwards = true // perhaps: a compaction finds out
		}
	}
	empty := !d.hasBranches()
	d.refs = d.refs.With(refs)
	if head, ok := firstBranch(d.refs); empty && p.born && ok {
		d.refs = d.refs.WithHead(head)
		ch.head = head
	}
}

func (d *draft) hasBranches() bool { return len(d.refs.Prefix("refs/heads/")) > 0 }

func (d *draft) setHead(branch git.RefName) {
	d.refs = d.refs.WithHead(branch)
	d.changes = append(d.changes, change{head: branch})
}

// firstBranch says which branch HEAD should name now that a repository has got its first branches and HEAD's is not
// among them: the only one, or the one that is called as first branches are. A clone would otherwise check out nothing.
func firstBranch(refs *git.Refs) (git.RefName, bool) {
	if _, ok := refs.HeadRef(); ok {
		return "", false
	}
	branches := refs.Prefix("refs/heads/")
	if len(branches) == 1 {
		return branches[0].Name, true
	}
	for _, name := range []string{"main", "master"} {
		if _, ok := refs.Get(git.Branch(name)); ok {
			return git.Branch(name), true
		}
	}
	return "", false
}

// judge says which updates of a push may be done. Deletions come first, so that a push may put refs/heads/a/b where
// refs/heads/a was.
func (d *draft) judge(p *push) (moves []refChange, errs []error) {
	j := &judge{
		draft: d, push: p, refs: d.refs,
		seen: make(map[git.RefName]bool, len(p.updates)), made: map[git.RefName]bool{}, folders: map[git.RefName]git.RefName{},
	}
	errs = make([]error, len(p.updates))
	var gone []git.Ref
	for i, u := range p.updates {
		if u.New.IsZero() {
			if errs[i] = j.remove(u); errs[i] == nil {
				gone = append(gone, git.Ref{Name: u.Name})
			}
		}
	}
	if len(gone) > 0 {
		j.refs = d.refs.With(gone)
	}
	for i, u := range p.updates {
		if !u.New.IsZero() {
			errs[i] = j.set(u)
		}
	}
	return j.moves, errs
}

// judge is the judgement of one push.
type judge struct {
	*draft
	push    *push
	refs    *git.Refs // after the deletions
	seen    map[git.RefName]bool
	made    map[git.RefName]bool        // references that this push makes
	folders map[git.RefName]git.RefName // folders they are in, and one of them for each
	moves   []refChange
}

// common checks what holds for all updates. It reports whether there is anything to do.
func (j *judge) common(u git.RefUpdate) (bool, error) {
	if _, err := git.ParseRefName(string(u.Name)); err != nil { // the second lock on the door
		return false, err
	}
	if j.seen[u.Name] {
		return false, fmt.Errorf("multiple updates for ref %s: %w", u.Name, errkind.Invalid)
	}
	j.seen[u.Name] = true
	cur, exists := j.draft.refs.Get(u.Name)
	switch {
	case cur.OID == u.Old:
		return u.Old != u.New, nil
	case u.Old.IsZero():
		return false, fmt.Errorf("reference already exists: %w", errkind.Exists)
	case !exists:
		return false, fmt.Errorf("reference does not exist: %w", errkind.Conflict)
	}
	return false, fmt.Errorf("fetch first: %w", errkind.Conflict)
}

func (j *judge) remove(u git.RefUpdate) error {
	todo, err := j.common(u)
	switch {
	case err != nil || !todo:
		return err
	case j.push.refused[u] != nil:
		return j.push.refused[u]
	case j.settings.DenyDeletes:
		return fmt.Errorf("deletion prohibited: %w", errkind.Forbidden)
	case u.Name == j.refs.Head:
		return fmt.Errorf("deletion of the current branch prohibited: %w", errkind.Forbidden)
	}
	j.moves = append(j.moves, refChange{old: u.Old, Ref: git.Ref{Name: u.Name}})
	return nil
}

func (j *judge) set(u git.RefUpdate) error {
	todo, err := j.common(u)
	if err != nil {
		return err
	}
	v := j.push.values[u.New]
	switch {
	case v.err != nil:
		return v.err
	case !j.has(u.New):
		return fmt.Errorf("object %s: %w", u.New, errkind.NotFound)
	case u.Name.IsBranch() && v.kind != git.Commit:
		return fmt.Errorf("a branch must name a commit, not a %s: %w", v.kind, errkind.Invalid)
	case j.push.refused[u] != nil:
		return j.push.refused[u]
	case !todo:
		return nil
	}
	if u.Old.IsZero() {
		if in := j.inTheWay(u.Name); in != "" {
			return fmt.Errorf("'%s' exists; cannot create '%s': %w", in, u.Name, errkind.Conflict)
		}
		j.made[u.Name] = true
		for dir := range folders(u.Name) {
			j.folders[dir] = u.Name
		}
	}
	j.moves = append(j.moves, refChange{old: u.Old, Ref: git.Ref{Name: u.Name, OID: u.New, Peeled: v.peeled}})
	return nil
}

// has reports whether an object is in the repository or comes with the push.
func (j *judge) has(o git.OID) bool {
	if j.push.q != nil {
		if _, ok := j.push.q.Pack.Find(o); ok {
			return true
		}
	}
	return j.objects.Has(o)
}

// inTheWay finds a reference, old or of this push, that is a folder of name or has name as a folder.
func (j *judge) inTheWay(name git.RefName) git.RefName {
	if b, blocked := j.refs.Blocker(name); blocked {
		return b
	}
	if b, ok := j.folders[name]; ok {
		return b
	}
	for dir := range folders(name) {
		if j.made[dir] {
			return dir
		}
	}
	return ""
}

// folders yields refs/heads/a and refs/heads of refs/heads/a/b.
func folders(name git.RefName) iter.Seq[git.RefName] {
	return func(yield func(git.RefName) bool) {
		for i, b := range []byte(name) {
			if b == '/' && i > len("refs") && !yield(name[:i]) {
				return
			}
		}
	}
}
