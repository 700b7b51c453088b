package protocol_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
)

func TestGitClones(t *testing.T) {
	src := sample(t)
	r := load(t, src)
	for _, w := range r.ways(t, protocol.UploadOptions{Cache: &answers{}}) {
		t.Run(w.name, func(t *testing.T) {
			dst := t.TempDir()
			w.git(t, dst, "clone", "--mirror", w.url, ".")
			if diff := cmp.Diff(refs(t, src), refs(t, dst)); diff != "" {
				t.Errorf("references (-source +clone):\n%s", diff)
			}
			if diff := cmp.Diff(objects(t, src), objects(t, dst)); diff != "" {
				t.Errorf("objects (-source +clone):\n%s", diff)
			}
			if got := runGit(t, dst, "symbolic-ref", "HEAD"); got != "refs/heads/main" {
				t.Errorf("HEAD is %s", got)
			}
			fsck(t, dst)
			if err := r.takeErrs(); err != nil {
				t.Errorf("server: %v", err)
			}
		})
	}
}

func TestGitListsReferences(t *testing.T) {
	src := sample(t)
	r := load(t, src)
	for _, w := range r.ways(t, protocol.UploadOptions{}) {
		t.Run(w.name, func(t *testing.T) {
			want := runGit(t, src, "-c", fmt.Sprintf("protocol.version=%d", w.version), "ls-remote", "--symref", "file://"+src)
			if diff := cmp.Diff(want, w.git(t, src, "ls-remote", "--symref", w.url)); diff != "" {
				t.Errorf("ls-remote (-git +skep):\n%s", diff)
			}
			want = runGit(t, src, "ls-remote", "--heads", "file://"+src, "side")
			if diff := cmp.Diff(want, w.git(t, src, "ls-remote", "--heads", w.url, "side")); diff != "" {
				t.Errorf("ls-remote of one branch (-git +skep):\n%s", diff)
			}
		})
	}
}

func TestGitClonesAnEmptyRepository(t *testing.T) {
	r := newRepo(t)
	r.set(r.view.Refs.WithHead("refs/heads/trunk"), r.view.Objects)
	for _, w := range r.ways(t, protocol.UploadOptions{}) {
		t.Run(w.name, func(t *testing.T) {
			dst := t.TempDir()
			w.git(t, dst, "clone", w.url, ".")
			if got := runGit(t, dst, "symbolic-ref", "HEAD"); w.version == 2 && got != "refs/heads/trunk" {
				t.Errorf("HEAD is %s, want the remote's unborn branch", got)
			}
			if err := r.takeErrs(); err != nil {
				t.Errorf("server: %v", err)
			}
		})
	}
}

