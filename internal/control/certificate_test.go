package control_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
)

func certificate(t *testing.T, c *control.Control, kind auth.NameKind, value string, p id.Principal, scope policy.Scope) control.Certificate {
	t.Helper()
	r, err := c.CreateCertificate(t.Context(), control.Certificate{Name: auth.Name{Kind: kind, Value: value}, Principal: p, Scope: scope})
	return must(t, r, err)
}

func TestCertificates(t *testing.T) { onEach(t, testCertificates) }

func testCertificates(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme := tenant(t, c, "acme")
	bob, eve := principal(t, c, "bob"), principal(t, c, "eve")
	must0(t, c.SetMember(ctx, acme.ID, bob.ID, policy.Writer))
	digits := strings.Repeat("ab", 32)
	byCN := certificate(t, c, auth.CommonName, "bob", bob.ID, policy.ScopeWrite)
	certificate(t, c, auth.DNSName, "CI.Example.org", bob.ID, policy.ScopeRead)
	certificate(t, c, auth.URIName, "spiffe://example.org/eve", eve.ID, policy.ScopeAdmin)
	certificate(t, c, auth.Fingerprint, strings.ToUpper("AB:"+strings.Repeat("ab:", 30)+"ab"), bob.ID, policy.ScopeAdmin)

	names := func(list ...string) (out []auth.Name) {
		for _, s := range list {
			kind, value, _ := strings.Cut(s, "=")
			out = append(out, auth.Name{Kind: auth.NameKind(kind), Value: value})
		}
		return out
	}
	tests := []struct {
		what  string
		names []auth.Name
		want  string // principal and scope, or a part of the refusal
	}{
		{"a common name", names("fingerprint=00", "cn=bob"), "bob write"},
		{"two names of one, the lesser scope", names("cn=bob", "dns=ci.example.org"), "bob read"},
		{"the other way round", names("dns=ci.example.org", "cn=bob"), "bob read"},
		{"a fingerprint", names("fingerprint=" + digits), "bob admin"},
		{"a URI", names("uri=spiffe://example.org/eve"), "eve admin"},
		{"names of two", names("cn=bob", "uri=spiffe://example.org/eve"), "several principals"},
		{"a name of another kind", names("dns=bob", "email=bob", "uri=bob"), "nobody's"},
		{"another case", names("cn=Bob"), "nobody's"},
		{"a part of a name", names("cn=bo", "cn=bob2", "cn=bob%"), "nobody's"},
		{"no text", names("cn=b\x00ob", "cn=\xff"), "nobody's"},
		{"none", nil, "nobody's"},
	}
	for n, tt := range tests {
		h := auth.Hash{byte(n)}
		for range 2 {
			p, err := c.Presented(ctx, h, tt.names)
			if err != nil {
				wantRefused(t, tt.what, err, tt.want)
				continue
			}
			if got := p.Name + " " + string(p.Scope); got != tt.want || !strings.HasPrefix(string(p.Token), "crt_") {
				t.Errorf("%s: %s with %s, want %s", tt.what, got, p.Token, tt.want)
			}
			if p.Name == "bob" && p.Roles[acme.ID] != policy.Writer {
				t.Errorf("%s: roles %v", tt.what, p.Roles)
			}
		}
	}

	tok, hash := token(t, c, control.Token{Principal: bob.ID, Certificate: byCN.ID})
	if got, err := c.TokenByID(ctx, tok.ID); err != nil || got.Certificate != byCN.ID {
		t.Errorf("token = %+v, %v", got, err)
	}
	list, err := c.Certificates(ctx, "", 10)
	if must0(t, err); len(list) != 4 {
		t.Fatalf("certificates = %+v", list)
	}
	if diff := cmp.Diff(byCN, list[0]); diff != "" {
		t.Errorf("certificate (-made +found):\n%s", diff)
	}
	must0(t, c.RemoveCertificate(ctx, byCN.ID))
	_, err = c.Presented(ctx, auth.Hash{0}, tests[0].names)
	wantRefused(t, "a name that was removed", err, "nobody's")
	_, err = c.Principal(ctx, hash)
	wantKind(t, "a token that it made", err, errkind.Unauthorized)
	_, _, err = c.CreateToken(ctx, control.Token{Principal: bob.ID, Scope: policy.ScopeRead, Certificate: byCN.ID})
	wantKind(t, "another token", err, errkind.Unauthorized)
	wantKind(t, "remove again", c.RemoveCertificate(ctx, byCN.ID), errkind.NotFound)
	must0(t, c.DeletePrincipal(ctx, eve.ID))
	_, err = c.Presented(ctx, auth.Hash{99}, names("uri=spiffe://example.org/eve"))
	wantRefused(t, "a principal that was deleted", err, "nobody's")

	for name, bad := range map[string]control.Certificate{
		"no kind":               {Name: auth.Name{Value: "x"}, Principal: bob.ID, Scope: policy.ScopeRead},
		"no name":               {Name: auth.Name{Kind: auth.CommonName}, Principal: bob.ID, Scope: policy.ScopeRead},
		"a long name":           {Name: auth.Name{Kind: auth.CommonName, Value: strings.Repeat("x", 501)}, Principal: bob.ID, Scope: policy.ScopeRead},
		"a line feed":           {Name: auth.Name{Kind: auth.CommonName, Value: "a\nb"}, Principal: bob.ID, Scope: policy.ScopeRead},
		"half of a fingerprint": {Name: auth.Name{Kind: auth.Fingerprint, Value: digits[:20]}, Principal: bob.ID, Scope: policy.ScopeRead},
		"no scope":              {Name: auth.Name{Kind: auth.CommonName, Value: "x"}, Principal: bob.ID},
	} {
		_, err := c.CreateCertificate(ctx, bad)
		wantKind(t, name, err, errkind.Invalid)
	}
	_, err = c.CreateCertificate(ctx, control.Certificate{Name: auth.Name{Kind: auth.DNSName, Value: "ci.example.ORG"}, Principal: bob.ID, Scope: policy.ScopeRead})
	wantKind(t, "a taken name", err, errkind.Exists)
	_, err = c.CreateCertificate(ctx, control.Certificate{Name: auth.Name{Kind: auth.DNSName, Value: "x"}, Principal: "usr_none", Scope: policy.ScopeRead})
	wantKind(t, "nobody's", err, errkind.NotFound)
}

