package format_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/config/format"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// language finds Jsonnet or CUE in a registry that has them.
func language(t fataler, id string, e format.Evaluator) format.Parser {
	t.Helper()
	r := format.NewRegistry()
	for _, f := range e.Formats() {
		if err := r.Register(f); err != nil {
			t.Fatal(err)
		}
	}
	p, err := r.Parser(id)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The languages' own libraries evaluate what they are known for.
func TestEvaluate(t *testing.T) {
	tests := []struct{ id, what, in, want string }{
		{
			"jsonnet", "functions, objects that extend others, comprehensions", `
			local route(weight) = { weight: weight, path: '/' };
			{ route: { ['api-' + i]: route(i * 10) + { path+: 'v' + i } for i in [1, 2] }, n: std.length('abc') }`,
			`{"n":3,"route":{"api-1":{"path":"/v1","weight":10},"api-2":{"path":"/v2","weight":20}}}`,
		},
		{"jsonnet", "numbers are doubles, and whole ones are read as integers", `[1, 1.0, 1.5, -0.0, 1e15]`, `[1,1,1.5,0,1000000000000000]`},
		{"jsonnet", "hidden fields are left out", `{ a:: 1, b: $.a, c: null }`, `{"b":1,"c":null}`},
		{
			"cue", "unification, constraints, defaults", `
			#Route: { weight: int & >=0 & <=100, path: string | *"/" }
			route: [string]: #Route
			route: api: weight: 80
			route: web: { weight: 20, path: "/web" }`,
			`{"route":{"api":{"path":"/","weight":80},"web":{"path":"/web","weight":20}}}`,
		},
		{"cue", "CUE's own packages", "import \"strings\"\na: strings.ToUpper(\"x\")\nb: [for x in [1, 2] {x * 2}]", `{"a":"X","b":[2,4]}`},
		{"cue", "integers and floats", `{a: 1, b: 1.0, c: 1.5, d: 9007199254740993, e: null}`, `{"a":1,"b":1.0,"c":1.5,"d":9007199254740993,"e":null}`},
		{"cue", "hidden fields are left out", "_a: 1\n#b: int\nc: _a", `{"c":1}`},
	}
	for _, tt := range tests {
		t.Run(tt.id+"/"+tt.what, func(t *testing.T) {
			v, err := language(t, tt.id, evaluator()).Unmarshal(t.Context(), "file", []byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(value.Encode(v)); got != tt.want {
				t.Errorf("it is %s, want %s", got, tt.want)
			}
		})
	}
}

// A source that is wrong, or wants too much, is refused; nothing that it does reaches this process.
func TestEvaluateErrors(t *testing.T) {
	tests := []struct {
		id, what, in, want string
		kind               errkind.Kind
	}{
		{"jsonnet", "syntax", "{\n a: }", "file:2:5", errkind.Invalid},
		{"jsonnet", "its own error", "error 'no'", "no", errkind.Invalid},
		{"jsonnet", "import", "import '/etc/passwd'", "/etc/passwd is not imported", errkind.Invalid},
		{"jsonnet", "importstr", "importstr 'other.txt'", "other.txt is not imported", errkind.Invalid},
		{"jsonnet", "no value", "function(x) x", "", errkind.Invalid},
		{"jsonnet", "a number beyond 64 bits", "1e19", "64 bits", errkind.Invalid},
		{"jsonnet", "calls without an end", "local f(x) = f(x + 1) + 1; f(0)", "max stack frames exceeded", errkind.Invalid},
		{"jsonnet", "a list without an end", "std.foldl(function(a, b) a + [b], std.range(1, 1e9), [])", "memory", errkind.TooLarge},
		{"jsonnet", "depth", strings.Repeat("[", 1_000_000), "nested too deep", errkind.TooLarge},
		{"jsonnet", "size", strings.Repeat(" ", 2_000_000), "bytes", errkind.TooLarge},
		{"cue", "syntax", "a: 1\nb: {", "file:2:5", errkind.Invalid},
		{"cue", "conflict", "a: 1\na: 2", "conflicting values 2 and 1", errkind.Invalid},
		{"cue", "not concrete", "a: int", "incomplete value int", errkind.Invalid},
		{"cue", "import of what is not CUE's own", "import \"example.com/x\"\na: x.y", "example.com/x", errkind.Invalid},
		{"cue", "depth", "a: " + strings.Repeat("[", 300_000), "maximum nesting depth", errkind.Invalid},
	}
	for _, tt := range tests {
		t.Run(tt.id+"/"+tt.what, func(t *testing.T) {
			v, err := language(t, tt.id, evaluator()).Unmarshal(t.Context(), "file", []byte(tt.in))
			if err == nil {
				t.Fatalf("it is %.100s, want an error", value.Encode(v))
			}
			if !strings.HasPrefix(err.Error(), "file: ") || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, tt.kind) {
				t.Errorf("%.600v\nwant %q, %v", err, tt.want, tt.kind)
			}
		})
	}
}

// An evaluation that does not come to an end is ended.
func TestEvaluateTimeout(t *testing.T) {
	e := evaluator()
	e.Timeout = 300 * time.Millisecond
	for id, source := range map[string]string{
		"jsonnet": "local f(n) = if n == 0 then 0 else f(n - 1) + f(n - 1); f(100)",
		"cue":     "import \"list\"\n#a: list.Range(0, 3000, 1)\nb: [for x in #a for y in #a for z in #a if x+y+z == -1 {x}]",
	} {
		t.Run(id, func(t *testing.T) {
			_, err := language(t, id, e).Unmarshal(t.Context(), "file", []byte(source))
			if !errors.Is(err, errkind.TooLarge) || !strings.Contains(err.Error(), "more than 300ms") {
				t.Errorf("%v, want the end of its time", err)
			}
		})
	}
}

// Whatever a source is, it ends with a value or an error here, and this process goes on.
func fuzzEvaluate(f *testing.F, id string, seeds ...string) {
	f.Helper()
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	e := evaluator()
	e.Timeout = 2 * time.Second
	p := language(f, id, e)
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := p.Unmarshal(t.Context(), "file", data)
		switch {
		case err == nil:
			value.Encode(v)
		case !errors.Is(err, errkind.Invalid) && !errors.Is(err, errkind.TooLarge):
			t.Fatalf("%q: %v is of no kind", data, err)
		}
	})
}

func FuzzJsonnet(f *testing.F) {
	fuzzEvaluate(f, "jsonnet", "local f(x) = { [x]: x, b:: 1 }; f('a') + { c: [i for i in std.range(1, 3)] }")
}

func FuzzCUE(f *testing.F) {
	fuzzEvaluate(f, "cue", "#A: { b: int | *1 }\nc: #A & { b: >0 }\nd: [for x in [1] {x}]\n")
}
