package format

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// newTOML makes the format TOML 1.0. It has no null: a key without a value is left out, and a list cannot have one.
func newTOML() Format {
	return twoWay{about{id: "toml", extension: "toml", name: "TOML"}, writeTOML, readTOML}
}

func writeTOML(v any) ([]byte, error) {
	m, err := topMap("TOML", v)
	if err != nil {
		return nil, err
	}
	clean, err := withoutNil(m, "")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := toml.NewEncoder(&out).Encode(clean); err != nil {
		return nil, fmt.Errorf("write TOML: %w", err)
	}
	return out.Bytes(), nil
}

// withoutNil drops what is nil from maps, and refuses it in lists, where it would change the place of what follows.
func withoutNil(v any, path string) (any, error) {
	var err error
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			if e == nil {
				continue
			}
			if m[k], err = withoutNil(e, path+"."+k); err != nil {
				return nil, err
			}
		}
		return m, nil
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			at := path + "[" + strconv.Itoa(i) + "]"
			if e == nil {
				return nil, fmt.Errorf("write TOML: %s is null, which a list in TOML cannot have: remove it, or choose another format: %w", at[1:], errkind.Invalid)
			}
			if list[i], err = withoutNil(e, at); err != nil {
				return nil, err
			}
		}
		return list, nil
	default:
		return v, nil
	}
}

func readTOML(name string, data []byte) (any, error) {
	if err := checkMarks(name, data); err != nil {
		return nil, err
	}
	var m map[string]any
	if err := toml.Unmarshal(data, &m); err != nil {
		if at, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, column := at.Position()
			return nil, malformed(name, line, column, "%s", at.Error())
		}
		return nil, fmt.Errorf("%s: %w: %w", name, err, errkind.Invalid)
	}
	if m == nil {
		m = map[string]any{}
	}
	if tooDeep(m, MaxDepth) {
		return nil, fmt.Errorf("%s: it is deeper than %d levels: %w", name, MaxDepth, errkind.TooLarge)
	}
	v, err := value.NormalizeWithin(timesAsText(m), value.Limits{Depth: MaxDepth})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// tooDeep says whether v has more levels of maps and lists.
func tooDeep(v any, levels int) bool {
	switch v := v.(type) {
	case map[string]any:
		return levels == 0 || slices.ContainsFunc(slices.Collect(maps.Values(v)), func(e any) bool { return tooDeep(e, levels-1) })
	case []any:
		return levels == 0 || slices.ContainsFunc(v, func(e any) bool { return tooDeep(e, levels-1) })
	default:
		return false
	}
}

// timesAsText replaces dates and times by their text; a field has no type for them.
func timesAsText(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = timesAsText(e)
		}
		return v
	case []any:
		for i, e := range v {
			v[i] = timesAsText(e)
		}
		return v
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case fmt.Stringer: // toml.LocalDate, LocalTime, LocalDateTime
		return v.String()
	default:
		return v
	}
}
