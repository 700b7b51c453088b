package git_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

const (
	someTree   = "2222222222222222222222222222222222222222"
	someCommit = "3333333333333333333333333333333333333333"
	someBlob   = "4444444444444444444444444444444444444444"
	someone    = "A U Thor <author@example.com> 1700000000 +0100"
)

// entries writes a tree from lines "mode name".
func entries(lines ...string) []byte {
	var b []byte
	for _, l := range lines {
		b = append(append(b, l...), 0)
		o := git.MustParseOID(someBlob)
		if strings.HasPrefix(strings.TrimLeft(l, "0"), "4") {
			o = git.MustParseOID(someTree)
		}
		b = append(b, o[:]...)
	}
	return b
}

func commit(lines ...string) []byte {
	return []byte("tree " + someTree + "\n" + strings.Join(lines, "\n"))
}

func tagged(lines ...string) []byte {
	oid := someBlob
	if lines[0] == "type commit" {
		oid = someCommit
	}
	return []byte("object " + oid + "\n" + strings.Join(lines, "\n"))
}

type checkCase struct {
	name string
	kind git.Kind
	data []byte
	want string // git's message ID, or nothing
	git  string // where git's own judgement differs on purpose: "accepts" or "refuses"
}

func checkCases() []checkCase {
	T, C, G := git.Tree, git.Commit, git.Tag
	author, committer := "author "+someone, "committer "+someone
	by := func(sig string) []byte { return commit("author "+sig, committer, "", "message") }
	cases := []checkCase{
		{"empty tree", T, nil, "", ""},
		{"all modes", T, entries("100644 a", "100755 b", "120000 c", "160000 d", "40000 e", "100664 f"), "", ""},
		{"zero-padded mode", T, entries("040000 a"), "", "refuses"},
		{"odd permissions", T, entries("100640 a"), "badFilemode", "accepts"},
		{"unknown type", T, entries("170000 a"), "badFilemode", "accepts"},
		{"not octal", T, entries("100648 a"), "badTree", ""},
		{"no mode", T, entries(" a"), "badTree", ""},
		{"cut short", T, entries("100644 a")[:20], "badTree", ""},
		{"cut in the mode", T, []byte("1006"), "badTree", ""},
		{"null", T, append([]byte("100644 a\x00"), make([]byte, 20)...), "nullSha1", ""},
		{"not sorted", T, entries("100644 b", "100644 a"), "treeNotSorted", ""},
		{"directory sorts as with slash", T, entries("100644 a.c", "40000 a", "100644 a0"), "", ""},
		{"directory sorted as file", T, entries("40000 a", "100644 a.c"), "treeNotSorted", ""},
		{"file sorted as directory", T, entries("100644 a.c", "100644 a"), "treeNotSorted", ""},
		{"twice", T, entries("100644 a", "100644 a"), "duplicateEntries", ""},
		{"file and directory", T, entries("100644 a", "40000 a"), "duplicateEntries", ""},
		{"file and directory apart", T, entries("100644 a", "100644 a.b", "40000 a"), "duplicateEntries", ""},
		{"file and directory far apart", T, entries("100644 foo", "100644 foo.bar", "100644 foo.bar.baz", "40000 foo.bar", "40000 foo"), "duplicateEntries", ""},
		{"file, other directory", T, entries("100644 foo", "100644 foo.bar", "40000 foo.bar.baz", "40000 fop"), "", ""},
		{"no name", T, entries("100644 "), "badTree", ""},
		{"slash", T, entries("100644 a/b"), "fullPathname", ""},
		{"only a slash", T, entries("100644 /"), "fullPathname", ""},
		{"dot", T, entries("40000 ."), "hasDot", ""},
		{"dotdot", T, entries("40000 .."), "hasDotdot", ""},
		{"three dots", T, entries("40000 ..."), "", ""},
		{"not UTF-8", T, entries("100644 \xff\xfe"), "", ""},
		{"gitmodules link", T, entries("120000 .gitmodules"), "gitmodulesSymlink", ""},
		{"gitmodules link, NTFS", T, entries("120000 GITMOD~1"), "gitmodulesSymlink", ""},
		{"gitmodules link, hashed", T, entries("120000 gi7eba~9"), "gitmodulesSymlink", ""},
		{"gitmodules link, hashed short", T, entries("120000 gi7e~123 ."), "gitmodulesSymlink", ""},
		{"gitmodules link, dots", T, entries("120000 .gitmodules. .:stream"), "gitmodulesSymlink", ""},
		{"gitmodules link, HFS", T, entries("120000 .git\u200cModules"), "gitmodulesSymlink", ""},
		{"gitmodules link, backslash", T, entries("120000 a\\.gitmodules"), "gitmodulesSymlink", ""},
		{"not quite gitmodules", T, entries("120000 .gitmodules2", "120000 gi7eba~0", "120000 gitmod~5"), "", ""},
		{"gitattributes link", T, entries("120000 .gitattributes"), "", ""},

		{"commit", C, commit(author, committer, "", "message"), "", ""},
		{"parents", C, commit("parent "+someCommit, "parent "+someCommit, author, committer, "", ""), "", ""},
		{"other headers", C, commit(author, committer, "encoding x", "gpgsig y", " z", "", ""), "", ""},
		{"no message", C, commit(author, committer, ""), "", ""},
		{"no end", C, commit(author, committer), "unterminatedHeader", ""},
		{"nothing", C, nil, "unterminatedHeader", ""},
		{"NUL in the header", C, commit(author, committer, "x\x00", "", ""), "nulInHeader", ""},
		{"NUL in the message", C, commit(author, committer, "", "a\x00b"), "", "refuses"},
		{"no tree", C, []byte(author + "\n" + committer + "\n\n"), "missingTree", ""},
		{"bad tree", C, []byte("tree 22\n" + author + "\n" + committer + "\n\n"), "badTreeSha1", ""},
		{"long tree", C, []byte("tree " + someTree + "2\n" + author + "\n" + committer + "\n\n"), "badTreeSha1", ""},
		{"bad parent", C, commit("parent x"+someCommit[1:], author, committer, "", ""), "badParentSha1", ""},
		{"no author", C, commit(committer, "", ""), "missingAuthor", ""},
		{"two authors", C, commit(author, author, committer, "", ""), "multipleAuthors", ""},
		{"no committer", C, commit(author, "", ""), "missingCommitter", ""},
		{"committer before author", C, commit(committer, author, "", ""), "missingAuthor", ""},
		{"two committers", C, commit(author, committer, committer, "", ""), "", ""},
		{"parent after author", C, commit(author, "parent "+someCommit, committer, "", ""), "missingCommitter", ""},
		{"no name", C, by("<a@b> 1 +0000"), "missingNameBeforeEmail", ""},
		{"empty name", C, by(" <a@b> 1 +0000"), "", ""},
		{"empty email", C, by("a <> 1 +0000"), "", ""},
		{"no email", C, by("a 1 +0000"), "missingEmail", ""},
		{"> in name", C, by("a> <a@b> 1 +0000"), "badName", ""},
		{"no space", C, by("a<a@b> 1 +0000"), "missingSpaceBeforeEmail", ""},
		{"two emails", C, by("a <a@b <c>> 1 +0000"), "badEmail", ""},
		{"open email", C, by("a <a@b 1 +0000"), "badEmail", ""},
		{"no date", C, by("a <a@b>"), "", "refuses"},
		{"no space before date", C, by("a <a@b>1 +0000"), "", "refuses"},
		{"empty date", C, by("a <a@b> "), "badDate", ""},
		{"date in words", C, by("a <a@b> today +0000"), "badDate", ""},
		{"date without zone", C, by("a <a@b> 1"), "badDate", ""},
		{"padded date", C, by("a <a@b> 01 +0000"), "zeroPaddedDate", ""},
		{"date 0", C, by("a <a@b> 0 +0000"), "", ""},
		{"far date", C, by("a <a@b> 18446744073709551615 +0000"), "badDateOverflow", ""},
		{"zone of the wild", C, by("a <a@b> 1 +051800"), "", "refuses"},
		{"zone without sign", C, by("a <a@b> 1 0100"), "badTimezone", ""},
		{"zone in words", C, by("a <a@b> 1 +CEST"), "badTimezone", ""},
		{"empty zone", C, by("a <a@b> 1 "), "badTimezone", ""},

		{"tag", G, tagged("type commit", "tag v1", "tagger "+someone, "", "message"), "", ""},
		{"old tag", G, tagged("type commit", "tag v1", "", "message"), "", ""},
		{"odd tag name", G, tagged("type commit", "tag a..b", "tagger "+someone, "", "message"), "", ""},
		{"no object", G, []byte("type commit\ntag v1\n\n"), "missingObject", ""},
		{"bad object", G, []byte("object x\ntype commit\ntag v1\n\n"), "badObjectSha1", ""},
		{"no type", G, tagged("tag v1", "", ""), "missingTypeEntry", ""},
		{"bad type", G, tagged("type bolb", "tag v1", "", ""), "badType", ""},
		{"no tag name", G, tagged("type blob", "tagger "+someone, "", ""), "missingTagEntry", ""},
		{"bad tagger", G, tagged("type blob", "tag v1", "tagger x", "", ""), "missingEmail", ""},
		{"unterminated", G, tagged("type blob", "tag v1"), "unterminatedHeader", ""},
		{"extra header", G, tagged("type blob", "tag v1", "tagger "+someone, "x y", "", ""), "", ""},

		{"any blob", git.Blob, []byte("\x00\xff"), "", ""},
	}
	for _, n := range []string{
		".git", ".GIT", ".Git", ".git.", ".git ", ".git . .", ".git::$INDEX_ALLOCATION", ".git:x", "git~1", "GIT~1", "git~1.",
		".g\u200cit", "\u200e.git", "\ufeff.git", ".git\u206f", ".git\\x", "a\\.git", "a\\b\\git~1\\c", ".gIt\u202a",
	} {
		cases = append(cases, checkCase{fmt.Sprintf("dotgit %q", n), T, entries("100644 " + n), "hasDotgit", ""})
	}
	for _, n := range []string{".gitt", "git", "git~2", "git~11", ".git-", ".git_x", "x.git", ".gi", "a\\git", ".g\u200bit", ".gi\u0307t", "gitignore", ".gitignore"} {
		cases = append(cases, checkCase{fmt.Sprintf("not dotgit %q", n), T, entries("100644 " + n), "", ""})
	}
	return cases
}

