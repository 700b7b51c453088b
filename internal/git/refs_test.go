package git_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

func TestParseRefNameAgainstGit(t *testing.T) {
	names := []string{
		"refs/heads/main", "refs/heads/a/b/c", "refs/tags/v1.0", "refs/x", "refs/heads/ä", "refs/heads/\xff", "refs/heads/-a",
		"refs/heads/@", "refs/heads/a@b", "refs/heads/a{b}", "refs/heads/a,b;c", "refs/heads/a\"b'c", "refs/heads/a.b",
		"refs/heads/lock", "refs/heads/a.lockx", "refs/heads/%41", "refs/heads/a]", "refs/heads/a|b", "refs/heads/a$(b)",
		"", "refs", "refs/", "refs//a", "refs/heads/", "/refs/heads/a", "refs/heads//a", "refs/heads/a/", "refs/heads/.a",
		"refs/heads/a/.b", "refs/heads/a..b", "refs/heads/a.", "refs/heads/a.lock", "refs/a.lock/b", "refs/heads/a b",
		"refs/heads/a~", "refs/heads/a^", "refs/heads/a:", "refs/heads/a?", "refs/heads/a*", "refs/heads/*", "refs/heads/a[", "refs/heads/a\\b",
		"refs/heads/a\x01", "refs/heads/a\x7f", "refs/heads/a\n", "refs/heads/a@{b", "refs/heads/..", "refs/./a", "refs/../a", "refs/heads/a./b",
	}
	for _, n := range names {
		_, err := git.ParseRefName(n)
		want := exec.Command("git", "check-ref-format", n).Run() == nil
		if (err == nil) != want || err != nil && !errors.Is(err, errkind.Invalid) {
			t.Errorf("ParseRefName(%q) = %v, git accepts it: %v", n, err, want)
		}
	}
	// These are good names for git, but nothing that a client may create.
	for _, n := range []string{"heads/main", "a/b", "HEAD", "xrefs/a", "refs/heads/" + strings.Repeat("a", 4000)} {
		if _, err := git.ParseRefName(n); !errors.Is(err, errkind.Invalid) {
			t.Errorf("ParseRefName(%q) = %v, want errkind.Invalid", n, err)
		}
	}
}

func TestRefNameParts(t *testing.T) {
	b, g := git.Branch("a/b"), git.TagRef("v1")
	if b != "refs/heads/a/b" || !b.IsBranch() || b.IsTag() || b.Short() != "a/b" {
		t.Errorf("Branch(a/b) = %q, branch %v, tag %v, short %q", b, b.IsBranch(), b.IsTag(), b.Short())
	}
	if g != "refs/tags/v1" || g.IsBranch() || !g.IsTag() || g.Short() != "v1" {
		t.Errorf("TagRef(v1) = %q, branch %v, tag %v, short %q", g, g.IsBranch(), g.IsTag(), g.Short())
	}
}

// A state of references behaves as a sorted map.
func TestRefsAreAMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	name := func() git.RefName {
		return git.RefName(fmt.Sprintf("refs/%c%s", 'a'+rng.IntN(3), strings.Repeat("/x", rng.IntN(3))) + string(rune('0'+rng.IntN(4))))
	}
	state, model := git.NewRefs("refs/heads/main", nil), map[git.RefName]git.OID{}
	for range 300 {
		before := slices.Clone(state.List())
		old := state
		changes := map[git.RefName]git.Ref{}
		for range rng.IntN(5) {
			r := git.Ref{Name: name()}
			if rng.IntN(3) > 0 {
				r.OID = git.OID{byte(1 + rng.IntN(200))}
			}
			changes[r.Name] = r
		}
		state = state.With(slices.Collect(maps.Values(changes)))
		for n, r := range changes {
			if model[n] = r.OID; r.OID.IsZero() {
				delete(model, n)
			}
		}
		if !slices.Equal(old.List(), before) {
			t.Fatal("With changed the state it was called on")
		}
		checkRefs(t, state, model, name)
	}
	if state.Head != "refs/heads/main" || state.WithHead("refs/heads/x").Head != "refs/heads/x" {
		t.Error("HEAD is lost")
	}
}

func checkRefs(t *testing.T, state *git.Refs, model map[git.RefName]git.OID, name func() git.RefName) {
	t.Helper()
	sorted := slices.Sorted(maps.Keys(model))
	if state.Len() != len(sorted) {
		t.Fatalf("%d references, want %d", state.Len(), len(sorted))
	}
	for i, r := range state.List() {
		if r.Name != sorted[i] || r.OID != model[r.Name] {
			t.Fatalf("reference %d is %v, want %s %s", i, r, sorted[i], model[sorted[i]])
		}
	}
	n := name()
	if r, ok := state.Get(n); ok != (model[n] != git.ZeroOID) || r.OID != model[n] {
		t.Errorf("Get(%s) = %v, %v, want %v", n, r, ok, model[n])
	}
	prefix := string(n[:5+len(n)%3])
	var below []git.RefName
	for _, s := range sorted {
		if strings.HasPrefix(string(s), prefix) {
			below = append(below, s)
		}
	}
	var got []git.RefName
	for _, r := range state.Prefix(prefix) {
		got = append(got, r.Name)
	}
	if !slices.Equal(got, below) {
		t.Errorf("Prefix(%s) = %v, want %v", prefix, got, below)
	}
	blocked := slices.ContainsFunc(sorted, func(s git.RefName) bool {
		return strings.HasPrefix(string(s), string(n)+"/") || strings.HasPrefix(string(n), string(s)+"/")
	})
	by, found := state.Blocker(n)
	_, exists := model[by]
	if found != blocked || found && !exists {
		t.Errorf("Blocker(%s) = %q, %v, want %v among %v", n, by, found, blocked, sorted)
	}
}
