package protocol_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// signer makes a key, lets git sign with it in a repository, and returns who checks its signatures: ssh-keygen.
func signer(t *testing.T, repos ...string) func(context.Context, *protocol.PushCert) (protocol.Signature, error) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "alice", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	allowed := filepath.Join(t.TempDir(), "allowed")
	if err := os.WriteFile(allowed, append([]byte("alice "), public...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range repos {
		runGit(t, dir, "config", "gpg.format", "ssh")
		runGit(t, dir, "config", "user.signingKey", key)
	}
	return func(ctx context.Context, c *protocol.PushCert) (protocol.Signature, error) {
		sig := filepath.Join(t.TempDir(), "sig")
		if err := os.WriteFile(sig, c.Signed(), 0o600); err != nil {
			return protocol.Signature{}, err
		}
		cmd := exec.CommandContext(ctx, "ssh-keygen", "-Y", "verify", "-n", "git", "-I", "alice", "-f", allowed, "-s", sig)
		cmd.Stdin = bytes.NewReader(c.Payload)
		if err := cmd.Run(); errors.As(err, new(*exec.ExitError)) {
			return protocol.Signature{Status: protocol.SignatureBad}, nil
		} else if err != nil {
			return protocol.Signature{}, err
		}
		return protocol.Signature{Status: protocol.SignatureGood, Signer: "alice", Key: "key"}, nil
	}
}

func TestGitPushesSigned(t *testing.T) {
	src := sample(t)
	verify := signer(t, src)
	for _, name := range []string{"http v0", "pipe v0", "pipe v1"} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			r.receive = protocol.ReceiveOptions{NonceSeed: []byte("seed"), Place: "a/b", Verify: verify}
			var w way
			for _, each := range r.ways(t, protocol.UploadOptions{}) {
				if each.name == name {
					w = each
				}
			}
			// Without a certificate there is none.
			w.git(t, src, "push", w.url, "main~1:refs/heads/main")
			if r.last.Cert != nil {
				t.Errorf("a push that is not signed has a certificate: %+v", r.last.Cert)
			}
			w.git(t, src, "push", "--signed", "-o", "ci.skip", "-o", "a=b", w.url, "main", "v1", "side", ":refs/heads/nothing")
			c := r.last.Cert
			if c == nil {
				t.Fatal("no certificate came")
			}
			if c.Signature.Status != protocol.SignatureGood || c.NonceStatus != protocol.NonceOK || c.Nonce == "" || c.Pusher == "" {
				t.Errorf("signature %s, nonce %s %q, pusher %q", c.Signature.Status, c.NonceStatus, c.Nonce, c.Pusher)
			}
			env := strings.Join(c.Environment(), "\n")
			want := "GIT_PUSH_CERT=" + strings.TrimSpace(gittest.At(t, src).GitIn(string(c.Text), "hash-object", "--stdin")) +
				"\nGIT_PUSH_CERT_SIGNER=alice\nGIT_PUSH_CERT_KEY=key\nGIT_PUSH_CERT_STATUS=G\nGIT_PUSH_CERT_NONCE=" + c.Nonce + "\nGIT_PUSH_CERT_NONCE_STATUS=OK"
			if env != want {
				t.Errorf("the environment is\n%s\nwant\n%s", env, want)
			}
			if got := fmt.Sprint(r.last.PushOptions); got != "[ci.skip a=b]" {
				t.Errorf("push options %s", got)
			}
			if now, _ := r.View().Refs.Get("refs/heads/main"); now.OID.String() != runGit(t, src, "rev-parse", "main") {
				t.Errorf("main is at %s", now.OID)
			}
			if err := r.takeErrs(); err != nil {
				t.Errorf("server: %v", err)
			}
		})
	}
	t.Run("not asked for", func(t *testing.T) {
		r := newRepo(t)
		w := r.ways(t, protocol.UploadOptions{})[0]
		if out, err := w.try(t, src, "push", "--signed", w.url, "main"); err == nil || !strings.Contains(out, "does not support --signed") {
			t.Errorf("a signed push where none is asked for: %v\n%s", err, out)
		}
		w.git(t, src, "push", "--signed=if-asked", w.url, "main")
	})
}

