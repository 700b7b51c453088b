package bare

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What this package reads of a configuration is what git reads of it.
func TestConfigIsGits(t *testing.T) {
	tests := []struct{ name, text string }{
		{"plain", "[core]\n\tbare = true\n\trepositoryformatversion = 0\n"},
		{"case", "[Core]\n\tBare = True\n[Receive \"Sub.Section\"]\n\tdenyDeletes=yes\n"},
		{"comments", "# one\n[a] ; two\n\tb = c # three\n\td = \"e # f\" ; four\n"},
		{"quotes", "[a]\n\tb = \"x y\" z \"  \"\n\tc = \" lead\"\n\td = tail   \n"},
		{"escapes", "[a]\n\tb = \\\"q\\\" \\\\ \\t\\n.\n\tc = one\\\n two\n"},
		{"no value", "[a]\n\tb\n\tc\n"},
		{"empty value", "[a]\n\tb =\n"},
		{"several", "[a]\n\tb = 1\n\tb = 2\n[c]\n\td = 3\n[a]\n\tb = 4\n"},
		{"one line", "[a] b = c\n"},
		{"subsection", "[a \"b\\\"c\\\\d\"]\n\te = f\n"},
		{"carriage returns", "[a]\r\n\tb = c\r\n"},
		{"no end", "[a]\n\tb = c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			want, err := exec.Command("git", "config", "--file", path, "--list", "-z").Output()
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			if err := parseConfig(tt.text, func(s setting) error {
				got.WriteString(s.name)
				if !s.bare {
					got.WriteString("\n" + s.value)
				}
				got.WriteByte(0)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("parseConfig(%q) = %q, git has %q", tt.text, got.String(), want)
			}
		})
	}
}

func TestConfigThatIsWrong(t *testing.T) {
	for _, text := range []string{"[a\n", "[]\n", "b = c\n", "[a]\n\tb = \"c\n", "[a]\n\tb = \\x\n", "[a \"b\n\"]\n", "[a]\n\t= c\n"} {
		if err := parseConfig(text, func(setting) error { return nil }); err == nil {
			t.Errorf("parseConfig(%q) found nothing wrong", text)
		}
	}
}

// GIT_CONFIG_PARAMETERS as git -c writes it.
func TestParametersOfTheEnvironment(t *testing.T) {
	list, err := unquoteWords(`'a.b=c d' 'e.F.g'='it'\''s' 'h.i'= 'j.k'`)
	if err != nil {
		t.Fatal(err)
	}
	want := []setting{{"a.b", "c d", false}, {"e.F.g", "it's", false}, {"h.i", "", true}, {"j.k", "", true}}
	if len(list) != len(want) {
		t.Fatalf("unquoteWords = %v, want %v", list, want)
	}
	for i := range want {
		if list[i] != want[i] {
			t.Errorf("word %d = %v, want %v", i, list[i], want[i])
		}
	}
}

func FuzzConfig(f *testing.F) {
	for _, s := range []string{"[a]\n\tb = c\n", "[a \"b\"] c", "[a]\n\tb = \"x\\\ny\"\n", "[a.b]\n#\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_ = parseConfig(text, func(setting) error { return nil })
		_, _ = unquoteWords(text)
	})
}
