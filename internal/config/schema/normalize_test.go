package schema_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

func list(elem *schema.Type) schema.Type { return schema.Type{Kind: schema.List, Elem: elem} }

var (
	intType  = schema.Type{Kind: schema.Int}
	duration = schema.Type{Kind: schema.Duration}
	service  = schema.Type{Kind: schema.Ref, Target: "service"}
	anyList  = list(nil)
	anyMap   = schema.Type{Kind: schema.Map}
)

func TestNormalize(t *testing.T) {
	text, float, boolean, anyRef := schema.Type{Kind: schema.String}, schema.Type{Kind: schema.Float}, schema.Type{Kind: schema.Bool}, schema.Type{Kind: schema.Ref}
	tests := []struct {
		t    schema.Type
		in   any
		want any
		err  string
	}{
		{t: text, in: "80", want: "80"},
		{t: text, in: int64(80), err: "80 is no string: put it in quotes"},
		{t: text, in: strings.Repeat("x", 100)[:0], want: ""},
		{t: intType, in: int64(5), want: int64(5)},
		{t: intType, in: 5.0, want: int64(5)},
		{t: intType, in: 5.5, err: "5.5 is no int: write a whole number"},
		{t: intType, in: 1e17, err: "is no int"},
		{t: intType, in: "5", err: `"5" is no int: write a whole number, without quotes`},
		{t: float, in: int64(5), want: 5.0},
		{t: float, in: int64(1<<53 + 1), err: "9007199254740993 is no float: the nearest one is 9007199254740992.0"},
		{t: float, in: int64(math.MaxInt64), err: "is no float"},
		{t: float, in: "5", err: "is no float"},
		{t: boolean, in: true, want: true},
		{t: boolean, in: "yes", err: `"yes" is no bool: write true or false`},
		{t: duration, in: "90s", want: "1m30s"},
		{t: duration, in: "1.5h", want: "1h30m"},
		{t: duration, in: "1d", want: "24h"},
		{t: duration, in: int64(30), err: `30 is no duration: write the unit too, as in "30s"`},
		{t: duration, in: "30", err: `"30" is no duration: write a number and its unit`},
		{t: service, in: "service.api", want: "service.api"},
		{t: service, in: "service/api.v1", want: "service.api.v1"},
		{t: service, in: "service.api/v1", want: "service.api/v1"},
		{t: service, in: "api", want: "service.api"},
		{t: service, in: "route.api", err: `"route.api" is of the type route: name a service, as in "service.api"`},
		{t: service, in: "service.", err: "is no entity's ID"},
		{t: service, in: "service.a b", err: "is no entity's ID"},
		{t: service, in: int64(1), err: "1 refers to no entity"},
		{t: service, in: strings.Repeat("x", 300), err: "it has 300 bytes"},
		{t: anyRef, in: "route/api", want: "route.api"},
		{t: anyRef, in: "api", err: "is no entity's ID: write its type and name"},
		{t: anyList, in: []any{int64(1), 1.0, "a", true}, want: []any{int64(1), 1.0, "a", true}},
		{t: anyList, in: []any{[]any{}}, err: "[0]: [] is no scalar"},
		{t: anyList, in: "a", err: `"a" is no list: write ["a"]`},
		{t: list(&duration), in: []any{"60s", "1h"}, want: []any{"1m", "1h"}},
		{t: list(&duration), in: []any{"60s", nil}, err: "[1]: a list has no null"},
		{t: schema.Type{Kind: schema.Map, Elem: &intType}, in: map[string]any{"a": 1.0}, want: map[string]any{"a": int64(1)}},
		{t: schema.Type{Kind: schema.Map, Elem: &intType}, in: map[string]any{"a": "x"}, err: `["a"]: "x" is no int`},
		{t: anyMap, in: []any{}, err: "[] is no map"},
		{t: anyMap, in: map[string]any{"a": nil}, err: "a map has no null"},
		{t: text, in: nil, want: nil},
	}
	for _, tt := range tests {
		got, err := tt.t.Normalize(tt.in)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || !errors.Is(err, errkind.Invalid) {
				t.Errorf("%s: Normalize(%v) gave error %v, want %q", tt.t, tt.in, err, tt.err)
			}
			continue
		}
		if err != nil || !value.Equal(got, tt.want) {
			t.Errorf("%s: Normalize(%v) = %v, %v, want %v", tt.t, tt.in, got, err, tt.want)
		}
	}
}

