package format_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skep-dev/skep/internal/config/format"
	"github.com/skep-dev/skep/internal/errkind"
)

// buildPlugin builds testdata/plugin.go.txt for the machine, or for WASI.
func buildPlugin(t *testing.T, dir, out string, env ...string) {
	t.Helper()
	source, err := os.ReadFile("testdata/plugin.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "plugin.go"), source, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", out, "plugin.go")
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "PWD="+dir), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, text)
	}
}

// plugins loads a file of plugins.
func plugins(t *testing.T, dir, text string) (*format.Plugins, error) {
	t.Helper()
	file := filepath.Join(dir, "plugins.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := format.LoadPlugins(t.Context(), file)
	if err == nil {
		t.Cleanup(func() {
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	return p, err
}

const bothPlugins = `
[[plugin]]
id = "lines"
display_name = "Lines"
alternate_extensions = ["ln"]
command = ["./plugin"]
timeout = "10m"

[[plugin]]
id = "wasm-lines"
extension = "wl"
wasm = "plugin.wasm"
timeout = "10m"
`

// A program and a WASM module write a format by the same protocol, found like a built-in one.
func TestPlugins(t *testing.T) {
	dir := t.TempDir()
	buildPlugin(t, dir, "plugin")
	buildPlugin(t, dir, "plugin.wasm", "GOOS=wasip1", "GOARCH=wasm")
	loaded, err := plugins(t, dir, bothPlugins)
	if err != nil {
		t.Fatal(err)
	}
	r := format.NewRegistry()
	for _, s := range loaded.Serializers {
		if err := r.Register(s); err != nil {
			t.Fatal(err)
		}
	}
	if f, err := r.ForFile("x.ln"); err != nil || f.DisplayName() != "Lines" {
		t.Errorf("x.ln is %v, %v", f, err)
	}
	if f, err := r.ForFile("x.wl"); err != nil || f.ID() != "wasm-lines" || f.DisplayName() != "wasm-lines" {
		t.Errorf("x.wl is %v, %v", f, err)
	}
	t.Setenv("SKEP_TEST_SECRET", "x")
	for _, id := range []string{"lines", "wasm-lines"} {
		t.Run(id, func(t *testing.T) {
			s, err := r.Serializer(id)
			if err != nil {
				t.Fatal(err)
			}
			do := func(v any) (string, error) {
				data, err := s.Marshal(t.Context(), v)
				return string(data), err
			}
			if got, err := do(map[string]any{"b": 1.0, "a": []any{"é", nil}}); got != "a = [\"é\",null]\nb = 1.0\n" || err != nil {
				t.Errorf("it writes %q, %v", got, err)
			}
			if _, err := do("no map"); !errors.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), "exit status 3: json: cannot unmarshal") {
				t.Errorf("%v, want what it says on stderr", err)
			}
			if _, err := do(map[string]any{"do": "flood"}); !errors.Is(err, errkind.TooLarge) || !strings.Contains(err.Error(), "its output has more than") {
				t.Errorf("%v, want the limit of its output", err)
			}
			var all sync.WaitGroup
			for i := range 4 {
				all.Go(func() {
					if got, err := do(map[string]any{"n": int64(i)}); got != fmt.Sprintf("n = %d\n", i) || err != nil {
						t.Errorf("at the same time as others it writes %q, %v", got, err)
					}
				})
			}
			all.Wait()
		})
	}
	t.Run("a module is alone, in a bounded memory", func(t *testing.T) {
		s := loaded.Serializers[1]
		if got, err := s.Marshal(t.Context(), map[string]any{"do": "look"}); string(got) != "0 [wasm-lines]\n" || err != nil {
			t.Errorf("it sees %q, %v", got, err)
		}
		if _, err := s.Marshal(t.Context(), map[string]any{"do": "memory"}); !errors.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), "out of memory") {
			t.Errorf("%v, want the limit of its memory", err)
		}
	})
}

