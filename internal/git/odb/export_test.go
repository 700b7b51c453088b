package odb

import "github.com/skep-dev/skep/internal/git/pack"

// WithLimits makes WritePack look at its context every step entries, and remember where shifts pieces went.
func (o WriteOptions) WithLimits(step, shifts int) WriteOptions {
	o.step, o.shifts = pack.Pos(step), shifts
	return o
}
