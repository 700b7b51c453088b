package protocol_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// listRefs is refs for a repo.
func listRefs(r *repo) string {
	var out []string
	for _, ref := range r.View().Refs.List() {
		out = append(out, ref.OID.String()+" "+string(ref.Name))
	}
	return strings.Join(out, "\n")
}

// packOf returns all of a repo as a pack.
func packOf(t *testing.T, r *repo) []byte {
	t.Helper()
	var b bytes.Buffer
	s := r.View().Objects
	set := odb.NewSet(s)
	set.AddAll(s)
	if _, err := s.WritePack(t.Context(), &b, set, odb.WriteOptions{OfsDelta: true}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// checkStored sees that a repo has what a repository of git's has.
func checkStored(t *testing.T, src string, r *repo) {
	t.Helper()
	if diff := cmp.Diff(refs(t, src), listRefs(r)); diff != "" {
		t.Errorf("references (-source +skep):\n%s", diff)
	}
	dst := t.TempDir()
	runGit(t, dst, "init", "-q", "--bare")
	file := filepath.Join(dst, "in.pack")
	if err := os.WriteFile(file, packOf(t, r), 0o644); err != nil {
		t.Fatal(err)
	}
	runGit(t, dst, "index-pack", "--strict", file)
	if err := os.Rename(file, filepath.Join(dst, "objects/pack/pack-1.pack")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(strings.TrimSuffix(file, ".pack")+".idx", filepath.Join(dst, "objects/pack/pack-1.idx")); err != nil {
		t.Fatal(err)
	}
	for _, ref := range r.View().Refs.List() {
		runGit(t, dst, "update-ref", string(ref.Name), ref.OID.String())
	}
	if diff := cmp.Diff(objects(t, src), objects(t, dst)); diff != "" {
		t.Errorf("objects (-source +skep):\n%s", diff)
	}
	fsck(t, dst)
}

func TestGitPushes(t *testing.T) {
	for i := range wayNames {
		r := newRepo(t)
		w := r.ways(t, protocol.UploadOptions{})[i]
		t.Run(w.name, func(t *testing.T) {
			src := sample(t)
			// A whole repository,
			w.git(t, src, "push", w.url, "+refs/*:refs/*")
			checkStored(t, src, r)
			// one more commit, as a thin pack,
			commitFile(t, src, 60, "src/file.txt", strings.Repeat("a line that deltas well\n", 200)+"changed\n")
			out := w.git(t, src, "push", w.url, "main")
			if strings.Contains(out, "remote: ") && !strings.Contains(out, "Resolving") {
				t.Errorf("push shows %s", out)
			}
			checkStored(t, src, r)
			// a branch at a commit that is there,
			runGit(t, src, "branch", "same", "main~2")
			w.git(t, src, "push", w.url, "same")
			checkStored(t, src, r)
			// a branch moved by force,
			runGit(t, src, "branch", "-f", "same", "side")
			w.git(t, src, "push", "--force", w.url, "same")
			checkStored(t, src, r)
			// a deletion, and one together with an update.
			runGit(t, src, "branch", "-D", "same")
			w.git(t, src, "push", w.url, ":same")
			runGit(t, src, "branch", "-D", "side")
			commitFile(t, src, 61, "more", "more\n")
			w.git(t, src, "push", "--atomic", w.url, ":side", "main")
			checkStored(t, src, r)
			if r.last.Actor != "alice" || !r.last.Atomic {
				t.Errorf("the last update came with %+v", r.last)
			}
			if err := r.takeErrs(); err != nil {
				t.Errorf("server: %v", err)
			}
		})
	}
}

func TestGitPushIsRefusedPerReference(t *testing.T) {
	src := sample(t)
	for i := range wayNames {
		r := load(t, src)
		r.deny = func(u git.RefUpdate) error {
			switch string(u.Name) {
			case "refs/heads/locked":
				return fmt.Errorf("update %s: branch is locked: %w", u.Name, errkind.Forbidden)
			case "refs/heads/broken":
				return errors.New("disk /var/lib/secret is full")
			}
			return nil
		}
		w := r.ways(t, protocol.UploadOptions{})[i]
		t.Run(w.name, func(t *testing.T) {
			before := listRefs(r)
			out, err := w.try(t, src, "push", "--atomic", w.url, "main:refs/heads/fine", "main:refs/heads/locked", "main:refs/heads/side/below")
			if err == nil {
				t.Error("an atomic push with refusals succeeds")
			}
			for _, want := range []string{
				"main -> fine (atomic push failure)",
				"main -> locked (branch is locked)",
				"main -> side/below (refs/heads/side exists)",
			} {
				if !strings.Contains(out, want) {
					t.Errorf("push shows %s\nwant %q in it", out, want)
				}
			}
			if listRefs(r) != before {
				t.Error("an atomic push with refusals moved references")
			}
			out, err = w.try(t, src, "push", w.url, "main:refs/heads/fine", "main:refs/heads/locked", "main:refs/heads/broken")
			for _, want := range []string{
				"main -> fine\n",
				"main -> locked (branch is locked)",
				"main -> broken (failed to update ref)",
			} {
				if err == nil || !strings.Contains(out, want) {
					t.Errorf("push shows %s\nwant %q in it", out, want)
				}
			}
			if strings.Contains(out, "secret") {
				t.Errorf("push shows the server's inside: %s", out)
			}
			if _, ok := r.View().Refs.Get("refs/heads/fine"); !ok {
				t.Error("what was not refused is not done")
			}
		})
	}
}

func TestGitPushLosesARace(t *testing.T) {
	for i := range wayNames {
		src := sample(t)
		r := load(t, src)
		w := r.ways(t, protocol.UploadOptions{})[i]
		t.Run(w.name, func(t *testing.T) {
			// Given that a reference moves after the client has read it: a hook runs at that moment.
			r.deny = func(u git.RefUpdate) error {
				if u.Old.IsZero() {
					return fmt.Errorf("update %s: %w", u.Name, errkind.Exists)
				}
				return fmt.Errorf("update %s: fetch first: %w", u.Name, errkind.Conflict)
			}
			commitFile(t, src, 70, "race", "race\n")
			out, err := w.try(t, src, "push", w.url, "main", "main:refs/heads/new", ":side")
			for _, want := range []string{"main -> main (fetch first)", "main -> new (reference already exists)", "side (fetch first)"} {
				if err == nil || !strings.Contains(out, want) {
					t.Errorf("push shows %s\nwant %q in it", out, want)
				}
			}
		})
	}
}

func TestGitPushesOptions(t *testing.T) {
	src := sample(t)
	for i := range wayNames {
		r := newRepo(t)
		w := r.ways(t, protocol.UploadOptions{})[i]
		t.Run(w.name, func(t *testing.T) {
			w.git(t, src, "push", "-o", "ci.skip", "-o", "a=b c", w.url, "main")
			if diff := cmp.Diff([]string{"ci.skip", "a=b c"}, r.last.PushOptions); diff != "" {
				t.Errorf("push options (-want +got):\n%s", diff)
			}
			out, err := w.try(t, src, "push", "-o", strings.Repeat("x", 5000), w.url, "main:other")
			if err == nil || !strings.Contains(out, "push option has more than 4096 bytes") {
				t.Errorf("a long option: %v\n%s", err, out)
			}
		})
	}
}

func TestGitPushesFromAShallowClone(t *testing.T) {
	src := sample(t)
	for i := range wayNames {
		r := load(t, src)
		w := r.ways(t, protocol.UploadOptions{})[i]
		t.Run(w.name, func(t *testing.T) {
			dst := t.TempDir()
			w.git(t, dst, "clone", "--depth=1", w.url, ".")
			commitFile(t, dst, 80, "shallow", "shallow\n")
			w.git(t, dst, "push", w.url, "HEAD:refs/heads/from-shallow")
			full := t.TempDir()
			w.git(t, full, "clone", w.url, "--branch=from-shallow", ".")
			fsck(t, full)

			// Into a repository that lacks the rest of history it is refused, with a reason.
			empty := newRepo(t)
			e := empty.ways(t, protocol.UploadOptions{})[i]
			out, err := e.try(t, dst, "push", e.url, "HEAD:refs/heads/main")
			if err == nil || !strings.Contains(out, "missing") || !strings.Contains(out, "(shallow update not allowed)") {
				t.Errorf("push of cut history: %v\n%s", err, out)
			}
			if empty.View().Refs.Len() != 0 || empty.View().Objects.Len() != 0 {
				t.Error("a refused push left something behind")
			}
		})
	}
}

func TestGitPushSeesWhyAPackIsRefused(t *testing.T) {
	// Given a repository with a tree entry that no checkout survives …
	src := t.TempDir()
	runGit(t, src, "init", "-q", "-b", "main")
	commitFile(t, src, 0, "a", "a\n")
	blob := runGit(t, src, "rev-parse", "HEAD:a")
	raw := append([]byte("100644 .git\x00"), func() []byte { o := git.MustParseOID(blob); return o[:] }()...)
	file := filepath.Join(t.TempDir(), "tree")
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	tree := runGit(t, src, "hash-object", "-t", "tree", "-w", "--literally", file)
	bad := runGit(t, src, "commit-tree", "-m", "bad", tree)
	for i := range wayNames {
		r := newRepo(t)
		w := r.ways(t, protocol.UploadOptions{})[i]
		t.Run(w.name, func(t *testing.T) {
			out, err := w.try(t, src, "push", w.url, bad+":refs/heads/main")
			// … then git shows the reason, and nothing is left.
			for _, want := range []string{"remote unpack failed: ", ".git", "(unpacker error)"} {
				if err == nil || !strings.Contains(out, want) {
					t.Errorf("push shows %s\nwant %q in it", out, want)
				}
			}
			if r.pushes != 0 || r.View().Objects.Len() != 0 {
				t.Error("a refused push left something behind")
			}
			if err := r.takeErrs(); !errors.Is(err, errkind.Invalid) {
				t.Errorf("server: %v, want it to wrap %v", err, errkind.Invalid)
			}
			// The server goes on.
			w.git(t, src, "push", w.url, "main")
		})
	}
}
