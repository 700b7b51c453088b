package format_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config/format"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/config/value/valuetest"
)

func rewriter(t fataler) format.Rewriter {
	t.Helper()
	w, ok := serializer(t, "yaml").(format.Rewriter)
	if !ok {
		t.Fatal("YAML cannot be rewritten")
	}
	return w
}

func TestRewriteKeepsWhatStays(t *testing.T) {
	tests := []struct{ name, old, value, want string }{
		{
			"comments and order",
			"# about routes\nweb: # the first\n  weight: 20 # percent\n  path: /\n\n# behind it\napi:\n  weight: 80\n",
			`{"web":{"weight":30,"path":"/"},"api":{"weight":80}}`,
			"# about routes\nweb: # the first\n  weight: 30 # percent\n  path: /\n\n# behind it\napi:\n  weight: 80\n",
		},
		{"styles", "a: 'x'\nb: [1, 2]\nc: {d: 0x10}\ne: 2\n", `{"a":"x","b":[1,2],"c":{"d":16},"e":3}`, "a: 'x'\nb: [1, 2]\nc: {d: 0x10}\ne: 3\n"},
		{"a new key goes to the end", "z: 1 # z\na: 2\n", `{"z":1,"a":2,"m":3}`, "z: 1 # z\na: 2\nm: 3\n"},
		{"a new key goes to its place", "a: 1 # a\nz: 2\n", `{"a":1,"z":2,"m":{"x":null}}`, "a: 1 # a\nm:\n  x: null\nz: 2\n"},
		{"what is removed goes with its comments", "a: 1\n# b\nb: 2 # two\nc: 3 # three\n", `{"a":1,"c":3}`, "a: 1\nc: 3 # three\n"},
		{"elements at both ends stay", "- a # 1\n- b # 2\n- c # 3\n", `["a","x","y","c"]`, "- a # 1\n- x # 2\n- \"y\"\n- c # 3\n"},
		{"an element goes", "- a # 1\n- b # 2\n- c # 3\n", `["a","c"]`, "- a # 1\n- c # 3\n"},
		{"an alias stays", "a: &a {x: 1}\nb: *a\nc: 1\n", `{"a":{"x":1},"b":{"x":1},"c":2}`, "a: &a {x: 1}\nb: *a\nc: 2\n"},
		{"an alias changes alone", "a: &a {x: 1}\nb: *a # same\n", `{"a":{"x":1},"b":{"x":2}}`, "a: &a {x: 1}\nb: # same\n  x: 2\n"},
		{"what an alias names changes alone", "a: &a {x: 1} # one\nb: *a # same\n", `{"a":{"x":2},"b":{"x":1}}`, "a: &a {x: 2} # one\nb: # same\n  x: 1\n"},
		{"a merge key", "a: &a {x: 1}\nb:\n  <<: *a\n  y: 2 # y\n", `{"a":{"x":1},"b":{"x":1,"y":3}}`, "a: &a {x: 1}\nb:\n  <<: *a\n  y: 3 # y\n"},
		{"a merge key whose entry changes", "a: &a {x: 1}\nb:\n  <<: *a\n  y: 2 # y\n", `{"a":{"x":1},"b":{"x":5,"y":2}}`, "a: &a {x: 1}\nb:\n  <<: *a\n  y: 2 # y\n  x: 5\n"},
		{"a map becomes a value", "a: # here\n  x: 1\n", `{"a":1}`, "a: 1 # here\n"},
		{"nothing changes", "a:   1\nb:\n    - x # y\n", `{"a":1,"b":["x"]}`, "a:   1\nb:\n    - x # y\n"},
		{"an empty file", "", `{"a":1}`, "a: 1\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := value.Decode([]byte(tt.value))
			if err != nil {
				t.Fatal(err)
			}
			got, err := rewriter(t).Rewrite(t.Context(), []byte(tt.old), v)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Whatever the old file is, the new one has the value.
func TestRewriteIsTheValue(t *testing.T) {
	olds := []string{
		"a: &a {x: 1, y: &y [1, 2]}\nb: *a\nc:\n  <<: *a\n  z: *y\n# end\n",
		"# head\n- a # 1\n# between\n- {b: c} # 2\n# foot\n",
		"&x a: *x\n",
		"|\n  text\n",
	}
	rapid.Check(t, func(rt *rapid.T) {
		old := []byte(rapid.SampledFrom(olds).Draw(rt, "old"))
		if rapid.Bool().Draw(rt, "written") {
			var err error
			if old, err = rewriter(t).Marshal(t.Context(), valuetest.Any().Draw(rt, "before")); err != nil {
				rt.Fatal(err)
			}
		}
		v := valuetest.Any().Draw(rt, "after")
		got, err := rewriter(t).Rewrite(t.Context(), old, v)
		if err != nil {
			rt.Fatal(err)
		}
		if back, err := parser(t, "yaml").Unmarshal(t.Context(), "new", got); err != nil || !value.Equal(back, v) {
			rt.Fatalf("%s\nis rewritten to\n%s\nwhich is %v, %v", old, got, back, err)
		}
	})
}