// looping is a module whose _start is a loop without an end.
var looping = []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x07\x0a\x01\x06_start\x00\x00" +
	"\x0a\x09\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b")

// What does not end is ended, with what it started.
func TestPluginTimeout(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "loop.wasm"), looping, 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := plugins(t, dir, `
[[plugin]]
id = "shell"
command = ["sh", "-c", "sleep 1000; true"]
timeout = "200ms"
[[plugin]]
id = "wasm"
wasm = "loop.wasm"
timeout = "200ms"
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range loaded.Serializers {
		_, err := s.Marshal(t.Context(), nil)
		if !errors.Is(err, errkind.TooLarge) || !strings.Contains(err.Error(), "it took more than 200ms") {
			t.Errorf("%s: %v, want the end of its time", s.ID(), err)
		}
	}
}

// A program has where programs are in its environment, and no secrets.
func TestPluginEnvironment(t *testing.T) {
	t.Setenv("SKEP_TEST_SECRET", "x")
	loaded, err := plugins(t, t.TempDir(), "[[plugin]]\nid = \"env\"\ncommand = [\"env\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := loaded.Serializers[0].Marshal(t.Context(), nil)
	if err != nil || !strings.Contains(string(got), "PATH=") || strings.Contains(string(got), "SKEP_TEST_SECRET") {
		t.Errorf("it has\n%s, %v", got, err)
	}
}

func TestLoadPluginsErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bad.wasm"), []byte("no module"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, text, want string }{
		{"syntax", "[[plugin]]\nid = ", "plugins.toml: line 2 column"},
		{"an unknown key", "[[plugin]]\nid = \"a\"\ncmd = [\"a\"]", `line 3 column 1: "cmd" is not known; a plugin has id,`},
		{"an unknown table", "[plugins]\n", "is not known"},
		{"another type", "[[plugin]]\nid = 1", "line 2 column 6"},
		{"no ID", "[[plugin]]\ncommand = [\"a\"]", `line 1 column 3: plugin "": an ID has`},
		{"neither", "[[plugin]]\nid = \"a\"\ncommand = [\"a\"]\n[[plugin]]\nid = \"b\"", `line 4 column 3: plugin "b": write one of command and wasm`},
		{"both", "[[plugin]]\nid = \"a\"\ncommand = [\"a\"]\nwasm = \"a\"", "write one of command and wasm"},
		{"no program", "[[plugin]]\nid = \"a\"\ncommand = [\"\"]", "the first element of command is the program"},
		{"no time", "[[plugin]]\nid = \"a\"\ncommand = [\"a\"]\ntimeout = \"5\"", `the timeout "5" is no time; write one as "5s"`},
		{"no file", "[[plugin]]\nid = \"a\"\nwasm = \"none.wasm\"", "none.wasm: no such file"},
		{"no module", "[[plugin]]\nid = \"a\"\nwasm = \"bad.wasm\"", "compile the module for WASI preview 1"},
		{"too many", strings.Repeat("[[plugin]]\nid = \"a\"\ncommand = [\"a\"]\n", 65), "64 are allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := plugins(t, dir, tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	loaded, err := plugins(t, dir, "[[plugin]]\nid = \"a\"\ncommand = [\"./none\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loaded.Serializers[0].Marshal(t.Context(), nil); !errors.Is(err, errkind.NotFound) {
		t.Errorf("%v, want errkind.NotFound for a program that is not there", err)
	}
}

// A file of plugins is read or refused, whatever is in it; nothing is run.
func FuzzPlugins(f *testing.F) {
	f.Add([]byte(bothPlugins))
	f.Add([]byte("plugin = [{id = \"a\", command = [\"b\"]}, {id = \"c\", wasm = \"d\"}]\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		loaded, err := plugins(t, dir, string(data))
		if err != nil {
			return
		}
		for _, s := range loaded.Serializers {
			if s.ID() == "" || s.Extension() == "" || s.DisplayName() == "" {
				t.Errorf("%q is the plugin %v", data, s)
			}
		}
	})
}
