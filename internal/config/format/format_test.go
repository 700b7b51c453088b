package format_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config/format"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/config/value/valuetest"
	"github.com/skep-dev/skep/internal/errkind"
)

// twoWay has the formats that are written and read, and what they cannot keep.
var twoWay = []struct {
	id     string
	anyTop bool          // a document may be any value, not only a map
	keeps  func(any) any // what comes back of a value; nil for itself
}{
	{id: "json", anyTop: true},
	{id: "yaml", anyTop: true},
	{id: "xml", anyTop: true},
	{id: "kdl"},
	{id: "toml", keeps: withoutNil},
	{id: "hcl", keeps: normalC},
}

// withoutNil is what TOML keeps: maps without what is nil. For lists see drawFor.
func withoutNil(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			if e != nil {
				m[k] = withoutNil(e)
			}
		}
		return m
	case []any:
		list := []any{}
		for _, e := range v {
			list = append(list, withoutNil(e))
		}
		return list
	default:
		return v
	}
}

// normalC is what HCL keeps: text in normal form C.
func normalC(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			m[norm.NFC.String(k)] = normalC(e)
		}
		return m
	case []any:
		list := []any{}
		for _, e := range v {
			list = append(list, normalC(e))
		}
		return list
	case string:
		return norm.NFC.String(v)
	default:
		return v
	}
}

// refusesFor says whether a format says no to a value: TOML to nil in a list, HCL to keys that are the same to it.
func refused(id string, v any) bool {
	switch v := v.(type) {
	case map[string]any:
		seen := map[string]bool{}
		for k, e := range v {
			if n := norm.NFC.String(k); id == "hcl" && seen[n] {
				return true
			} else if seen[n] = true; refused(id, e) {
				return true
			}
		}
	case []any:
		for _, e := range v {
			if id == "toml" && e == nil || refused(id, e) {
				return true
			}
		}
	}
	return false
}

func serializer(t fataler, id string) format.Serializer {
	t.Helper()
	s, err := format.NewRegistry().Serializer(id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parser(t fataler, id string) format.Parser {
	t.Helper()
	p, err := format.NewRegistry().Parser(id)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type fataler interface {
	Helper()
	Fatal(args ...any)
}

// Any value comes back from any format as it was, and is written as the same bytes again.
func TestRoundTrip(t *testing.T) {
	for _, f := range twoWay {
		t.Run(f.id, func(t *testing.T) {
			s, p := serializer(t, f.id), parser(t, f.id)
			rapid.Check(t, func(rt *rapid.T) {
				v := valuetest.Any().Draw(rt, "value")
				if _, isMap := v.(map[string]any); !isMap && !f.anyTop {
					v = map[string]any{"value": v}
				}
				data, err := s.Marshal(t.Context(), v)
				if refused(f.id, v) {
					if !errors.Is(err, errkind.Invalid) {
						rt.Fatalf("%s is written as %q, %v; it must be refused", value.Encode(v), data, err)
					}
					return
				}
				if err != nil {
					rt.Fatalf("%s: %v", value.Encode(v), err)
				}
				back, err := p.Unmarshal(t.Context(), "file", data)
				if err != nil {
					rt.Fatalf("%s is written as\n%s\nwhich cannot be read: %v", value.Encode(v), data, err)
				}
				want := v
				if f.keeps != nil {
					want = f.keeps(v)
				}
				if !value.Equal(back, want) {
					rt.Fatalf("%s is written as\n%s\nand comes back as %s", value.Encode(want), data, value.Encode(back))
				}
				if again, _ := s.Marshal(t.Context(), back); f.keeps == nil && string(again) != string(data) {
					rt.Fatalf("%s\nis written again as\n%s", data, again)
				}
			})
		})
	}
}

// The strings that formats are known to read as something else, alone, in lists and as keys.
func TestTroublesomeStrings(t *testing.T) {
	strs := []string{
		"", " ", "a ", " a", "no", "NO", "on", "Off", "y", "N", "yes", "true", "True", "null", "Null", "~", "nan", ".nan", "inf", "-.inf",
		"0777", "0o777", "0x1f", "0b1", "1_000", "1e3", "1.", ".5", "+1", "-1", "1", "1.0", "12:30:45", "2024-01-01", "2024-01-01T00:00:00Z",
		"007", "00", "a: b", "a #b", "# a", "- a", "-", "--", "---", "...", "? a", "*a", "&a", "!a", "!!int 1", "%a", "@a", "`a", "|", ">", "<<", "=", "{}", "[]",
		"{a: b}", "a, b", "'", "''", `"`, `\`, `\n`, "a\nb", "a\n", "\na", "a\n\nb\n\n", "  a\n b", "a\n  b\n", "a \nb", "a\tb", "\t", "a\r\nb", "\r",
		"${a}", "$${a}", "%{a}", "%%{a}", "$", "${", "<<EOT\na\nEOT", "é", "e\u0301", "日本語", "😀", "\u0000", "\u0001", "\u001b[31m", "\u007f", "\u0085", "\u00a0", "\u2028", "\u2029",
		"\u200e", "\u202e", "\ufeff", "\ufffd", "\ufffe", "\uffff", "</a>", "<![CDATA[x]]>", "]]>", "&amp;", "--&gt;", "#true", "#null", "/- a", "/* a */", "// a", "r\"a\"", `"""`, `#"a"#`,
		"xml", "item", "entry", "config", "_", "for", "null.a", "a.b", "a-b", "a b", "key=value", strings.Repeat("long ", 100), strings.Repeat("x", 2000),
	}
	for _, f := range twoWay {
		t.Run(f.id, func(t *testing.T) {
			s, p := serializer(t, f.id), parser(t, f.id)
			for _, str := range strs {
				v := any(map[string]any{str: str, "list": []any{str, []any{str}, map[string]any{str: str}}, "map": map[string]any{"a": map[string]any{str: int64(1)}}})
				data, err := s.Marshal(t.Context(), v)
				if err != nil {
					t.Errorf("%q: %v", str, err)
					continue
				}
				back, err := p.Unmarshal(t.Context(), "file", data)
				if f.id == "hcl" {
					v = normalC(v)
				}
				if err != nil || !value.Equal(back, v) {
					t.Errorf("%q is written as\n%s\nand comes back as %v, %v", str, data, back, err)
				}
			}
		})
	}
}

// What there is of every kind, as each format writes it.
func TestMarshal(t *testing.T) {
	v := map[string]any{
		"backend": map[string]any{"host": "10.0.0.1", "port": int64(9007199254740993), "weight": 1.0},
		"empty":   map[string]any{"list": []any{}, "map": map[string]any{}, "nothing": nil, "text": ""},
		"enabled": true,
		"mode":    "0777",
		"notes":   "first\nsecond\n",
		"ratio":   1e21,
		"rules":   []any{map[string]any{"path": "/a", "to": []any{"x", "y"}}, []any{int64(1)}},
		"tags":    []any{"no", "blue green"},
		"a b":     int64(-1),
	}
	for _, f := range twoWay {
		t.Run(f.id, func(t *testing.T) {
			s := serializer(t, f.id)
			data, err := s.Marshal(t.Context(), v)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "marshal."+s.Extension(), data)
		})
	}
}

func TestTopMustBeAMap(t *testing.T) {
	for _, id := range []string{"toml", "kdl", "hcl"} {
		for _, v := range []any{nil, "a", []any{}} {
			if data, err := serializer(t, id).Marshal(t.Context(), v); !errors.Is(err, errkind.Invalid) {
				t.Errorf("%s: %v is written as %q, %v", id, v, data, err)
			}
		}
	}
}