func TestParseText(t *testing.T) {
	tests := []struct{ kind, in, want string }{
		{"string", `"a"`, `"\"a\""`},
		{"string", "null", `"null"`},
		{"int", "-80", "-80"},
		{"int", "080", "80"},
		{"int", "1e3", `error: "1e3" is no int`},
		{"int", "99999999999999999999", "does not fit into 64 bits"},
		{"float", "80", "80.0"},
		{"float", "-0", "0.0"},
		{"float", "nan", `"nan" is no float`},
		{"float", "1e999", "is no float"},
		{"bool", "true", "true"},
		{"bool", "1", `"1" is no bool: write true or false`},
		{"duration", "0.5m", `"30s"`},
		{"ref<service>", "service/api", `"service.api"`},
		{"list", "a, 80 ,true,null", `["a",80,true,"null"]`},
		{"list", `["a", 1]`, `["a",1]`},
		{"list", `["a"`, `error: "[\"a\"" cannot be read as JSON: line 1 column 5: EOF: invalid`},
		{"list<string>", "80,443", `["80","443"]`},
		{"list<int>", "80,443", "[80,443]"},
		{"list<int>", "80,x", `[1]: "x" is no int`},
		{"list<int>", "", "[]"},
		{"list<list<int>>", "1,2", "write JSON"},
		{"list<list<int>>", "[[1],[2]]", "[[1],[2]]"},
		{"map", `{"a": 1}`, `{"a":1}`},
		{"map", "a=1", "write JSON"},
	}
	for _, tt := range tests {
		typ := typeOf(t, tt.kind)
		got, err := schema.ParseText(typ, tt.in)
		if err != nil {
			if !strings.Contains("error: "+err.Error(), tt.want) {
				t.Errorf("%s: ParseText(%q) gave error %v, want %s", tt.kind, tt.in, err, tt.want)
			}
		} else if string(value.Encode(got)) != tt.want {
			t.Errorf("%s: ParseText(%q) = %s, want %s", tt.kind, tt.in, value.Encode(got), tt.want)
		}
	}
}

// typeOf reads a type as a schema has it.
func typeOf(t *testing.T, text string) schema.Type {
	t.Helper()
	return field(t, `type = "`+text+`"`).Type
}

// field reads the keys of one field.
func field(t *testing.T, keys string) *schema.Field {
	t.Helper()
	s, err := schema.Parse("schema.toml", []byte("name = \"x\"\n[entity.service]\n[entity.a]\nfields = [{ name = \"f\", "+keys+" }]"))
	if err != nil {
		t.Fatal(err)
	}
	return s.Entity("a").Field("f")
}

func TestCheck(t *testing.T) {
	tests := []struct {
		field string
		in    any
		err   string
	}{
		{`type = "int", range = [0, 100]`, int64(100), ""},
		{`type = "int", range = [0, 100]`, int64(101), `field "f": 101 is more than 100, the most that it may be`},
		{`type = "int", range = { min = 0 }`, int64(-1), `field "f": -1 is less than 0, the least that it may be`},
		{`type = "int", range = "0,"`, int64(math.MaxInt64), ""},
		{`type = "int"`, "5", `field "f": "5" is no int`},
		{`type = "int", required = true`, nil, ""},
		{`type = "float", range = [0, 1]`, 1.5, "1.5 is more than 1.0"},
		{`type = "duration", range = ["1s", "1m"]`, "90s", `"1m30s" is more than 1m`},
		{`type = "duration", range = ["1s", "1m"]`, "900ms", `"900ms" is less than 1s`},
		{`type = "string", values = "http,https"`, "ftp", `"ftp" is not allowed: write http or https`},
		{`type = "string", values = "http,https"`, "http", ""},
		{`type = "duration", values = ["90s"]`, "1m30s", ""},
		{`type = "string", pattern = "a+|b"`, "aab", `"aab" does not match the pattern a+|b`},
		{`type = "string", pattern = "a+|b"`, "aa", ""},
		{`type = "string", pattern = "a"`, "a\n", "does not match"},
		{`type = "list<int>", merge = "set", range = [1, 65535]`, []any{int64(80), int64(0)}, "[1]: 0 is less than 1"},
		{`type = "list<string>", values = "GET,POST"`, []any{"GET", "PUT"}, `[1]: "PUT" is not allowed`},
		{`type = "map<string>", pattern = "[a-z]*"`, map[string]any{"a": "b", "c": "D"}, `["c"]: "D" does not match`},
	}
	for _, tt := range tests {
		err := field(t, tt.field).Check(tt.in)
		switch {
		case tt.err == "" && err != nil:
			t.Errorf("{ %s }: Check(%v) gave %v", tt.field, tt.in, err)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !errors.Is(err, errkind.Invalid)):
			t.Errorf("{ %s }: Check(%v) gave %v, want %q", tt.field, tt.in, err, tt.err)
		}
	}
}

