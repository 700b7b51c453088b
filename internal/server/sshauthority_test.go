package server_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// keygen runs ssh-keygen in a directory of its own.
type keygen struct {
	t       *testing.T
	program string
	dir     string
}

func newKeygen(t *testing.T) *keygen {
	t.Helper()
	program, err := exec.LookPath("ssh-keygen")
	if err != nil {
		if os.Getenv("SKEP_TEST_ALL") == "1" {
			t.Fatal("there is no ssh-keygen")
		}
		t.Skip("there is no ssh-keygen (on Debian: apt-get install openssh-client)")
	}
	return &keygen{t, program, t.TempDir()}
}

func (k *keygen) run(args ...string) {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), k.program, args...)
	cmd.Dir = k.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("ssh-keygen %v: %v\n%s", args, err, out)
	}
}

// key makes a key pair, and returns the public one's line.
func (k *keygen) key(name string, args ...string) string {
	k.t.Helper()
	k.run(append([]string{"-q", "-N", "", "-C", name, "-f", name}, args...)...)
	return k.line(name + ".pub")
}

func (k *keygen) line(file string) string {
	k.t.Helper()
	return string(result(os.ReadFile(filepath.Join(k.dir, file)))(k.t))
}

// sign makes a certificate of key "user" with an authority's key.
func (k *keygen) sign(ca string, args ...string) *ssh.Certificate {
	k.t.Helper()
	k.run(append(append([]string{"-q", "-s", ca, "-I", "build-7"}, args...), "user.pub")...)
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k.line("user-cert.pub")))
	cert, ok := result(key, err)(k.t).(*ssh.Certificate)
	if !ok {
		k.t.Fatal("ssh-keygen has made no certificate")
	}
	return cert
}

// TestSSHCertificates: certificates as ssh-keygen makes them, good ones and what mallory would try.
func TestSSHCertificates(t *testing.T) {
	k := newKeygen(t)
	s := startSite(t, server.Options{})
	ctx, api := t.Context(), s.api(s.admin)
	acme := result(api.CreateTenant(ctx, "acme"))(t)
	web := result(api.CreateTenant(ctx, "acme/web"))(t)
	result(api.CreateTenant(ctx, "other"))(t)
	ci := result(s.control.CreateAccount(ctx, acme.ID, "ci", policy.Pipeline))(t)
	result(s.control.CreateAccount(ctx, acme.ID, "bot", policy.Pipeline))(t)
	result(s.control.CreateAccount(ctx, web.ID, "ci", policy.Pipeline))(t)
	if err := s.control.SetMember(ctx, acme.ID, ci.ID, policy.Writer); err != nil {
		t.Fatal(err)
	}
	olga := s.member("olga", acme.ID, policy.Owner)
	mallory := s.member("mallory", result(api.Tenant(ctx, "other"))(t).ID, policy.Owner)

	k.key("user", "-t", "ed25519")
	add := func(token, tenant, name string, a client.AddSSHAuthority) client.SSHAuthority {
		a.Name = name
		return result(s.api(token).AddSSHAuthority(ctx, tenant, a))(t)
	}
	vault := add(olga, "acme", "vault", client.AddSSHAuthority{Key: k.key("vault", "-t", "ed25519")})
	add(olga, "acme", "brief", client.AddSSHAuthority{Key: k.key("brief", "-t", "ecdsa"), MaxTTL: "1h", Scope: policy.ScopeRead})
	add(olga, "acme", "old", client.AddSSHAuthority{Key: k.key("old", "-t", "rsa", "-b", "3072")})
	add(mallory, "other", "hers", client.AddSSHAuthority{Key: k.key("hers", "-t", "ed25519")})
	add(mallory, "other", "vault", client.AddSSHAuthority{Key: k.line("vault.pub")}) // that key signs for other too: not for more in acme
	k.key("unknown", "-t", "ed25519")

	here := netip.MustParseAddr("192.0.2.9")
	let := func(cert *ssh.Certificate) (policy.Principal, error) {
		return auth.FromSSHCertificate(ctx, s.control, cert, here, time.Now())
	}
	good := k.sign("vault", "-n", "acme/ci", "-V", "-1m:+1h")
	p := result(let(good))(t)
	if p.ID != ci.ID || p.Name != "acme/ci" || p.Home != acme.ID || p.Scope != policy.ScopeWrite || p.Roles[acme.ID] != policy.Writer || p.Admin || string(p.Token) != string(vault.ID) {
		t.Errorf("acme/ci is %+v", p)
	}
	for what, cert := range map[string]*ssh.Certificate{
		"as another machine's account too": k.sign("vault", "-n", "ubuntu,acme/ci", "-V", "+1h"),
		"for ever":                         k.sign("vault", "-n", "acme/ci"),
		"from its network":                 k.sign("vault", "-n", "acme/ci", "-O", "source-address=192.0.2.0/24,2001:db8::/32"),
		"with extensions":                  k.sign("vault", "-n", "acme/ci", "-O", "extension:x@example.org=y"),
		"by RSA":                           k.sign("old", "-n", "acme/ci", "-V", "+1h"),
	} {
		if p, err := let(cert); err != nil || p.ID != ci.ID {
			t.Errorf("%s: %+v, %v", what, p, err)
		}
	}
	if p, err := let(k.sign("brief", "-n", "acme/ci", "-V", "+30m")); err != nil || p.Scope != policy.ScopeRead {
		t.Errorf("a brief certificate: %+v, %v", p, err)
	}

	refused := map[string]*ssh.Certificate{
		"of a host":                     k.sign("vault", "-h", "-n", "acme/ci", "-V", "+1h"),
		"expired":                       k.sign("vault", "-n", "acme/ci", "-V", "-2h:-1h"),
		"of the future":                 k.sign("vault", "-n", "acme/ci", "-V", "+1h:+2h"),
		"by nobody's authority":         k.sign("unknown", "-n", "acme/ci", "-V", "+1h"),
		"by another tenant's authority": k.sign("hers", "-n", "acme/ci", "-V", "+1h"),
		"of a child's account":          k.sign("vault", "-n", "acme/web/ci", "-V", "+1h"),
		"of a person":                   k.sign("vault", "-n", "olga", "-V", "+1h"),
		"of an administrator":           k.sign("vault", "-n", "admin", "-V", "+1h"),
		"of an ID":                      k.sign("vault", "-n", string(ci.ID), "-V", "+1h"),
		"of half a name":                k.sign("vault", "-n", "ci", "-V", "+1h"),
		"of a name in another case":     k.sign("vault", "-n", "acme/CI", "-V", "+1h"),
		"of a pattern":                  k.sign("vault", "-n", "acme/*", "-V", "+1h"),
		"of nobody":                     k.sign("vault", "-V", "+1h"),
		"of two accounts":               k.sign("vault", "-n", "acme/ci,acme/bot", "-V", "+1h"),
		"from elsewhere":                k.sign("vault", "-n", "acme/ci", "-O", "source-address=198.51.100.0/24"),
		"with a command":                k.sign("vault", "-n", "acme/ci", "-O", "force-command=git-upload-pack"),
		"with an option of its own":     k.sign("vault", "-n", "acme/ci", "-O", "critical:repo@example.org=x"),
		"longer than its authority may": k.sign("brief", "-n", "acme/ci", "-V", "+2h"),
		"for ever, of a brief one":      k.sign("brief", "-n", "acme/ci"),
		"signed with SHA-1":             k.sign("old", "-t", "ssh-rsa", "-n", "acme/ci", "-V", "+1h"),
	}
	for what, cert := range refused {
		if p, err := let(cert); !errors.Is(err, errkind.Unauthorized) {
			t.Errorf("%s: %+v, %v", what, p, err)
		}
	}
	unknown, missing := second(let(refused["of half a name"])), second(let(refused["by nobody's authority"]))
	if unknown.Error() != missing.Error() {
		t.Errorf("who has a certificate learns which names there are: %v; %v", unknown, missing)
	}

	endSSHCertificates(t, s, k, olga, good, let)
}

