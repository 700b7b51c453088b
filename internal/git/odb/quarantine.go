package odb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// Quarantine is a received pack together with the store it would join.
type Quarantine struct {
	*pack.Received
	Store *Store // what the repository would be with the pack: for checks before references move
	// Covers are the roots of the old store that the new pack names, so that they are roots no longer. They are not known
	// when the roots of the old store are not.
	Covers []git.OID
	// NewRoots are the pack's own roots that the old store lacks.
	NewRoots []git.OID
}

// Receive takes a pack into quarantine and checks connectivity: every object that one of its objects names must be in
// the pack or in s. As that holds for each pack that ever came in, no object of a store lacks a link, and any object in
// the store may become the value of a reference.
//
// A thin pack is completed from s. A pack without objects is legal (git sends one to make a
// reference to what is there already); its quarantine's Store is s itself.
func (s *Store) Receive(ctx context.Context, r io.Reader, opts pack.ReceiveOptions) (*Quarantine, error) {
	received, err := pack.Receive(ctx, r, s.Completing(opts))
	if err != nil {
		return nil, err
	}
	q := &Quarantine{Received: received}
	if err := q.Rebase(s); err != nil {
		return nil, errors.Join(err, received.Close())
	}
	return q, nil
}

// Completing adds to the options that thin packs are completed from s.
func (s *Store) Completing(opts pack.ReceiveOptions) pack.ReceiveOptions {
	opts.Base, opts.OpenBase = s.base, s.Open
	return opts
}

// base finds a delta base for a thin pack.
func (s *Store) base(o git.OID) (git.Object, bool, error) {
	at, ok := s.Find(o)
	if !ok {
		return git.Object{}, false, nil
	}
	obj, err := s.ReadAt(at)
	return obj, err == nil, err
}

// Rebase checks the pack against another store and computes Store, Covers and NewRoots for it. Whoever takes the pack
// into a repository calls it when the repository has moved on since Receive: the roots of a store are right only if each
// pack's were computed on the store that it joins.
func (q *Quarantine) Rebase(s *Store) error {
	if err := q.checkLinks(s); err != nil {
		return err
	}
	q.Covers, q.NewRoots = nil, make([]git.OID, 0, len(q.Roots))
	for _, o := range s.roots {
		if q.names(o) {
			q.Covers = append(q.Covers, o)
		}
	}
	for _, o := range q.Roots {
		if !s.Has(o) {
			q.NewRoots = append(q.NewRoots, o)
		}
	}
	if q.Pack.Len() == 0 {
		q.Store = s
		return nil
	}
	q.Store = s.With(q.Pack, q.joinRoots(s.roots, len(s.packs) == 0))
	return nil
}

// checkLinks sees that each object that the pack's objects name and the pack lacks is in s, as what it must be.
func (q *Quarantine) checkLinks(s *Store) error {
	for _, l := range q.Outside {
		at, ok := s.Find(l.OID)
		if !ok {
			return &MissingError{OID: l.OID, By: q.describe(l.From)}
		}
		if k := s.Kind(at); l.Kind != 0 && k != l.Kind {
			return fmt.Errorf("object %s is a %s, but %s names it as a %s: %w",
				l.OID, k, q.describe(l.From), l.Kind, errkind.Invalid)
		}
	}
	return nil
}

// MissingError says that a pack names an object that neither it nor the store has.
type MissingError struct {
	OID git.OID
	By  string // what names it: "commit 1234…"
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("missing object %s, which %s names: %v", e.OID, e.By, errkind.Invalid)
}

// Unwrap gives the kind.
func (e *MissingError) Unwrap() error { return errkind.Invalid }

// describe words one of the pack's objects for the person who pushes: "commit 1234…".
func (q *Quarantine) describe(o git.OID) string {
	if at, ok := q.Pack.Find(o); ok {
		return q.Pack.Kind(at).String() + " " + o.String()
	}
	return "object " + o.String()
}

// names reports whether an object of the pack names o.
func (q *Quarantine) names(o git.OID) bool {
	if _, outside := slices.BinarySearchFunc(q.Outside, o, func(l pack.Link, o git.OID) int { return l.OID.Compare(o) }); outside {
		return true
	}
	if _, inside := q.Pack.Find(o); !inside {
		return false
	}
	_, root := slices.BinarySearchFunc(q.Roots, o, git.OID.Compare)
	return !root
}

// joinRoots returns the roots of the store with the pack. Roots that were not known stay so, unless the store was empty.
func (q *Quarantine) joinRoots(old []git.OID, empty bool) []git.OID {
	if old == nil && !empty {
		return nil
	}
	covered := make(map[git.OID]bool, len(q.Covers))
	for _, o := range q.Covers {
		covered[o] = true
	}
	roots := make([]git.OID, 0, len(old)-len(q.Covers)+len(q.NewRoots))
	for _, o := range old {
		if !covered[o] {
			roots = append(roots, o)
		}
	}
	return append(roots, q.NewRoots...)
}
