package schema_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/tidy/goldentest"
)

func parseFile(t *testing.T, file string) *schema.Schema {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.Parse(file, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Given a text in either dialect, its canonical text says what was understood.
func TestParseDialects(t *testing.T) {
	for _, name := range []string{"seed", "words"} {
		s := parseFile(t, name+".toml")
		goldentest.Check(t, filepath.Join("testdata", name+".canonical.toml"), string(schema.Format(s)))
		if again := parseFile(t, name+".canonical.toml"); !s.Equal(again) {
			t.Errorf("%s: the canonical text is another schema", name)
		}
	}
}

// Every problem of a text is told at once, with its place and what to write. The file has texts, and below each its problems.
func TestParseProblems(t *testing.T) {
	const file = "testdata/problems.txt"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for block := range strings.SplitSeq(string(data), "====\n") {
		text, _, _ := strings.Cut(block, "----\n")
		s, err := schema.Parse("schema.toml", []byte(text))
		if b.Len() > 0 {
			b.WriteString("====\n")
		}
		b.WriteString(text + "----\n")
		if err == nil {
			b.WriteString("no problem:\n" + string(schema.Format(s)))
			continue
		}
		if !errors.Is(err, errkind.Invalid) {
			t.Errorf("%v is no errkind.Invalid", err)
		}
		b.WriteString(err.Error() + "\n")
	}
	goldentest.Check(t, file, b.String())
}

func TestLookups(t *testing.T) {
	s := parseFile(t, "words.toml")
	if f := s.Entity("route").Field("weight"); f == nil || f.Merge != schema.Max {
		t.Errorf("route.weight is %+v", f)
	}
	if s.Entity("routes") != nil || s.Entity("route").Field("wait") != nil || s.Environment("prod") != nil || s.Chain("prod") != nil {
		t.Error("an unknown name was found")
	}
	if !s.Entity("route").MayHold("filter") || s.Entity("filter").MayHold("route") {
		t.Error("filters are below routes, and not the other way round")
	}
	tests := []struct {
		what      string
		got, want []string
	}{
		{"parents", s.Entity("filter").Parents, []string{"route"}},
		{"chain", s.Chain("development"), []string{"development", "staging", "production"}},
		{"chain of the base", s.Chain(s.Base()), []string{"production"}},
		{"descendants", s.Descendants("production"), []string{"staging", "development"}},
		{"descendants of a leaf", s.Descendants("development"), nil},
	}
	for _, tt := range tests {
		if d := cmp.Diff(tt.want, tt.got); d != "" {
			t.Errorf("%s: %s", tt.what, d)
		}
	}
}

func TestParseLimits(t *testing.T) {
	if _, err := schema.Parse("big.toml", make([]byte, schema.MaxBytes+1)); !errors.Is(err, errkind.TooLarge) {
		t.Errorf("a text of more than 1 MiB gave %v", err)
	}
	many := func(n int, line string) string { return strings.Repeat(line, n) }
	numbered := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.ReplaceAll(format, "#", "n"+strings.Repeat("a", i/26)+string(rune('a'+i%26))))
		}
		return b.String()
	}
	tests := []struct{ text, want string }{
		{numbered(101, "[environments.overlays.#]\n"), "there are 102, and 100 are allowed"},
		{numbered(1001, "[entity.#]\n"), "there are 1001 entities"},
		{"[entity.a]\nfields = [" + numbered(1001, "{name=\"#\",type=\"int\"},") + "]", "there are 1001 fields"},
		{"[entity.a.fields.b]\ntype = \"list<list<list<list<int>>>>\"", "more than 4 times"},
		{"[entity.a.fields.b]\ntype = \"int\"\ndefault = " + many(42, "[") + many(42, "]"), "within each other"},
		{"[entity.a.fields.b]\ntype = \"string\"\npattern = \"" + many(1001, "x") + "\"", "1001 bytes, and 1000 are allowed"},
		{"[entity.a.fields.b]\ntype = \"string\"\npattern = '(((x{100}){100}){100})'", "cannot be read"},
		{"[entity.a.fields.b]\ntype = \"int\"\nvalues = [" + strings.TrimSuffix(many(1001, "1,"), ",") + "]", "has 1001, and 1000 are allowed"},
		{"[entity.a]\n" + numbered(1001, "[[entity.a.rules]]\nname=\"#\"\ncheck=\"true\"\n"), "more rules than the 1000"},
		{"[entity." + many(101, "x") + "]", "has a name that is not allowed"},
		{numbered(60, "# = 1\n"), "schema.toml: and 10 more"},
	}
	for _, tt := range tests {
		_, err := schema.Parse("schema.toml", []byte("name = \"x\"\n"+tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Parse(%.60q) gave %.300v, want %q", tt.text, err, tt.want)
		}
	}
}

func TestInheritanceDepth(t *testing.T) {
	var b strings.Builder
	b.WriteString("name = \"x\"\n[environments]\nbase = \"a\"\n")
	for i := range 20 {
		name := strings.Repeat("a", i+2)
		b.WriteString("[environments.overlays." + name + "]\ninherits = \"" + name[1:] + "\"\n")
	}
	if _, err := schema.Parse("schema.toml", []byte(b.String())); err == nil || !strings.Contains(err.Error(), "more than 20") {
		t.Errorf("21 environments in a row gave %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range []string{"seed.toml", "words.toml", "problems.txt"} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			f.Fatal(err)
		}
		for block := range strings.SplitSeq(string(text), "====\n") {
			f.Add([]byte(block))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := schema.Parse("x", data)
		if err != nil {
			return
		}
		text := schema.Format(s)
		again, err := schema.Parse("x", text)
		if err != nil || !s.Equal(again) {
			t.Errorf("Parse(%q): %v, of\n%s", data, err, text)
		}
	})
}
