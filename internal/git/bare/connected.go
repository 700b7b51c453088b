package bare

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// checkConnected refuses updates whose new values lead to objects that are missing. Where only parents are, of commits at which the pusher's
// own history ends, receive.shallowUpdate lets this repository's history end there too.
func (p *push) checkConnected(ctx context.Context) error {
	tips := p.tips()
	g, err := revwalk.NewShallowGraph(p.store, p.state.shallow)
	if err != nil {
		return err
	}
	var deep *revwalk.Graph // in which the pusher's history ends where he says
	roots := map[git.OID]bool{}
	for i, u := range p.updates {
		if u.New.IsZero() || p.errs[i] != nil {
			continue
		}
		if !p.store.Has(u.New) {
			p.errs[i] = refused("missing necessary objects")
			continue
		}
		if _, err := g.Plan(ctx, revwalk.Request{Wants: []git.OID{u.New}, Haves: tips}); err == nil {
			continue
		}
		if deep == nil {
			if deep, err = revwalk.NewShallowGraph(p.store, p.withPushers(p.opts.Shallow)); err != nil {
				return err
			}
		}
		plan, err := deep.Plan(ctx, revwalk.Request{Wants: []git.OID{u.New}, Haves: tips, Depth: revwalk.Infinite})
		switch {
		case err != nil || len(p.opts.Shallow) == 0:
			p.errs[i] = refused("missing necessary objects")
		case !p.repo.config.Bool("receive.shallowupdate", false):
			p.errs[i] = refused("shallow update not allowed")
		default:
			for _, o := range plan.Shallow {
				roots[o] = true
			}
		}
	}
	p.newRoots = roots
	return nil
}

// tips are what the repository has whole.
func (p *push) tips() []git.OID {
	var tips []git.OID
	for _, ref := range p.state.view.Refs.List() {
		tips = append(tips, ref.OID)
	}
	tips = append(tips, p.state.view.Others...)
	return slices.DeleteFunc(tips, func(o git.OID) bool { return !p.store.Has(o) })
}

func (p *push) withPushers(list []git.OID) map[git.OID]bool {
	all := maps.Clone(p.state.shallow)
	if all == nil {
		all = map[git.OID]bool{}
	}
	for _, o := range list {
		all[o] = true
	}
	return all
}

// writeShallow adds the commits at which history ends from now on.
func (p *push) writeShallow() error {
	if len(p.newRoots) == 0 {
		return nil
	}
	path := p.repo.shallowFile()
	l, err := lock(path, packedLockWait)
	if err != nil {
		return fmt.Errorf("lock the list of shallow commits: %w", err)
	}
	now := p.repo.readShallow() // it may have grown since
	all := map[git.OID]bool{}
	maps.Copy(all, now)
	maps.Copy(all, p.newRoots)
	var b strings.Builder
	for _, o := range slices.SortedFunc(maps.Keys(all), git.OID.Compare) {
		b.WriteString(o.String() + "\n")
	}
	if _, err := l.f.WriteString(b.String()); err != nil {
		l.drop()
		return err
	}
	return l.commit()
}