// TestOtherNodesForgetCertificates: what one node removes, another refuses within the promised time, though it remembers it.
func TestOtherNodesForgetCertificates(t *testing.T) {
	where := postgrestest.New(t)
	one, two := openAt(t, where), openAt(t, where)
	run(t, one)
	run(t, two)
	r := certificate(t, one, auth.CommonName, "bob", principal(t, one, "bob").ID, policy.ScopeWrite)
	known := func() bool {
		_, err := two.Presented(t.Context(), auth.Hash{1}, []auth.Name{r.Name})
		return err == nil
	}
	if !known() {
		t.Fatal("the other node does not know the certificate")
	}
	changed := time.Now()
	must0(t, one.RemoveCertificate(t.Context(), r.ID))
	until(t, "certificate", changed, known)
}

func TestCertificateOfADeletedTenant(t *testing.T) { onEach(t, testCertificateOfADeletedTenant) }

// testCertificateOfADeletedTenant: an account goes with its tenant, whatever credential it has, and comes back with it.
func testCertificateOfADeletedTenant(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme := tenant(t, c, "acme")
	ci, err := c.CreateAccount(ctx, acme.ID, "ci", policy.Pipeline)
	must0(t, err)
	certificate(t, c, auth.CommonName, "ci", ci.ID, policy.ScopeAdmin)
	present := func() error {
		return second(c.Presented(ctx, auth.Hash{1}, []auth.Name{{Kind: auth.CommonName, Value: "ci"}}))
	}
	must0(t, present())
	must0(t, c.DeleteTenant(ctx, acme.ID, true))
	wantKind(t, "the certificate of an account whose tenant is deleted", present(), errkind.Unauthorized)
	must0(t, second(c.RestoreTenant(ctx, acme.ID, "", "acme")))
	must0(t, present())
}
