package odb

import (
	"context"
	"math"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// ReachedAnyway is Reached, however much of the store it looks into.
func (s *Store) ReachedAnyway(ctx context.Context, tips []git.OID) (*Set, bool, error) {
	return s.reached(ctx, tips, math.MaxInt)
}

// WithLimits makes WritePack look at its context every step entries, and remember where shifts pieces went.
func (o WriteOptions) WithLimits(step, shifts int) WriteOptions {
	o.step, o.shifts = pack.Pos(step), shifts
	return o
}