func TestCheck(t *testing.T) {
	for _, tt := range checkCases() {
		t.Run(tt.kind.String()+" "+tt.name, func(t *testing.T) {
			err := git.Check(tt.kind, tt.data)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("Check(%q) = %v, want no error", tt.data, err)
			case tt.want != "" && !errors.Is(err, errkind.Invalid):
				t.Errorf("Check(%q) = %v, want an error that is errkind.Invalid", tt.data, err)
			case tt.want != "" && !strings.Contains(err.Error(), tt.want):
				t.Errorf("Check(%q) = %v, want it to name %s", tt.data, err, tt.want)
			}
		})
	}
}

// Each case goes into one repository; then git fsck says what it thinks of all of them.
func TestCheckAgainstGitFsck(t *testing.T) {
	dir := t.TempDir()
	runGit(t, dir, "", "init", "-q", "--bare")
	cases := checkCases()
	for _, tt := range cases {
		got := runGit(t, dir, string(tt.data), "hash-object", "--literally", "-t", tt.kind.String(), "-w", "--stdin")
		if want := git.Hash(tt.kind, tt.data).String(); strings.TrimSpace(got) != want {
			t.Fatalf("%s: git hashes to %s, we to %s", tt.name, got, want)
		}
	}
	report := fsckReport(t, dir)
	for _, tt := range cases {
		oid := git.Hash(tt.kind, tt.data).String()
		said, refused := report[oid]
		want := refused
		switch tt.git {
		case "accepts":
			want = true
			if refused {
				t.Errorf("%s: git now refuses it (%q): no exception is needed", tt.name, said)
			}
		case "refuses":
			want = false
			if !refused {
				t.Errorf("%s: git now accepts it: no exception is needed", tt.name)
			}
		}
		err := git.Check(tt.kind, tt.data)
		if (err != nil) != want {
			t.Errorf("%s: git says %q, we say %v", tt.name, said, err)
		}
		if err != nil && len(said) > 0 && !slices.ContainsFunc(said, func(id string) bool { return strings.Contains(err.Error(), id) }) {
			t.Errorf("%s: git says %q, we say %v", tt.name, said, err)
		}
	}
}