// endSSHCertificates goes through all that makes a good certificate one that is refused.
func endSSHCertificates(t *testing.T, s *site, k *keygen, olga string, good *ssh.Certificate, let func(*ssh.Certificate) (policy.Principal, error)) {
	t.Helper()
	ctx := t.Context()
	wantRefused := func(after string) {
		t.Helper()
		if p, err := let(good); !errors.Is(err, errkind.Unauthorized) {
			t.Errorf("after %s: %+v, %v", after, p, err)
		}
	}
	if err := s.api(olga).RemoveSSHAuthority(ctx, "acme", "Vault"); err != nil {
		t.Fatal(err)
	}
	wantRefused("its authority was removed")
	result(s.api(olga).AddSSHAuthority(ctx, "acme", client.AddSSHAuthority{Name: "vault", Key: k.line("vault.pub")}))(t)
	p := result(let(good))(t)

	admin := s.api(s.admin)
	if err := admin.DeleteTenant(ctx, "acme", true); err != nil {
		t.Fatal(err)
	}
	wantRefused("its tenant was deleted")
	result(admin.RestoreTenant(ctx, p.Home, ""))(t)
	result(let(good))(t)
	if err := s.control.DeleteAccount(ctx, p.Home, p.ID); err != nil {
		t.Fatal(err)
	}
	wantRefused("its account was deleted")
}