func TestDurations(t *testing.T) {
	tests := []struct {
		in, want string
		length   time.Duration
	}{
		{"0", "0s", 0},
		{"0.0s", "0s", 0},
		{"30s", "30s", 30 * time.Second},
		{"0.5s", "500ms", 500 * time.Millisecond},
		{"1500ms", "1s500ms", 1500 * time.Millisecond},
		{"3600s", "1h", time.Hour},
		{"-90s", "-1m30s", -90 * time.Second},
		{"2w1.5d", "372h", 372 * time.Hour},
		{"1h1ns", "1h1ns", time.Hour + 1},
		{"5µs", "5us", 5 * time.Microsecond},
	}
	for _, tt := range tests {
		d, err := schema.ParseDuration(tt.in)
		if err != nil || d != tt.length || schema.FormatDuration(d) != tt.want {
			t.Errorf("ParseDuration(%q) = %v, %v (%s), want %v (%s)", tt.in, d, err, schema.FormatDuration(d), tt.length, tt.want)
		}
	}
	for _, bad := range []string{"", "s", "5", "5 s", "1e3s", "PT5S", "5y", "1000000000d", "106751w", "9223372037s", strings.Repeat("1s", 40), "1h-5m", ".5s", "5.s", "5..5s", "5.5", "--5s", "-", "+", "5sm", "5S", "5sx"} {
		if d, err := schema.ParseDuration(bad); !errors.Is(err, errkind.Invalid) {
			t.Errorf("ParseDuration(%q) = %v, %v, want errkind.Invalid", bad, d, err)
		}
	}
}

// A duration's canonical text is read as the same duration.
func TestFormatDurationRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Min(math.MinInt64+1).Draw(t, "duration"))
		back, err := schema.ParseDuration(schema.FormatDuration(d))
		if err != nil || back != d {
			t.Errorf("%d → %s → %d, %v", d, schema.FormatDuration(d), back, err)
		}
	})
}

func TestCompare(t *testing.T) {
	tests := []struct {
		t        schema.Type
		from, to any // in this order
	}{
		{intType, int64(-1), int64(2)},
		{intType, int64(math.MaxInt64 - 1), int64(math.MaxInt64)},
		{schema.Type{Kind: schema.Float}, 0.5, 1e300},
		{duration, "900ms", "1s"},
		{duration, "-1h", "0s"},
		{duration, "1h30m", "2h"},
		{schema.Type{Kind: schema.String}, "a", "b"},
		{schema.Type{Kind: schema.Bool}, false, true},
		{intType, nil, int64(math.MinInt64)},
	}
	for _, tt := range tests {
		got := []int{schema.Compare(tt.t, tt.from, tt.to), schema.Compare(tt.t, tt.to, tt.from), schema.Compare(tt.t, tt.to, tt.to)}
		if d := cmp.Diff([]int{-1, 1, 0}, got); d != "" {
			t.Errorf("%s: %v and %v: %s", tt.t, tt.from, tt.to, d)
		}
	}
}

func FuzzParseText(f *testing.F) {
	for _, s := range []string{"80", "-1.5e3", "true", "1.5h", "service/api", "a,b", `["a", 1]`, `{"a": [1]}`, "null", "1w2d3h", "\xff"} {
		f.Add(s)
	}
	nested := list(&intType)
	types := []schema.Type{
		{Kind: schema.String},
		intType,
		{Kind: schema.Float},
		{Kind: schema.Bool},
		duration, service,
		{Kind: schema.Ref},
		anyList, anyMap,
		list(&duration), list(&nested),
		{Kind: schema.Map, Elem: &nested},
		{},
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, typ := range types {
			v, err := schema.ParseText(typ, text)
			if err != nil {
				if !errors.Is(err, errkind.Invalid) && !errors.Is(err, errkind.TooLarge) {
					t.Errorf("%s: ParseText(%q): %v is of another kind", typ, text, err)
				}
				continue
			}
			if same, err := value.Normalize(v); err != nil || !value.Equal(v, same) {
				t.Errorf("%s: ParseText(%q) = %v, which is no value: %v", typ, text, v, err)
			}
			if again, err := typ.Normalize(v); err != nil || !value.Equal(v, again) {
				t.Errorf("%s: ParseText(%q) = %v, and normalized %v, %v", typ, text, v, again, err)
			}
		}
	})
}