// A certificate is taken for what it is: what was changed, replayed or made up shows.
func TestPushCertificatesAreJudged(t *testing.T) {
	src := sample(t)
	verify := signer(t, src)
	r := newRepo(t)
	opts := protocol.ReceiveOptions{NonceSeed: []byte("seed"), Place: "a/b", Stateless: true, Verify: verify}
	nonceOf := func(o protocol.ReceiveOptions) string {
		var out bytes.Buffer
		if err := protocol.AdvertiseReceive(&out, r.View(), false, o); err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(out.String(), "push-cert=")
		return strings.Fields(rest)[0]
	}
	nonce, elsewhere := nonceOf(opts), nonceOf(protocol.ReceiveOptions{NonceSeed: []byte("seed"), Place: "c/d"})
	_, code, _ := strings.Cut(nonce, "-")
	tip := runGit(t, src, "rev-parse", "main")
	zero := strings.Repeat("0", 40)
	tests := []struct {
		name, nonce, change string
		options             []string
		config              string
		status              protocol.SignatureStatus
		of                  protocol.NonceStatus
		reason              string // why the push is refused; "" is success
	}{
		{name: "good", nonce: nonce, status: 'G', of: protocol.NonceOK},
		{name: "changed", nonce: nonce, change: "refs/heads/x", status: 'B', of: protocol.NonceOK},
		{name: "no nonce", status: 'G', of: protocol.NonceMissing},
		{name: "of another repository", nonce: elsewhere, status: 'G', of: protocol.NonceBad},
		{name: "made up", nonce: "1-abc", status: 'G', of: protocol.NonceBad},
		{name: "another time", nonce: "1700000000-" + code, status: 'G', of: protocol.NonceBad},
		{name: "no number", nonce: "x", status: 'G', of: protocol.NonceBad},
		{name: "options that are not signed", nonce: nonce, options: []string{"a"}, status: 'G', of: protocol.NonceOK, reason: "inconsistent push options"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := load(t, src)
			text := "certificate version 0.1\npusher alice 1700000000 +0000\n"
			if tt.nonce != "" {
				text += "nonce " + tt.nonce + "\n"
			}
			text += "\n" + zero + " " + tip + " refs/heads/new\n"
			sig := sign(t, src, text)
			if tt.change != "" {
				text = strings.Replace(text, "refs/heads/new", tt.change, 1)
			}
			lines := []string{`push-cert\0 report-status push-options`}
			for l := range strings.Lines(text + sig) {
				lines = append(lines, strings.TrimSuffix(l, "\n"))
			}
			lines = append(append(lines, "push-cert-end", "0000"), append(tt.options, "0000")...)
			var out bytes.Buffer
			err := protocol.ReceivePack(t.Context(), r, strings.NewReader(certPkts(lines...)+emptyPack), &out, opts)
			if err != nil || strings.Contains(out.String(), "ng ") != (tt.reason != "") || !strings.Contains(out.String(), tt.reason) {
				t.Fatalf("push: %v, %q, want %q", err, out.String(), tt.reason)
			}
			if c := r.last.Cert; tt.reason == "" && (c == nil || c.Signature.Status != tt.status || c.NonceStatus != tt.of) {
				t.Errorf("certificate %+v, want signature %s, nonce %s", c, tt.status, tt.of)
			}
		})
	}
}

const emptyPack = "PACK\x00\x00\x00\x02\x00\x00\x00\x00\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e"

// certPkts is pkts with the line feeds that a certificate needs.
func certPkts(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		if l == "0000" {
			b.WriteString(l)
			continue
		}
		l = strings.ReplaceAll(l, `\0`, "\x00") + "\n"
		fmt.Fprintf(&b, "%04x%s", len(l)+4, l)
	}
	return b.String()
}

// sign signs a text with the key that git uses in a repository.
func sign(t *testing.T, dir, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	key := runGit(t, dir, "config", "user.signingKey")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-Y", "sign", "-n", "git", "-f", key, file).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	sig, err := os.ReadFile(file + ".sig")
	if err != nil {
		t.Fatal(err)
	}
	return string(sig)
}

func TestMalformedPushCertificates(t *testing.T) {
	zero := strings.Repeat("0", 40)
	command := zero + " " + strings.Repeat("1", 40) + " refs/heads/x"
	for _, lines := range [][]string{
		{`push-cert\0report-status`, "0000"},
		{`push-cert\0report-status`, "certificate version 0.1", "push-cert-end", "0000"},
		{`push-cert\0report-status`, "certificate version 0.1", "", "no command", "push-cert-end", "0000"},
		{`push-cert\0report-status`, "certificate version 0.1", "", command, "push-cert-end", command, "0000"},
		{command + `\0report-status`, "push-cert", "certificate version 0.1", "", command, "push-cert-end", "0000"},
		{`push-cert\0report-status`, "a", "", command, "push-cert-end", "push-cert", "a", "", command, "push-cert-end", "0000"},
	} {
		r := newRepo(t)
		var out bytes.Buffer
		err := protocol.ReceivePack(t.Context(), r, strings.NewReader(certPkts(lines...)), &out, protocol.ReceiveOptions{Stateless: true, NonceSeed: []byte("seed")})
		if err == nil || r.pushes > 0 {
			t.Errorf("%q is taken: %q", lines, out.String())
		}
	}
}
