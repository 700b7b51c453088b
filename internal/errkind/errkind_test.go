package errkind_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
)

func TestOf(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want errkind.Kind
	}{
		{"nothing", nil, errkind.Internal},
		{"no kind", errors.New("disk is on fire"), errkind.Internal},
		{"itself", errkind.Exists, errkind.Exists},
		{"wrapped", fmt.Errorf("create: %w", fmt.Errorf("name x: %w", errkind.Conflict)), errkind.Conflict},
		{"hidden", fmt.Errorf("create: %v", errkind.Conflict), errkind.Internal}, //nolint:errorlint // to hide it is the point
		{"joined", errors.Join(errors.New("x"), errkind.TooLarge), errkind.TooLarge},
		{"the outer first", fmt.Errorf("%w: %w", errkind.Invalid, errkind.NotFound), errkind.Invalid},
	}
	for _, tt := range tests {
		if got := errkind.Of(tt.err); got != tt.want {
			t.Errorf("%s: Of(%v) = %v, want %v", tt.name, tt.err, got, tt.want)
		}
		if tt.want != errkind.Internal && !errors.Is(tt.err, tt.want) {
			t.Errorf("%s: errors.Is(%v, %v) = false", tt.name, tt.err, tt.want)
		}
	}
}

func TestEveryKindHasItsText(t *testing.T) {
	seen := map[string]errkind.Kind{}
	for k := errkind.Internal; k <= errkind.Unsupported; k++ {
		text := k.Error()
		if other, ok := seen[text]; ok || text == "" {
			t.Errorf("kinds %d and %d have the text %q", k, other, text)
		}
		seen[text] = k
	}
}
