package gitrepo_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// newGPG makes a folder of GnuPG's with a key of ann@example.org, and returns it and the key's fingerprint. Without gpg the test is left out;
// with SKEP_TEST_ALL=1 it fails.
func newGPG(t *testing.T) (home, fingerprint string) {
	t.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		if os.Getenv("SKEP_TEST_ALL") == "1" {
			t.Fatal("there is no gpg")
		}
		t.Skip("there is no gpg (on Debian: apt-get install gpg gpg-agent)")
	}
	// Not t.TempDir: the path of the agent's socket in it must not be long.
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	run := func(program string, args ...string) string {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "GNUPGHOME="+home)
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s %s: %v", program, strings.Join(args, " "), err)
		}
		return string(out)
	}
	t.Cleanup(func() {
		run("gpgconf", "--kill", "gpg-agent") // gpg has begun the one of this folder
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "Ann <ann@example.org>", "ed25519", "sign", "never")
	for line := range strings.Lines(run("gpg", "--batch", "--with-colons", "--list-secret-keys")) {
		if rest, ok := strings.CutPrefix(line, "fpr:"); ok {
			return home, strings.Trim(rest, ":\n")
		}
	}
	t.Fatal("gpg made no key")
	return "", ""
}

// OpenPGP is what git signs with when nothing else is said: with the key of the committer's address, with user.signingKey, or with one that the
// options name.
func TestSignedWithGPG(t *testing.T) {
	home, key := newGPG(t)
	o := options()
	o.Env = append(o.Env, "GNUPGHOME="+home)
	r, g := folder(t, o)
	o.Sign = true
	first := must(t, open(t, g.Dir, o), request("", put("a", "1")))
	g.Git("config", "user.signingKey", key)
	g.Git("config", "commit.gpgSign", "true")
	second := must(t, r, request(first, put("a", "2")))
	g.Git("config", "--unset", "user.signingKey")
	o.Key = key
	third := must(t, open(t, g.Dir, o), request(second, put("a", "3")))

	log := exec.Command("git", "-C", g.Dir, "log", "--format=%G? %GS %GF")
	log.Env = o.Env
	out, err := log.Output()
	if want := strings.Repeat("G Ann <ann@example.org> "+key+"\n", 3); err != nil || string(out) != want {
		t.Errorf("signatures: %s, %v, want\n%s", out, err, want)
	}
	o.Key = "nobody@example.org"
	if _, err := open(t, g.Dir, o).Commit(t.Context(), request(third, put("a", "4"))); err == nil || !strings.Contains(err.Error(), "user.signingKey") {
		t.Errorf("Commit without the key: %v", err)
	}
}