// TestSSHAuthoritiesOverREST: who may say whose certificates count in a tenant, and what is refused.
func TestSSHAuthoritiesOverREST(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx, admin := t.Context(), s.api(s.admin)
	acme, other := result(admin.CreateTenant(ctx, "acme"))(t), result(admin.CreateTenant(ctx, "other"))(t)
	olga := s.api(s.member("olga", acme.ID, policy.Owner))
	key := newEd25519(t)
	made := result(olga.AddSSHAuthority(ctx, "acme", client.AddSSHAuthority{Name: "vault", Key: key + " ca", MaxTTL: "30d"}))(t)
	if made.Name != "vault" || made.FullName != "acme/vault" || made.Key != key || made.Scope != policy.ScopeWrite || made.MaxTTL != "720h0m0s" || made.LastUsedAt != nil {
		t.Errorf("made %+v", made)
	}
	s.control.Used(string(made.ID), netip.MustParseAddr("192.0.2.9"))
	list := result(olga.SSHAuthorities(ctx, "acme"))(t)
	if len(list) != 1 || list[0].Fingerprint != made.Fingerprint || list[0].LastUsedAt == nil || list[0].LastUsedFrom != "192.0.2.9" {
		t.Errorf("listed %+v", list)
	}

	wim, mallory := s.api(s.member("wim", acme.ID, policy.Writer)), s.api(s.member("mallory", other.ID, policy.Owner))
	fresh := client.AddSSHAuthority{Name: "second", Key: newEd25519(t)}
	for what, tt := range map[string]struct {
		err  error
		want errkind.Kind
	}{
		"a writer adds one":         {second(wim.AddSSHAuthority(ctx, "acme", fresh)), errkind.Forbidden},
		"a writer lists them":       {second(wim.SSHAuthorities(ctx, "acme")), errkind.Forbidden},
		"a writer removes one":      {wim.RemoveSSHAuthority(ctx, "acme", "vault"), errkind.Forbidden},
		"a stranger adds one":       {second(mallory.AddSSHAuthority(ctx, "acme", fresh)), errkind.NotFound},
		"a stranger lists them":     {second(mallory.SSHAuthorities(ctx, "acme")), errkind.NotFound},
		"a stranger removes one":    {mallory.RemoveSSHAuthority(ctx, "acme", "vault"), errkind.NotFound},
		"the same name":             {second(olga.AddSSHAuthority(ctx, "acme", client.AddSSHAuthority{Name: "Vault", Key: newEd25519(t)})), errkind.Exists},
		"the same key":              {second(olga.AddSSHAuthority(ctx, "acme", client.AddSSHAuthority{Name: "second", Key: key})), errkind.Exists},
		"a name with a slash":       {second(olga.AddSSHAuthority(ctx, "acme", client.AddSSHAuthority{Name: "a/b", Key: newEd25519(t)})), errkind.Invalid},
		"a key of 1024 bits":        {second(olga.AddSSHAuthority(ctx, "acme", client.AddSSHAuthority{Name: "weak", Key: authorized(t, rsaOf(1024))})), errkind.Invalid},
		"no key":                    {second(olga.AddSSHAuthority(ctx, "acme", client.AddSSHAuthority{Name: "none", Key: "ssh-ed25519"})), errkind.Invalid},
		"a key with options":        {second(olga.AddSSHAuthority(ctx, "acme", client.AddSSHAuthority{Name: "options", Key: "cert-authority " + newEd25519(t)})), errkind.Invalid},
		"a time that is none":       {second(olga.AddSSHAuthority(ctx, "acme", client.AddSSHAuthority{Name: "ttl", Key: newEd25519(t), MaxTTL: "soon"})), errkind.Invalid},
		"a scope that is none":      {second(olga.AddSSHAuthority(ctx, "acme", client.AddSSHAuthority{Name: "scope", Key: newEd25519(t), Scope: "all"})), errkind.Invalid},
		"one that is not there":     {olga.RemoveSSHAuthority(ctx, "acme", "second"), errkind.NotFound},
		"a tenant that is not ours": {second(olga.AddSSHAuthority(ctx, "other", fresh)), errkind.NotFound},
	} {
		if !errors.Is(tt.err, tt.want) {
			t.Errorf("%s: %v, want %v", what, tt.err, tt.want)
		}
	}

	// There is a limit, and each step is in the audit log.
	var last error
	for i := range 20 {
		_, last = olga.AddSSHAuthority(ctx, "acme", client.AddSSHAuthority{Name: fmt.Sprint("more", i), Key: newEd25519(t)})
	}
	if !errors.Is(last, errkind.TooLarge) || !strings.Contains(last.Error(), "SSH authorities of the tenant") {
		t.Errorf("one too many: %v", last)
	}
	if err := olga.RemoveSSHAuthority(ctx, "acme", "vault"); err != nil {
		t.Fatal(err)
	}
	actions := map[string]int{}
	for _, e := range result(s.api(s.admin).Audit(ctx, client.AuditFilter{Tenant: "acme"}, "", 100))(t).Items {
		actions[e.Action+" "+e.Resource]++
	}
	if actions["ssh-authority.add ssh-authority/acme/vault"] != 1 || actions["ssh-authority.remove ssh-authority/acme/vault"] != 1 {
		t.Errorf("audited: %v", actions)
	}
}
