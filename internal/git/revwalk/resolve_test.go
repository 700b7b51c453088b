package revwalk_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

func TestResolveIsGits(t *testing.T) {
	r := history(t, 2, 60)
	r.Git("update-ref", "refs/heads/t1", "main~3") // a branch and a tag of one name
	r.Git("update-ref", "refs/heads/deadbeef", "main~4")
	r.Git("update-ref", "refs/heads/a@b", "main~5")
	g, refs := graphOf(t, r.store(2)), r.refs()
	main := r.OID("main").String()
	for _, rev := range []string{
		"main", "refs/heads/main", "heads/main", "HEAD", "@", "t1", "tags/t1", "heads/t1", "tt", "ttt", "root", "some", "light", "deadbeef", "a@b",
		main, strings.ToUpper(main), main[:8], main[:12] + "^", "main^", "main^0", "main^1", "main^2", "main~", "main~0", "main~1", "main~7",
		"main^^", "main~2^", "main~1~2", "@~1", "HEAD^{tree}", "main^{}", "main^{commit}", "main^{tree}", "main~3^{tree}", "main^{object}",
		"ttt^{}", "ttt^{tag}", "ttt^{commit}", "ttt^{tree}", "ttt^", "ttt~2", "ttt^0", "root^{}", "root^{tree}", "some^{}", "main^{commit}~1^{tree}",
		"main^3", "main~1000", "main^{blob}", "main^{tag}", "root^{commit}", "root^", "some^{tree}", "nothing", "refs/heads/nothing", "",
		"^", "~", "main^{", "main^{x}", "main~x", "main^-1", "main^x", "main@{0}", "main:f", ":/x", "main^99999999999999999999", "ma", "0000000",
		strings.Repeat("0", 40), main + "0", "main..t1", "main^@", "main^!", " main", "main ", "HEAD^{}^{}", "main^{}x",
	} {
		want, errWant := r.TryGit("rev-parse", "--verify", "-q", rev)
		switch rev {
		case "main@{0}", "main:f", "main^@", "main^!", "main^-1", ":/x", "main..t1", strings.Repeat("0", 40):
			want, errWant = "", errkind.NotFound // git's own, or not checked by it
		}
		got, err := g.Resolve(refs, rev)
		switch {
		case errWant != nil && !errors.Is(err, errkind.NotFound):
			t.Errorf("Resolve(%q) = %s, %v, want errkind.NotFound", rev, got, err)
		case errWant == nil && (err != nil || got.String() != strings.TrimSpace(want)):
			t.Errorf("Resolve(%q) = %s, %v, want %s", rev, got, err, want)
		}
	}
	if _, err := g.Resolve(git.NewRefs("refs/heads/unborn", nil), "HEAD"); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Resolve(HEAD) of an unborn HEAD: %v, want errkind.NotFound", err)
	}
	if _, err := g.Resolve(refs, strings.Repeat("a", 5000)); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Resolve of 5000 bytes: %v, want errkind.NotFound", err)
	}
}

func FuzzResolve(f *testing.F) {
	for _, s := range []string{"main", "HEAD~2^{tree}", "@^2", "t1^{}", "deadbeef", "main^{commit}~1^{tree}", "^{", "~99999999999999999999", "refs/heads/main^0^0"} {
		f.Add(s)
	}
	r := history(f, 2, 30)
	g, refs := graphOf(f, r.store(1)), r.refs()
	f.Fuzz(func(t *testing.T, rev string) {
		o, err := g.Resolve(refs, rev)
		switch {
		case err == nil && !g.Store().Has(o):
			t.Errorf("Resolve(%q) = %s, which is not in the store", rev, o)
		case err != nil && !errors.Is(err, errkind.NotFound) && !errors.Is(err, errkind.Invalid):
			t.Errorf("Resolve(%q) = %v, want errkind.NotFound or Invalid", rev, err)
		}
	})
}
