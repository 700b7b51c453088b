// Package valuetest draws values for property tests.
package valuetest

import (
	"math"

	"pgregory.net/rapid"
)

// Scalar draws a value that is neither a list nor a map, nor nil.
func Scalar() *rapid.Generator[any] {
	return rapid.OneOf(
		rapid.Bool().AsAny(),
		rapid.Int64().AsAny(),
		rapid.Custom(func(t *rapid.T) float64 {
			f := rapid.Float64().Filter(func(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }).Draw(t, "float")
			if f == 0 {
				return 0
			}
			return f
		}).AsAny(),
		rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "no", "on", "null", "~", "0777", "1e3", "2024-01-01", "a\nb", "\t x ", "\"", "\u0000", "\u2028", "${x}", "%{x}"})).AsAny(),
	)
}

// Any draws any value, some levels deep.
func Any() *rapid.Generator[any] { return nested(3) }

func nested(depth int) *rapid.Generator[any] {
	scalar := rapid.OneOf(Scalar(), rapid.Just[any](nil))
	if depth == 0 {
		return scalar
	}
	return rapid.OneOf(
		scalar,
		rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[any] { return nested(depth - 1) }), 0, 4).AsAny(),
		rapid.MapOfN(rapid.String(), rapid.Deferred(func() *rapid.Generator[any] { return nested(depth - 1) }), 0, 4).AsAny(),
	)
}
