package sign

import (
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"
)

// JSON's numbers are doubles in RFC 8785, so an int64 cannot be one, and as a plain string it could not be told from a string. So integers
// are written {"int":"90"}, and maps {"map":{…}} to be told from them; everything else is as JSON has it, and each number is a float.

// tag returns a value in that form.
func tag(v any, depth int) (any, error) {
	if depth > maxDepth {
		return nil, malformed("its value is deeper than %d levels", maxDepth)
	}
	switch v := v.(type) {
	case nil, bool:
		return v, nil
	case int64:
		return map[string]any{"int": strconv.FormatInt(v, 10)}, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) || v == 0 && math.Signbit(v) {
			return nil, malformed("its value has the number %v, which JSON does not have", v)
		}
		return v, nil
	case string:
		if !utf8.ValidString(v) {
			return nil, malformed("its value has a string that is not UTF-8")
		}
		return v, nil
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			var err error
			if out[i], err = tag(e, depth+1); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, e := range v {
			if !utf8.ValidString(key) {
				return nil, malformed("its value has a key that is not UTF-8")
			}
			var err error
			if out[key], err = tag(e, depth+1); err != nil {
				return nil, err
			}
		}
		return map[string]any{"map": out}, nil
	default:
		return nil, malformed("a %T is no value", v)
	}
}

// untag is the way back.
func untag(v any, depth int) (any, error) {
	if depth > maxDepth {
		return nil, malformed("its value is deeper than %d levels", maxDepth)
	}
	switch v := v.(type) {
	case nil, bool, string:
		return v, nil
	case json.Number:
		f, err := strconv.ParseFloat(v.String(), 64)
		if err != nil {
			return nil, malformed("its value has the number %s, which no double holds", clip(v.String()))
		}
		return f, nil
	case []any:
		for i, e := range v {
			var err error
			if v[i], err = untag(e, depth+1); err != nil {
				return nil, err
			}
		}
		return v, nil
	case map[string]any:
		return untagObject(v, depth)
	default:
		panic("bug: JSON has no such value")
	}
}

func untagObject(v map[string]any, depth int) (any, error) {
	if text, ok := v["int"].(string); ok && len(v) == 1 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, malformed("its value has the integer %q, which is not one of 64 bits", clip(text))
		}
		return n, nil
	}
	m, ok := v["map"].(map[string]any)
	if !ok || len(v) != 1 {
		return nil, malformed(`its value has an object that is neither {"int":"…"} nor {"map":{…}}`)
	}
	for key, e := range m {
		var err error
		if m[key], err = untag(e, depth+1); err != nil {
			return nil, err
		}
	}
	return m, nil
}
