package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// Check reports what is wrong with a value of the field: its type, and whether it is within the range, among the allowed values and as
// the pattern says. Of a list or map that is asked of each element. v may be anything that Normalize takes; nil, which unsets the field,
// is always fine: whether a field may stay unset is asked of the merged state.
func (f *Field) Check(v any) error {
	if v == nil {
		return nil
	}
	n, err := f.Type.normalize(v)
	if err == nil {
		err = f.checkBounds(f.Type, n)
	}
	if err != nil {
		return fmt.Errorf("field %q: %w: %w", f.Name, err, errkind.Invalid)
	}
	return nil
}

func (f *Field) checkBounds(t Type, v any) error {
	if f.Low == nil && f.High == nil && f.Allowed == nil && f.pattern == nil {
		return nil
	}
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			if err := f.checkBounds(t.Element(), e); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return nil
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if err := f.checkBounds(t.Element(), v[key]); err != nil {
				return fmt.Errorf("[%s]: %w", quote(key), err)
			}
		}
		return nil
	}
	switch {
	case f.Low != nil && Compare(t, v, f.Low) < 0:
		return fmt.Errorf("%s is less than %s, the least that it may be", show(v), value.Text(f.Low))
	case f.High != nil && Compare(t, v, f.High) > 0:
		return fmt.Errorf("%s is more than %s, the most that it may be", show(v), value.Text(f.High))
	case f.Allowed != nil && !slices.ContainsFunc(f.Allowed, func(a any) bool { return value.Equal(a, v) }):
		return fmt.Errorf("%s is not allowed: write %s", show(v), f.choices())
	}
	if s, ok := v.(string); ok && f.pattern != nil && !f.pattern.MatchString(s) {
		return fmt.Errorf("%s does not match the pattern %s", show(v), f.Pattern)
	}
	return nil
}

// maxChoices is how many of the allowed values an error names.
const maxChoices = 12

func (f *Field) choices() string {
	var words []string
	for _, v := range f.Allowed[:min(len(f.Allowed), maxChoices)] {
		words = append(words, value.Text(v))
	}
	if more := len(f.Allowed) - maxChoices; more > 0 {
		return fmt.Sprintf("%s or one of %d others", strings.Join(words, ", "), more)
	}
	return either(words)
}

// either lists words as a sentence does: "a, b or c".
func either(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
