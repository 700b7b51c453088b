package protocol_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// traced runs git in a way and returns the packets that it sent and got.
func (w way) traced(t *testing.T, dir, sub string, args ...string) string {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	if out, err := gittest.At(t, dir).With("GIT_TRACE_PACKET=" + trace).Talk(w.args(sub, args...)...); err != nil {
		t.Fatalf("git %s: %v\n%s", sub, err, out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Git asks by name, and for everything on a side-band, where it is told that it may.
func TestGitWantsReferencesAndSidebandAll(t *testing.T) {
	src := sample(t)
	r := load(t, src)
	r.configure("uploadpack.allowRefInWant=true", "uploadpack.allowSidebandAll=true", "transfer.advertiseSID=true")
	for _, w := range r.ways(t, protocol.UploadOptions{Cache: &answers{}, Session: "server-session"}) {
		if w.version != 2 {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			dst := t.TempDir()
			w.git(t, dst, "clone", w.url, ".")
			fsck(t, dst)
			if diff := cmp.Diff(objects(t, src), objects(t, dst)); diff != "" {
				t.Errorf("objects (-source +clone):\n%s", diff)
			}
			shallow := t.TempDir()
			runGit(t, shallow, "init", "-q", "-b", "none")
			trace := w.traced(t, shallow, "fetch", "--depth=1", w.url, "main", "refs/tags/v2")
			for _, want := range []string{
				"> want-ref refs/heads/main", "> want-ref refs/tags/v2", "> sideband-all", `< \1wanted-refs`, `< \1shallow-info`,
				"< session-id=server-session",
			} {
				if !strings.Contains(trace, want) {
					t.Errorf("the trace has no %q:\n%s", want, trace)
				}
			}
			out := w.git(t, shallow, "fetch", "--deepen=3", w.url, "main")
			fsck(t, shallow)
			if got := runGit(t, shallow, "rev-list", "--count", "--first-parent", "FETCH_HEAD"); got != "4" {
				t.Errorf("deepened to %s commits, want 4\n%s", got, out)
			}
			if err := r.takeErrs(); err != nil {
				t.Errorf("server: %v", err)
			}
		})
	}
}

// What a client says of itself is passed on.
func TestServersHearWhatClientsSay(t *testing.T) {
	src := sample(t)
	r := load(t, src)
	r.configure("transfer.advertiseSID=true")
	var said []protocol.Said
	hear := func(s protocol.Said) {
		r.mu.Lock()
		defer r.mu.Unlock()
		said = append(said, s)
	}
	for _, w := range r.ways(t, protocol.UploadOptions{Said: hear, Session: "server-session"}) {
		t.Run(w.name, func(t *testing.T) {
			dst := t.TempDir()
			runGit(t, dst, "init", "-q", "-b", "none")
			heard := func() []protocol.Said {
				r.mu.Lock()
				defer r.mu.Unlock()
				all := said
				said = nil
				return all
			}
			heard()
			args := []string{"-q", w.url, "main"}
			if w.version == 2 {
				args = append([]string{"-o", "first", "-o", "second=2"}, args...)
			}
			runGit(t, dst, "config", "transfer.advertiseSID", "true")
			w.git(t, dst, "fetch", args...)
			all := heard()
			if len(all) == 0 {
				t.Fatal("nothing was heard")
			}
			last := all[len(all)-1]
			if !strings.HasPrefix(last.Agent, "git/") || last.Session == "" {
				t.Errorf("heard %+v, want an agent and a session", last)
			}
			if got := fmt.Sprint(last.Options); w.version == 2 && got != "[first second=2]" {
				t.Errorf("heard options %s", got)
			}
		})
	}
}

// However a client moves its boundary, it gets where git's own server would bring it.
func TestGitDeepensStepByStepAsFromGit(t *testing.T) {
	src := sample(t)
	commitMany(t, src, 30, 100, "many", func(i int) string { return fmt.Sprint(i) })
	runGit(t, src, "checkout", "-q", "side")
	commitMany(t, src, 30, 100, "other", func(i int) string { return fmt.Sprint(i) })
	r := load(t, src)
	for _, w := range r.ways(t, protocol.UploadOptions{Cache: &answers{}}) {
		t.Run(w.name, func(t *testing.T) {
			var shallow []string
			for _, from := range []way{w, {version: w.version, url: "file://" + src}} {
				dst := t.TempDir()
				from.git(t, dst, "clone", "-q", "--depth=2", "--no-single-branch", from.url, ".")
				steps := [][]string{
					{"--deepen=3", "main"},
					{"--deepen=2", "main", "side"},
					{"--shallow-exclude=v1", "side"},
					{"--shallow-exclude=v1", "--shallow-exclude=refs/heads/side", "main"},
					{"--shallow-since=1700000105 +0000", "main", "side"},
					{"--depth=2", "side"},
				}
				var states []string
				for _, args := range steps {
					from.git(t, dst, "fetch", append([]string{"-q", from.url}, args...)...)
					b, err := os.ReadFile(filepath.Join(dst, ".git/shallow"))
					if err != nil {
						t.Fatal(err)
					}
					states = append(states, fmt.Sprintf("%s\n%s", args, b))
				}
				from.git(t, dst, "fetch", "-q", "--unshallow", from.url, "main", "side")
				fsck(t, dst)
				shallow = append(shallow, strings.Join(states, "\n"))
			}
			if diff := cmp.Diff(shallow[1], shallow[0]); diff != "" {
				t.Errorf("boundaries (-git +skep):\n%s", diff)
			}
			if err := r.takeErrs(); err != nil {
				t.Errorf("server: %v", err)
			}
		})
	}
}

// Hidden references are neither seen nor moved; what they lead to may be had by its ID as far as is allowed.
func TestGitAndHiddenReferences(t *testing.T) {
	src := sample(t)
	hidden := commitFile(t, src, 50, "hidden", "hidden\n")
	runGit(t, src, "update-ref", "refs/pull/1/head", "HEAD")
	runGit(t, src, "reset", "-q", "--hard", "HEAD~1")
	below := runGit(t, src, "rev-parse", hidden+"^{tree}")
	r := load(t, src)
	for _, w := range r.ways(t, protocol.UploadOptions{}) {
		t.Run(w.name, func(t *testing.T) {
			r.configure("transfer.hideRefs=refs/pull", "transfer.hideRefs=!refs/pull/2")
			if out := w.git(t, src, "ls-remote", w.url); strings.Contains(out, "refs/pull") || !strings.Contains(out, "refs/heads/main") {
				t.Errorf("ls-remote lists\n%s", out)
			}
			dst := t.TempDir()
			runGit(t, dst, "init", "-q", "-b", "none")
			if out, err := w.try(t, dst, "fetch", w.url, "refs/pull/1/head"); err == nil {
				t.Errorf("a hidden reference is fetched by name:\n%s", out)
			}
			fetch := func(o string, want bool) {
				t.Helper()
				if out, err := w.try(t, dst, "fetch", w.url, o); (err == nil) != want {
					t.Errorf("fetch %s: %v, want success %t\n%s", o, err, want, out)
				}
			}
			fetch(hidden, true)
			r.configure("transfer.hideRefs=refs/pull", "uploadpack.allowAnySHA1InWant=false")
			dst = t.TempDir()
			runGit(t, dst, "init", "-q", "-b", "none")
			fetch(hidden, false)
			fetch(below, false)
			r.configure("transfer.hideRefs=refs/pull", "uploadpack.allowAnySHA1InWant=false", "uploadpack.allowTipSHA1InWant=true")
			fetch(hidden, true)
			r.configure("transfer.hideRefs=refs", "transfer.hideRefs=HEAD", "uploadpack.allowAnySHA1InWant=true")
			fetch(below, true)
		})
	}
	r.configure("receive.hideRefs=refs/pull")
	for _, w := range r.ways(t, protocol.UploadOptions{}) {
		if w.version == 2 {
			continue
		}
		t.Run("push "+w.name, func(t *testing.T) {
			for spec, want := range map[string]string{
				"+main:refs/pull/1/head": "deny updating a hidden ref", ":refs/pull/1/head": "deny deleting a hidden ref",
				"main:refs/pull/3/head": "deny updating a hidden ref",
			} {
				if out, err := w.try(t, src, "push", w.url, spec); err == nil || !strings.Contains(out, want) {
					t.Errorf("push %s: %v\n%s\nwant %q", spec, err, out, want)
				}
			}
			if now, _ := r.View().Refs.Get("refs/pull/1/head"); now.OID != git.MustParseOID(hidden) {
				t.Errorf("the hidden reference is at %s", now.OID)
			}
			if out := w.git(t, src, "push", w.url, ":refs/heads/nothing"); !strings.Contains(out, "warning: deleting a non-existent ref") {
				t.Errorf("the deletion of what is not there says\n%s", out)
			}
		})
	}
}
