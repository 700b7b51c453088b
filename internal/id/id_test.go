package id_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

func TestParseAcceptsWhatNewMakes(t *testing.T) {
	if n := id.NewTenant(); !strings.HasPrefix(string(n), "ten_") || errOf(id.ParseTenant(string(n))) != nil {
		t.Errorf("tenant %s does not parse", n)
	}
	if n := id.NewRepo(); !strings.HasPrefix(string(n), "repo_") || errOf(id.ParseRepo(string(n))) != nil {
		t.Errorf("repository %s does not parse", n)
	}
	if n := id.NewPrincipal(); !strings.HasPrefix(string(n), "usr_") || errOf(id.ParsePrincipal(string(n))) != nil {
		t.Errorf("principal %s does not parse", n)
	}
	if n := id.NewToken(); !strings.HasPrefix(string(n), "tok_") || errOf(id.ParseToken(string(n))) != nil {
		t.Errorf("token %s does not parse", n)
	}
	if n := id.NewSession(); !strings.HasPrefix(string(n), "ses_") || errOf(id.ParseSession(string(n))) != nil {
		t.Errorf("session %s does not parse", n)
	}
	if n := id.NewKey(); !strings.HasPrefix(string(n), "key_") || errOf(id.ParseKey(string(n))) != nil {
		t.Errorf("key %s does not parse", n)
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestParseRefuses(t *testing.T) {
	const good = "repo_01jd4x5vwr9ab3k6m0q7z2c8ye"
	if got, err := id.ParseRepo(good); err != nil || string(got) != good {
		t.Fatalf("ParseRepo(%q) = %q, %v", good, got, err)
	}
	for _, s := range []string{
		"", "repo_", "repo", good[5:], "ten_" + good[5:], strings.ToUpper(good), "repo_" + strings.ToUpper(good[5:]),
		good + "0", good[:len(good)-1], "repo_../../../etc/passwd/xxxxxxx", "repo_01jd4x5vwr9ab3k6m0q7z2c8y/",
		"repo_01jd4x5vwr9ab3k6m0q7z2c8yi", // i, l, o and u are no digits
		"repo_81jd4x5vwr9ab3k6m0q7z2c8ye", // over 128 bits
		" " + good, good + "\n", "repo_01jd4x5vwr9ab3k6m0q7z2c8\x00e",
	} {
		if got, err := id.ParseRepo(s); !errors.Is(err, errkind.Invalid) || got != "" {
			t.Errorf("ParseRepo(%q) = %q, %v, want errkind.Invalid", s, got, err)
		}
	}
}

func TestIdentifiersAreNewAndSortByTime(t *testing.T) {
	seen := map[id.Repo]bool{}
	for range 1000 {
		n := id.NewRepo()
		if seen[n] {
			t.Fatalf("%s was made twice", n)
		}
		seen[n] = true
	}
	first := id.NewRepo()
	// A ULID's time has milliseconds.
	for start := time.Now(); time.Since(start) < 2*time.Millisecond; {
		continue
	}
	if second := id.NewRepo(); second <= first {
		t.Errorf("%s was made after %s, but sorts before", second, first)
	}
}

func FuzzParseRepo(f *testing.F) {
	f.Add("repo_01jd4x5vwr9ab3k6m0q7z2c8ye")
	f.Add("repo_")
	f.Add("../x")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := id.ParseRepo(s)
		if err != nil {
			return
		}
		// What was accepted is safe in a file name.
		if string(r) != s || len(s) != len("repo_")+26 || strings.ContainsFunc(s[5:], func(c rune) bool {
			return (c < '0' || c > '9') && (c < 'a' || c > 'z')
		}) {
			t.Errorf("ParseRepo(%q) = %q", s, r)
		}
	})
}
