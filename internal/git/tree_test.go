package git_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

var emptyBlob = git.MustParseOID("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")

// A tree that git mktree sorts and writes is byte for byte the one that CompareEntries and AppendEntry make.
func TestTreeIsSortedAndWrittenAsGitDoes(t *testing.T) {
	dir := t.TempDir()
	runGit(t, dir, "", "init", "-q", "--bare", ".")
	emptyTree := strings.TrimSpace(runGit(t, dir, "", "mktree"))
	runGit(t, dir, "", "hash-object", "-w", "--stdin")

	names := []string{"a", "a.c", "a-b", "a0", "b", "ab", "a b", "Z", "z", "\xff\xfe", "ü", "é", "a\"q", "tab\there", "lib", "lib.go", "lib-x"}
	for i, dirs := range []string{"", "a", "lib", "a lib", "ab a.c lib.go"} {
		var entries []git.Entry
		var in strings.Builder
		for j, n := range names {
			e := git.Entry{Mode: []git.Mode{git.ModeFile, git.ModeExec, git.ModeSymlink}[(i+j)%3], Name: []byte(n), OID: emptyBlob}
			if slices.Contains(strings.Fields(dirs), n) {
				e.Mode, e.OID = git.ModeDir, git.MustParseOID(emptyTree)
			}
			entries = append(entries, e)
			in.WriteString(e.Mode.String() + " " + e.Mode.Kind().String() + " " + e.OID.String() + "\t" + n + "\x00")
		}
		want := strings.TrimSpace(runGit(t, dir, in.String(), "mktree", "-z"))

		slices.SortFunc(entries, func(a, b git.Entry) int { return git.CompareEntries(a.Name, a.Mode, b.Name, b.Mode) })
		var data []byte
		for _, e := range entries {
			data = git.AppendEntry(data, e)
		}
		if got := git.Hash(git.Tree, data).String(); got != want {
			t.Errorf("with directories %q: tree %s, git makes %s", dirs, got, want)
		}
		var read []git.Entry
		for e, err := range git.TreeEntries(data) {
			if err != nil {
				t.Fatal(err)
			}
			read = append(read, e)
		}
		if !slices.EqualFunc(read, entries, sameEntry) {
			t.Errorf("read back %v, want %v", read, entries)
		}
	}
}

func TestMalformedTreesAreInvalid(t *testing.T) {
	oid := strings.Repeat("\x11", git.OIDSize)
	tests := []struct{ name, data string }{
		{"no mode", " a\x00" + oid},
		{"no space", "100644"},
		{"mode is not octal", "100648 a\x00" + oid},
		{"mode is a word", "file a\x00" + oid},
		{"mode too long", "00000100644 a\x00" + oid},
		{"name without end", "100644 a"},
		{"no ID", "100644 a\x00"},
		{"ID cut short", "100644 a\x00" + oid[1:]},
		{"second entry cut short", "100644 a\x00" + oid + "100644 b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var last error
			for _, err := range git.TreeEntries([]byte(tt.data)) {
				last = err
			}
			if !errors.Is(last, errkind.Invalid) {
				t.Errorf("TreeEntries(%q) ends with %v, want errkind.Invalid", tt.data, last)
			}
		})
	}
}

func TestModeKinds(t *testing.T) {
	tests := []struct {
		mode  git.Mode
		text  string
		kind  git.Kind
		known bool
	}{
		{git.ModeDir, "040000", git.Tree, true},
		{git.ModeFile, "100644", git.Blob, true},
		{git.ModeGroup, "100664", git.Blob, true},
		{git.ModeExec, "100755", git.Blob, true},
		{git.ModeSymlink, "120000", git.Blob, true},
		{git.ModeGitlink, "160000", git.Commit, true},
		{0o100600, "100600", git.Blob, false},
		{0, "000000", git.Blob, false},
	}
	for _, tt := range tests {
		if got := tt.mode.String(); got != tt.text {
			t.Errorf("mode %o is written %s, want %s", uint32(tt.mode), got, tt.text)
		}
		if got := tt.mode.Kind(); got != tt.kind {
			t.Errorf("%s.Kind() = %s, want %s", tt.mode, got, tt.kind)
		}
		if got := tt.mode.Known(); got != tt.known {
			t.Errorf("%s.Known() = %v, want %v", tt.mode, got, tt.known)
		}
	}
}

// Whatever can be read is written again as the same entries, in no more bytes (modes lose leading zeros).
func FuzzTreeEntries(f *testing.F) {
	f.Add([]byte(""))
	f.Add(git.AppendEntry(nil, git.Entry{Mode: git.ModeFile, Name: []byte("a"), OID: emptyBlob}))
	f.Add(git.AppendEntry(git.AppendEntry(nil, git.Entry{Mode: git.ModeDir, Name: []byte("a"), OID: emptyBlob}),
		git.Entry{Mode: git.ModeGitlink, Name: []byte("b"), OID: emptyBlob}))
	f.Add([]byte("0100644 padded\x00aaaaaaaaaaaaaaaaaaaa"))
	f.Add([]byte("7777777 most\x00aaaaaaaaaaaaaaaaaaaa100644 cut"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var entries []git.Entry
		var again []byte
		for e, err := range git.TreeEntries(data) {
			if err != nil {
				if !errors.Is(err, errkind.Invalid) {
					t.Fatalf("%v is not errkind.Invalid", err)
				}
				return
			}
			entries = append(entries, e)
			again = git.AppendEntry(again, e)
		}
		if len(again) > len(data) {
			t.Fatalf("%d bytes became %d", len(data), len(again))
		}
		i := 0
		for e, err := range git.TreeEntries(again) {
			if err != nil || !sameEntry(e, entries[i]) {
				t.Fatalf("entry %d: %v became %v, %v", i, entries[i], e, err)
			}
			i++
		}
		if i != len(entries) {
			t.Fatalf("%d entries became %d", len(entries), i)
		}
	})
}

// The order of entries is total: antisymmetric, and 0 only between equals or a file and a directory that cannot be told
// apart by it.
func FuzzCompareEntries(f *testing.F) {
	f.Add("a", false, "a", true)
	f.Add("a", true, "a.c", false)
	f.Add("a", true, "a0", false)
	f.Add("lib-x", false, "lib", true)
	f.Fuzz(func(t *testing.T, a string, aDir bool, b string, bDir bool) {
		am, bm := git.ModeFile, git.ModeFile
		if aDir {
			am, a = git.ModeDir, strings.TrimRight(a, "/")
		}
		if bDir {
			bm, b = git.ModeDir, strings.TrimRight(b, "/")
		}
		if strings.ContainsAny(a+b, "/\x00") {
			return
		}
		got := sign(git.CompareEntries([]byte(a), am, []byte(b), bm))
		if back := sign(git.CompareEntries([]byte(b), bm, []byte(a), am)); back != -got {
			t.Fatalf("compare(%q, %q) = %d, and the other way %d", a, b, got, back)
		}
		if aDir {
			a += "/"
		}
		if bDir {
			b += "/"
		}
		if want := strings.Compare(a, b); got != want {
			t.Fatalf("compare(%q, %q) = %d, want %d", a, b, got, want)
		}
	})
}

func sign(n int) int { return min(1, max(-1, n)) }

func sameEntry(a, b git.Entry) bool {
	return a.Mode == b.Mode && a.OID == b.OID && bytes.Equal(a.Name, b.Name)
}

// runGit runs real git, in a world of its own, and returns what it prints.
func runGit(t *testing.T, dir, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}