func TestGitFetchesOnlyWhatIsNew(t *testing.T) {
	src := sample(t)
	r := load(t, src)
	for _, w := range r.ways(t, protocol.UploadOptions{Cache: &answers{}}) {
		t.Run(w.name, func(t *testing.T) {
			// Given a clone with work of its own on an old state …
			dst := t.TempDir()
			runGit(t, dst, "init", "-q", "-b", "other")
			runGit(t, src, "push", "-q", dst, "main~4:refs/heads/main")
			runGit(t, dst, "checkout", "-q", "main")
			commitMany(t, dst, 40, 100, "mine", func(i int) string { return fmt.Sprint(i) })
			before := strings.Fields(runGit(t, dst, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)"))
			// … when it fetches …
			runGit(t, dst, "config", "fetch.unpackLimit", "1")
			w.git(t, dst, "fetch", w.url, "+refs/*:refs/remotes/skep/*")
			// … then it has everything, and got nothing twice.
			if diff := cmp.Diff(objects(t, src), objects(t, dst, "--glob=refs/remotes/skep/*")); diff != "" {
				t.Errorf("objects (-source +clone):\n%s", diff)
			}
			fsck(t, dst)
			for _, o := range sent(t, dst) {
				if slices.Contains(before, o) && !isDeltaBase(t, dst, o) {
					t.Errorf("%s was sent although the client had it", o)
				}
			}
			if err := r.takeErrs(); err != nil {
				t.Errorf("server: %v", err)
			}
			// A second fetch asks for nothing.
			if out := w.git(t, dst, "fetch", w.url, "+refs/*:refs/remotes/skep/*"); out != "" {
				t.Errorf("fetched again: %s", out)
			}
		})
	}
}

// sent lists the objects of the one pack that a clone has.
func sent(t *testing.T, dir string) []string {
	t.Helper()
	idx, err := filepath.Glob(filepath.Join(dir, ".git/objects/pack/*.idx"))
	if err != nil || len(idx) != 1 {
		t.Fatalf("%d packs, %v", len(idx), err)
	}
	var out []string
	for l := range strings.SplitSeq(runGit(t, dir, "verify-pack", "-v", idx[0]), "\n") {
		if f := strings.Fields(l); len(f) >= 5 && len(f[0]) == 40 {
			out = append(out, f[0])
		}
	}
	return out
}

// isDeltaBase reports whether git completed the thin pack with an object.
func isDeltaBase(t *testing.T, dir, oid string) bool {
	t.Helper()
	idx, err := filepath.Glob(filepath.Join(dir, ".git/objects/pack/*.idx"))
	if err != nil || len(idx) != 1 {
		t.Fatalf("%d packs, %v", len(idx), err)
	}
	for l := range strings.SplitSeq(runGit(t, dir, "verify-pack", "-v", idx[0]), "\n") {
		if f := strings.Fields(l); len(f) == 7 && f[6] == oid {
			return true
		}
	}
	return false
}

func TestGitClonesShallow(t *testing.T) {
	src := sample(t)
	r := load(t, src)
	cache := &answers{}
	for _, w := range r.ways(t, protocol.UploadOptions{Cache: cache}) {
		t.Run(w.name, func(t *testing.T) {
			tests := [][]string{
				{"--depth=1"},
				{"--depth=3", "--no-single-branch"},
				{"--shallow-since=1700000006"},
				{"--shallow-exclude=v1", "--branch=side"},
				{"--depth=2", "--branch", "v1"},
			}
			for _, args := range tests {
				dst, ref := t.TempDir(), t.TempDir()
				w.git(t, dst, "clone", append(args, w.url, ".")...)
				runGit(t, ref, append(append([]string{"clone"}, args...), "file://"+src, ".")...)
				compareClones(t, strings.Join(args, " "), ref, dst)
				// Deepening by one, then to the end.
				w.git(t, dst, "fetch", "--deepen=1", w.url, "HEAD")
				runGit(t, ref, "fetch", "--deepen=1", "file://"+src, "HEAD")
				compareClones(t, strings.Join(args, " ")+", then deepen", ref, dst)
				w.git(t, dst, "fetch", "--unshallow", w.url, "+refs/*:refs/remotes/all/*")
				if diff := cmp.Diff(objects(t, src), objects(t, dst, "--glob=refs/remotes/all/*")); diff != "" {
					t.Errorf("%v, then unshallow: objects (-source +clone):\n%s", args, diff)
				}
				fsck(t, dst)
			}
			if err := r.takeErrs(); err != nil {
				t.Errorf("server: %v", err)
			}
		})
	}
	if cache.hits == 0 {
		t.Error("no answer came from the cache")
	}
}

// compareClones sees that two shallow clones have the same boundary and objects.
func compareClones(t *testing.T, what, want, got string) {
	t.Helper()
	boundary := func(dir string) string {
		b, err := os.ReadFile(filepath.Join(dir, ".git/shallow"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		lines := strings.Fields(string(b))
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	if diff := cmp.Diff(boundary(want), boundary(got)); diff != "" {
		t.Errorf("%s: shallow boundary (-git +skep):\n%s", what, diff)
	}
	if diff := cmp.Diff(objects(t, want), objects(t, got)); diff != "" {
		t.Errorf("%s: objects (-git +skep):\n%s", what, diff)
	}
	fsck(t, got)
}

func TestGitFetchesIntoAShallowClone(t *testing.T) {
	src := sample(t)
	r := load(t, src)
	for _, w := range r.ways(t, protocol.UploadOptions{Cache: &answers{}}) {
		t.Run(w.name, func(t *testing.T) {
			dst := t.TempDir()
			w.git(t, dst, "clone", "--depth=2", "--branch=side", w.url, ".")
			w.git(t, dst, "fetch", w.url, "+refs/heads/main:refs/heads/other")
			ref := t.TempDir()
			runGit(t, ref, "clone", "--depth=2", "--branch=side", "file://"+src, ".")
			runGit(t, ref, "fetch", "file://"+src, "+refs/heads/main:refs/heads/other")
			compareClones(t, "fetch", ref, dst)
		})
	}
}

func TestGitClonesPartially(t *testing.T) {
	src := sample(t)
	runGit(t, src, "tag", "-d", "tree") // git itself leaves out what it names
	r := load(t, src)
	for _, w := range r.ways(t, protocol.UploadOptions{Cache: &answers{}}) {
		for _, filter := range []string{"blob:none", "blob:limit=1k", "tree:0", "tree:2", "combine:tree:3+blob:limit=10"} {
			if w.name != "http v2" && filter != "blob:none" {
				continue // what a filter means does not depend on the way
			}
			t.Run(w.name+" "+filter, func(t *testing.T) {
				dst, ref := t.TempDir(), t.TempDir()
				runGit(t, src, "config", "uploadpack.allowFilter", "true")
				runGit(t, src, "config", "uploadpack.allowAnySHA1InWant", "true")
				w.git(t, dst, "clone", "--bare", "--filter="+filter, w.url, ".")
				runGit(t, ref, "clone", "--bare", "--filter="+filter, "file://"+src, ".")
				have := func(dir string) string {
					list := strings.Split(runGit(t, dir, "rev-list", "--objects", "--all", "--missing=allow-promisor", "--no-object-names"), "\n")
					slices.Sort(list)
					return strings.Join(list, "\n")
				}
				missing := func(dir string) string {
					var out []string
					for l := range strings.SplitSeq(runGit(t, dir, "rev-list", "--objects", "--all", "--missing=print"), "\n") {
						if strings.HasPrefix(l, "?") {
							out = append(out, l)
						}
					}
					slices.Sort(out)
					return strings.Join(out, "\n")
				}
				if diff := cmp.Diff(missing(ref), missing(dst)); diff != "" {
					t.Errorf("missing objects (-git +skep):\n%s", diff)
				}
				if diff := cmp.Diff(have(ref), have(dst)); diff != "" {
					t.Errorf("objects (-git +skep):\n%s", diff)
				}
				// What is missing comes when it is needed. The lazy fetch asks by the remote's own settings.
				if w.upload != "" {
					runGit(t, dst, "config", "remote.origin.uploadpack", w.upload)
				}
				got := runGit(t, dst, "-c", fmt.Sprintf("protocol.version=%d", w.version), "show", "main:src/file.txt")
				if want := runGit(t, src, "show", "main:src/file.txt"); got != want {
					t.Errorf("the file is %d bytes, want %d", len(got), len(want))
				}
				if err := r.takeErrs(); err != nil {
					t.Errorf("server: %v", err)
				}
			})
		}
	}
}

func TestGitMayNotFetchWhatNoReferenceLeadsTo(t *testing.T) {
	src := sample(t)
	secret := func() (commit, blob string) {
		runGit(t, src, "checkout", "-q", "-b", "secret", "main~1")
		commit = commitFile(t, src, 50, "secret.txt", "the secret\n")
		return commit, runGit(t, src, "rev-parse", "HEAD:secret.txt")
	}
	commit, blob := secret()
	r := load(t, src)
	r.move("refs/heads/secret", git.ZeroOID)
	for _, w := range r.ways(t, protocol.UploadOptions{}) {
		t.Run(w.name, func(t *testing.T) {
			dst := t.TempDir()
			runGit(t, dst, "init", "-q", "-b", "main")
			for _, oid := range []string{commit, blob, "1234567890123456789012345678901234567890"} {
				out, err := w.try(t, dst, "fetch", w.url, oid)
				if err == nil || !strings.Contains(out, "not our ref "+oid) {
					t.Errorf("fetch %s: %v\n%s", oid, err, out)
				}
			}
			// What a reference leads to may be fetched, whatever its kind.
			for _, rev := range []string{"main~2", "main~1^{tree}", "main:src/file.txt"} {
				w.git(t, dst, "fetch", w.url, runGit(t, src, "rev-parse", rev))
			}
		})
	}
}

func TestGitMayOnlyFetchTipsWhereConfiguredSo(t *testing.T) {
	src := sample(t)
	r := load(t, src)
	old := runGit(t, src, "rev-parse", "main~2")
	r.configure("uploadpack.allowTipSHA1InWant=false", "uploadpack.allowReachableSHA1InWant=false")
	for _, w := range r.ways(t, protocol.UploadOptions{}) {
		if w.version == 2 {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			dst := t.TempDir()
			runGit(t, dst, "init", "-q", "-b", "main")
			if out, err := w.try(t, dst, "fetch", w.url, old); err == nil {
				t.Errorf("fetch of an old commit succeeds: %s", out)
			}
			w.git(t, dst, "fetch", w.url, "refs/heads/main")
		})
	}
}

func TestGitSeesProgress(t *testing.T) {
	src := sample(t)
	r := load(t, src)
	for _, w := range r.ways(t, protocol.UploadOptions{}) {
		t.Run(w.name, func(t *testing.T) {
			out := w.git(t, t.TempDir(), "clone", "--progress", w.url, ".")
			for _, want := range []string{"remote: Enumerating objects: ", "remote: Total "} {
				if !strings.Contains(out, want) {
					t.Errorf("clone shows %q, want %q in it", out, want)
				}
			}
			if out := w.git(t, t.TempDir(), "clone", "-q", w.url, "."); out != "" {
				t.Errorf("quiet clone shows %q", out)
			}
		})
	}
}