var (
	fsckError = regexp.MustCompile(`(?m)^error in \w+ ([0-9a-f]{40}): (\w+):`)
	fsckLost  = regexp.MustCompile(`(?m)^error: ([0-9a-f]{40}): object corrupt or missing|^error: ([0-9a-f]{40}): object could not be parsed`)
)

// fsckReport runs git fsck and returns the message IDs of each refused object: none for one that git cannot even parse.
func fsckReport(t *testing.T, dir string) map[string][]string {
	t.Helper()
	cmd := exec.Command("git", "fsck", "--strict", "--no-dangling")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, _ := cmd.CombinedOutput() // it fails, as it should
	report := map[string][]string{}
	for _, m := range fsckLost.FindAllStringSubmatch(string(out), -1) {
		report[m[1]+m[2]] = nil
	}
	for _, m := range fsckError.FindAllStringSubmatch(string(out), -1) {
		report[m[1]] = append(report[m[1]], m[2])
	}
	if len(report) == 0 {
		t.Fatalf("git fsck refused nothing: %s", out)
	}
	return report
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"a", "a b", "...", ".gitignore", "git", "\xff"} {
		if err := git.CheckName(good); err != nil {
			t.Errorf("CheckName(%q) = %v", good, err)
		}
	}
	for _, bad := range []string{"", ".", "..", ".git", ".GIT ", "git~1", "a/b", "a\x00", strings.Repeat("a", 5000)} {
		if err := git.CheckName([]byte(bad)); !errors.Is(err, errkind.Invalid) {
			t.Errorf("CheckName(%q) = %v, want errkind.Invalid", bad, err)
		}
	}
	if err := git.CheckEntry(".gitmodules", git.ModeSymlink); !errors.Is(err, errkind.Invalid) {
		t.Errorf("CheckEntry of a link at .gitmodules = %v, want errkind.Invalid", err)
	}
}
