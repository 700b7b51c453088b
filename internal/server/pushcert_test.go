package server_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// signingKey makes a key and lets git sign with it in a repository. It returns the public key.
func signingKey(t *testing.T, dir, kind string) string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	git(t, dir, "config", "gpg.format", "ssh")
	git(t, dir, "config", "user.signingKey", key)
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(public))
}

// TestSignedPushes: the audit log says of a signed push whether it was signed with a key of whoever pushed.
func TestSignedPushes(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	acme := result(s.api(s.admin).CreateTenant(ctx, "acme"))(t)
	alice := s.member("alice", acme.ID, policy.Owner)
	src := newRepo(t, 1)
	git(t, src, "push", "-q", s.remote(alice, "acme/demo"), "main")
	last := func() string {
		t.Helper()
		page := result(s.api(s.admin).Audit(ctx, client.AuditFilter{Tenant: "acme"}, "", 100))(t)
		for _, e := range slices.Backward(page.Items) {
			if e.Action == "ref.push" {
				return e.Detail
			}
		}
		return ""
	}
	if got := last(); strings.Contains(got, "signed") {
		t.Errorf("a push that is not signed is logged as %q", got)
	}
	for i, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		key := signingKey(t, src, kind)
		push := func(want string) {
			t.Helper()
			git(t, src, "commit", "-q", "--allow-empty", "-m", "more")
			git(t, src, "push", "-q", "--signed", s.remote(alice, "acme/demo"), "main")
			if got := last(); !strings.Contains(got, want) || !strings.Contains(got, "nonce OK") {
				t.Errorf("%s: a signed push is logged as %q, want %q", kind, got, want)
			}
		}
		push(", signed: U SHA256:")
		made := result(s.api(alice).AddSSHKey(ctx, "alice", client.AddSSHKey{Key: key}))(t)
		push(fmt.Sprintf(", signed: G %s alice", made.Fingerprint))
		if i == 0 {
			// Somebody else's key is nobody's.
			other := s.member("other", acme.ID, policy.Owner)
			git(t, src, "commit", "-q", "--allow-empty", "-m", "more")
			git(t, src, "push", "-q", "--signed", s.remote(other, "acme/demo"), "main")
			if got := last(); !strings.Contains(got, ", signed: U "+made.Fingerprint) {
				t.Errorf("a push signed with the key of another is logged as %q", got)
			}
		}
	}
}

// sshSignature signs a text with a new key, for what namespace says.
func sshSignature(tb testing.TB, kind, namespace, text string) []byte {
	tb.Helper()
	key := filepath.Join(tb.TempDir(), "key")
	if out, err := exec.CommandContext(tb.Context(), "ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key).CombinedOutput(); err != nil {
		tb.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(tb.Context(), "ssh-keygen", "-Y", "sign", "-n", namespace, "-f", key)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		tb.Fatal(err)
	}
	block, _ := pem.Decode(out)
	return block.Bytes
}

// TestSSHSignatures: only what was signed as a push, and nothing else, is good.
func TestSSHSignatures(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		sig := sshSignature(t, kind, "git", "text")
		if _, err := server.VerifySSH(sig, []byte("text")); err != nil {
			t.Errorf("%s: a good signature: %v", kind, err)
		}
		bad := map[string]func() ([]byte, string){
			"another text":      func() ([]byte, string) { return sig, "texts" },
			"another namespace": func() ([]byte, string) { return sshSignature(t, kind, "file", "text"), "text" },
			"cut short":         func() ([]byte, string) { return sig[:len(sig)-1], "text" },
			"nothing":           func() ([]byte, string) { return nil, "text" },
			"a changed bit": func() ([]byte, string) {
				s := slices.Clone(sig)
				s[len(s)-1] ^= 1
				return s, "text"
			},
		}
		for name, sign := range bad {
			blob, text := sign()
			if key, err := server.VerifySSH(blob, []byte(text)); !errors.Is(err, errkind.Invalid) {
				t.Errorf("%s, %s: %q, %v, want errkind.Invalid", kind, name, key, err)
			}
		}
	}
}

func FuzzSSHSignature(f *testing.F) {
	f.Add(sshSignature(f, "ed25519", "git", "text"), []byte("text"))
	f.Fuzz(func(t *testing.T, blob, text []byte) {
		if key, err := server.VerifySSH(blob, text); (key == "") == (err == nil) {
			t.Errorf("VerifySSH = %q, %v", key, err)
		}
	})
}

// TestGitConfigOfARepository: what its owner sets over REST is what git finds.
func TestGitConfigOfARepository(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	src := newRepo(t, 2)
	remote := s.remote(s.admin, "default/demo")
	git(t, src, "push", "-q", remote, "main", "main:refs/pull/1/head")
	api := s.api(s.admin)
	set := func(lines ...string) (client.Repo, error) {
		return api.UpdateRepo(ctx, "default/demo", client.UpdateRepo{Settings: &client.RepoSettings{GitConfig: lines}})
	}
	r := result(set("transfer.hideRefs=refs/pull", "uploadpack.allowFilter=false"))(t)
	if got := fmt.Sprint(r.Settings.GitConfig); got != "[transfer.hideRefs=refs/pull uploadpack.allowFilter=false]" {
		t.Errorf("the settings are %s", got)
	}
	if out := git(t, src, "ls-remote", remote); strings.Contains(out, "refs/pull") {
		t.Errorf("a hidden reference is listed:\n%s", out)
	}
	if out, err := tryGit(t, src, "push", "--force", remote, "main~1:refs/pull/1/head"); err == nil || !strings.Contains(out, "deny updating a hidden ref") {
		t.Errorf("a push to a hidden reference: %v\n%s", err, out)
	}
	if out, err := tryGit(t, t.TempDir(), "clone", "--filter=blob:none", remote, "x"); err != nil || !strings.Contains(out, "filtering not recognized") {
		t.Errorf("a partial clone: %v\n%s", err, out)
	}
	page, err := api.Refs(ctx, "default/demo", "refs/pull/", "", 10)
	if err != nil || len(page.Items) != 0 {
		t.Errorf("hidden references over REST: %+v, %v", page.Items, err)
	}
	_, err = api.Ref(ctx, "default/demo", "refs/pull/1/head")
	wantKind(t, "get a hidden reference", err, errkind.NotFound)
	wantKind(t, "delete a hidden reference", api.DeleteRef(ctx, "default/demo", "refs/pull/1/head", nil), errkind.Forbidden)
	for line, kind := range map[string]errkind.Kind{
		"core.hooksPath=/tmp": errkind.Unsupported, "receive.certNonceSeed=x": errkind.Unsupported, "uploadpack.allowFilter=maybe": errkind.Invalid,
		"uploadpack.allowFilter": errkind.Invalid,
	} {
		_, err := set(line)
		wantKind(t, line, err, kind)
	}
	if r = result(set())(t); len(r.Settings.GitConfig) != 0 {
		t.Errorf("reset to %q", r.Settings.GitConfig)
	}
	if out := git(t, src, "ls-remote", remote); !strings.Contains(out, "refs/pull/1/head") {
		t.Errorf("what is not hidden any more is not listed:\n%s", out)
	}
}
