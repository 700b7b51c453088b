package cell

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
)

// maxFindings bounds what Verify lists: with one defect there are often thousands.
const maxFindings = 100

// Verify reads everything: each pack, index, table and reference. It returns all it finds wrong, up to a limit, as one
// error. Progress, which may be nil, hears how far it is with what.
//
//  1. Each pack, those set aside as well: every entry, object ID, row of the table, checksum.
//  2. Each link: what an object names is there, and is of the right kind. What nothing names is a root.
//  3. Each reference names an object of a kind that it may name, and is in nobody's way.
//  4. The database says what is in memory.
func (c *Cell) Verify(ctx context.Context, progress func(what string, done, total int)) error {
	defer c.Hold()()
	if progress == nil {
		progress = func(string, int, int) {}
	}
	v := &verifier{cell: c, st: c.state.Load(), progress: progress}
	for _, stage := range []func(context.Context){v.packs, v.links, v.references, v.database} {
		if stage(ctx); ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.Join(v.found...)
}

type verifier struct {
	cell     *Cell
	st       *state
	progress func(what string, done, total int)
	found    []error
	named    *odb.Set
}

func (v *verifier) report(format string, args ...any) {
	if len(v.found) < maxFindings {
		v.found = append(v.found, fmt.Errorf(format, args...))
	}
}

func (v *verifier) packs(ctx context.Context) {
	for i, p := range v.st.packs {
		err := p.pack.Verify(ctx, func(done, total int) {
			v.progress(fmt.Sprintf("pack %d of %d", i+1, len(v.st.packs)), done, total)
		})
		if err != nil {
			v.report("pack %s: %w", p.row.checksum, err)
		}
	}
	for _, row := range v.st.aside {
		p, err := v.cell.openAside(ctx, row)
		if err == nil {
			err = p.pack.Verify(ctx, func(done, total int) { v.progress("pack set aside", done, total) })
			p.close()
		}
		if err != nil {
			v.report("pack %s, set aside: %w", row.checksum, err)
		}
	}
}

// links goes through each object once, at its canonical place.
func (v *verifier) links(ctx context.Context) {
	s := v.st.objects
	v.named = odb.NewSet(s)
	all := odb.NewSet(s)
	all.AddAll(s)
	done := 0
	for i, p := range s.Packs() {
		for at := range all.InPack(i) {
			if done%1000 == 0 {
				if v.progress("links", done, all.Len()); ctx.Err() != nil {
					return
				}
			}
			done++
			if k := p.Kind(at); k != git.Blob {
				if err := v.linksOf(odb.Place{Pack: i, Pos: at}, k); err != nil {
					v.report("%s %s: %w", k, p.OID(at), err)
				}
			}
		}
	}
	v.progress("links", done, all.Len())
	all.AndNot(v.named)
	roots := set(s.Roots())
	for at := range all.All() {
		if o := s.OID(at); !roots[o] {
			v.report("object %s is named by none and is not among the roots", o)
		}
	}
	for o := range roots {
		if !s.Has(o) {
			v.report("root %s is not there", o)
		}
	}
}

func (v *verifier) linksOf(at odb.Place, k git.Kind) error {
	o, err := v.st.objects.ReadAt(at)
	if err != nil {
		return err
	}
	switch k {
	case git.Commit:
		tree, parents, _, err := git.CommitLinks(o.Data, nil)
		if err != nil {
			return err
		}
		v.link(v.oid(at), tree, git.Tree)
		for _, p := range parents {
			v.link(v.oid(at), p, git.Commit)
		}
	case git.Tree:
		for e, err := range git.TreeEntries(o.Data) {
			if err != nil {
				return err
			}
			if e.Mode != git.ModeGitlink {
				v.link(v.oid(at), e.OID, e.Mode.Kind())
			}
		}
	case git.Tag:
		target, kind, err := git.TagLink(o.Data)
		if err != nil {
			return err
		}
		v.link(v.oid(at), target, kind)
	case git.Blob:
	}
	return nil
}

func (v *verifier) oid(at odb.Place) git.OID { return v.st.objects.OID(at) }

func (v *verifier) link(from, to git.OID, k git.Kind) {
	at, ok := v.st.objects.Find(to)
	switch {
	case !ok:
		v.report("object %s names %s, which is missing", from, to)
	case v.st.objects.Kind(at) != k:
		v.report("object %s names %s as a %s, but it is a %s", from, to, k, v.st.objects.Kind(at))
	default:
		v.named.Add(at)
	}
}

func (v *verifier) references(context.Context) {
	refs, s := v.st.refs, v.st.objects
	if !refs.Head.IsBranch() {
		v.report("HEAD names %q", refs.Head)
	}
	for _, r := range refs.List() {
		if _, err := git.ParseRefName(string(r.Name)); err != nil {
			v.report("reference: %w", err)
		}
		val := lookUp(s, r.OID)
		switch {
		case val.err != nil:
			v.report("%s: %w", r.Name, val.err)
		case r.Name.IsBranch() && val.kind != git.Commit:
			v.report("%s names a %s", r.Name, val.kind)
		case val.peeled != r.Peeled:
			v.report("%s leads to %s, not %s", r.Name, val.peeled, r.Peeled)
		}
		if in, blocked := refs.Blocker(r.Name); blocked {
			v.report("%s and %s exclude each other", r.Name, in)
		}
	}
}

// database compares what is in memory with what is on disk, while nobody writes.
func (v *verifier) database(ctx context.Context) {
	unlock, err := v.cell.lock(ctx)
	if err != nil {
		return
	}
	defer unlock()
	st := v.cell.state.Load()
	s, err := v.cell.database()
	if err != nil {
		v.report("%w", err)
		return
	}
	snap, err := s.load(ctx)
	if err != nil {
		v.report("%w", err)
		return
	}
	if snap.version != st.version || snap.head != st.refs.Head || !snap.settings.equal(st.settings) || !slices.Equal(snap.refs, st.refs.List()) {
		v.report("references or settings on disk are not those in memory")
	}
	if less, more := difference(snap.roots, st.objects.Roots()); len(less)+len(more) > 0 {
		v.report("roots on disk are not those in memory: %d more, %d less", len(less), len(more))
	}
	var packs []git.OID
	for _, p := range st.packs {
		packs = append(packs, p.row.checksum)
	}
	packs = append(packs, sums(st.aside)...)
	less, more := difference(sums(snap.packs), packs)
	if len(less)+len(more) > 0 || len(snap.packs) != len(packs) {
		v.report("packs on disk are not those in memory: %d more, %d less", len(less), len(more))
	}
}

func sums(rows []packRow) []git.OID {
	out := make([]git.OID, len(rows))
	for i := range rows {
		out[i] = rows[i].checksum
	}
	return out
}
