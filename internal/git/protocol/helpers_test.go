package protocol_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/skep-dev/skep/internal/git/gittest"
)

// runGit runs git and returns what it says.
func runGit(tb testing.TB, dir string, args ...string) string {
	tb.Helper()
	out, err := gittest.At(tb, dir).Talk(args...)
	if err != nil {
		tb.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// commitFile writes one file and commits it, each commit a second after the one before.
func commitFile(tb testing.TB, dir string, when int, name, content string) string {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		tb.Fatal(err)
	}
	runGit(tb, dir, "add", ".")
	date := fmt.Sprintf("%d +0000", 1700000000+when)
	r := gittest.At(tb, dir).With("GIT_AUTHOR_DATE="+date, "GIT_COMMITTER_DATE="+date)
	r.Git("commit", "-q", "-m", fmt.Sprintf("commit %d", when))
	return runGit(tb, dir, "rev-parse", "HEAD")
}

// commitMany makes n commits on the checked out branch with one process; the working tree stays as it is.
func commitMany(tb testing.TB, dir string, n, when int, name string, content func(i int) string) {
	tb.Helper()
	var b strings.Builder
	branch := runGit(tb, dir, "symbolic-ref", "HEAD")
	for i := range n {
		fmt.Fprintf(&b, "commit %s\ncommitter C O Mitter <committer@example.com> %d +0000\ndata 2\nm\n\n", branch, 1700000000+when+i)
		if i == 0 {
			fmt.Fprintf(&b, "from %s^0\n", branch)
		}
		text := content(i)
		fmt.Fprintf(&b, "M 644 inline %s\ndata %d\n%s\n", name, len(text), text)
	}
	gittest.At(tb, dir).With("GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=fastimport.unpackLimit", "GIT_CONFIG_VALUE_0=100000").FastImport(b.String())
}

var (
	sampleOnce sync.Once
	sampleDir  string // a directory of TestMain's
)

// sample copies a repository with commits, a merge, tags of all kinds and two branches.
func sample(tb testing.TB) string {
	tb.Helper()
	sampleOnce.Do(func() { makeSample(tb, filepath.Join(sampleDir, "sample")) })
	dir := tb.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(sampleDir, "sample"))); err != nil {
		tb.Fatal(err)
	}
	return dir
}

func makeSample(tb testing.TB, dir string) {
	tb.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	runGit(tb, dir, "init", "-q", "-b", "main")
	big := strings.Repeat("a line that deltas well\n", 200)
	for i := range 10 {
		commitFile(tb, dir, i, "src/file.txt", fmt.Sprintf("%schange %d\n", big, i))
		commitFile(tb, dir, i, fmt.Sprintf("src/dir%d/f", i%3), fmt.Sprintf("small %d\n", i))
	}
	runGit(tb, dir, "tag", "light")
	runGit(tb, dir, "tag", "-a", "-m", "a tag", "v1")
	runGit(tb, dir, "tag", "-a", "-m", "a tag of a tag", "v1-again", "v1")
	runGit(tb, dir, "tag", "-a", "-m", "a tree", "tree", "HEAD^{tree}")
	runGit(tb, dir, "checkout", "-q", "-b", "side", "HEAD~5")
	commitFile(tb, dir, 20, "side", "side\n")
	runGit(tb, dir, "checkout", "-q", "main")
	runGit(tb, dir, "merge", "-q", "--no-ff", "--no-commit", "side")
	commitFile(tb, dir, 30, "merged", "merged\n")
	runGit(tb, dir, "tag", "-a", "-m", "second", "v2")
}

// objects lists everything that a repository's references lead to, or that revs lead to.
func objects(tb testing.TB, dir string, revs ...string) string {
	tb.Helper()
	if len(revs) == 0 {
		revs = []string{"--all"}
	}
	list := strings.Split(runGit(tb, dir, append([]string{"rev-list", "--objects", "--no-object-names"}, revs...)...), "\n")
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// refs lists a repository's references.
func refs(tb testing.TB, dir string) string {
	tb.Helper()
	return runGit(tb, dir, "for-each-ref", "--format=%(objectname) %(refname)")
}

// gitHTTP serves the repositories below root by git itself.
func gitHTTP(tb testing.TB, root string) *httptest.Server {
	tb.Helper()
	path, err := exec.LookPath("git")
	if err != nil {
		tb.Fatal(err)
	}
	h := &cgi.Handler{
		Path: path, Args: []string{"http-backend"}, Dir: root,
		Env: gittest.Env("GIT_PROJECT_ROOT="+root, "GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.receivepack", "GIT_CONFIG_VALUE_0=true"),
		Stderr: io.Discard,
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.Header.Get("Git-Protocol"); p != "" {
			h := *h
			h.Env = append(append([]string(nil), h.Env...), "GIT_PROTOCOL="+p)
			serveCGI(&h, w, r)
			return
		}
		serveCGI(h, w, r)
	}))
	tb.Cleanup(s.Close)
	return s
}

// serveCGI gives the script a body of known length: Go's CGI host takes no chunked one.
func serveCGI(h *cgi.Handler, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	h.ServeHTTP(w, r)
}

// pkts writes pkt-lines from a readable form, one on each line: "0000", "0001", or a payload, to which a line feed is
// added. \0 stands for NUL.
func pkts(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		switch l {
		case "0000", "0001", "0002":
			b.WriteString(l)
		default:
			l = strings.ReplaceAll(l, `\0`, "\x00") + "\n"
			fmt.Fprintf(&b, "%04x%s", len(l)+4, l)
		}
	}
	return b.String()
}
