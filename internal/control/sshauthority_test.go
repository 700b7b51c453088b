package control_test

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

func TestSSHAuthorities(t *testing.T) { onEach(t, testSSHAuthorities) }

// testSSHAuthorities: for whom an authority speaks. How certificates are read is tested in package auth, and with real ones in server.
func testSSHAuthorities(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme, other := tenant(t, c, "acme"), tenant(t, c, "other")
	ci, err := c.CreateAccount(ctx, acme.ID, "ci", policy.Pipeline)
	must0(t, err)
	must0(t, second(c.CreateAccount(ctx, acme.ID, "bot", policy.Operator)))
	must0(t, second(c.CreateAccount(ctx, other.ID, "ci", policy.Pipeline)))
	principal(t, c, "olga")
	must0(t, c.SetMember(ctx, acme.ID, ci.ID, policy.Reader))
	add := func(a control.SSHAuthority) control.SSHAuthority {
		t.Helper()
		a.Kind, a.Public = "ssh-ed25519", []byte("wire")
		made, err := c.AddSSHAuthority(ctx, a)
		return must(t, made, err)
	}
	vault := add(control.SSHAuthority{Tenant: acme.ID, Name: "Vault", Fingerprint: "SHA256:v", Scope: policy.ScopeWrite})
	add(control.SSHAuthority{Tenant: acme.ID, Name: "brief", Fingerprint: "SHA256:b", Scope: policy.ScopeRead, MaxLifetime: time.Hour})
	add(control.SSHAuthority{Tenant: other.ID, Name: "vault", Fingerprint: "SHA256:v", Scope: policy.ScopeAdmin})

	tests := []struct {
		name string
		v    auth.SSHVoucher
		want string // "": refused
	}{
		{"an account", auth.SSHVoucher{Authority: "SHA256:v", Names: []string{"acme/ci"}, Lifetime: math.MaxInt64}, "acme/ci write"},
		{"another tenant's, by the same key", auth.SSHVoucher{Authority: "SHA256:v", Names: []string{"other/ci"}}, "other/ci admin"},
		{"twice the same", auth.SSHVoucher{Authority: "SHA256:v", Names: []string{"acme/ci", "acme/ci"}}, "acme/ci write"},
		{"among others", auth.SSHVoucher{Authority: "SHA256:v", Names: []string{"root", "\x00", "\xff", "acme/ci", ""}}, "acme/ci write"},
		{"a whole hour", auth.SSHVoucher{Authority: "SHA256:b", Names: []string{"acme/ci"}, Lifetime: time.Hour}, "acme/ci read"},
		{"a second more", auth.SSHVoucher{Authority: "SHA256:b", Names: []string{"acme/ci"}, Lifetime: time.Hour + time.Second}, ""},
		{"another tenant's account", auth.SSHVoucher{Authority: "SHA256:b", Names: []string{"other/ci"}}, ""},
		{"two accounts", auth.SSHVoucher{Authority: "SHA256:v", Names: []string{"acme/ci", "acme/bot"}}, ""},
		{"two tenants' accounts", auth.SSHVoucher{Authority: "SHA256:v", Names: []string{"acme/ci", "other/ci"}}, ""},
		{"a person", auth.SSHVoucher{Authority: "SHA256:v", Names: []string{"olga"}}, ""},
		{"another case", auth.SSHVoucher{Authority: "SHA256:v", Names: []string{"Acme/ci"}}, ""},
		{"a pattern", auth.SSHVoucher{Authority: "SHA256:v", Names: []string{"acme/%"}}, ""},
		{"nobody", auth.SSHVoucher{Authority: "SHA256:v"}, ""},
		{"by nobody", auth.SSHVoucher{Authority: "SHA256:x", Names: []string{"acme/ci"}}, ""},
	}
	for _, tt := range tests {
		p, err := c.Vouched(ctx, tt.v)
		if tt.want == "" {
			wantKind(t, tt.name, err, errkind.Unauthorized)
		} else if got := p.Name + " " + string(p.Scope); err != nil || got != tt.want || p.Home == "" || p.Admin {
			t.Errorf("%s: %+v, %v, want %s", tt.name, p, err, tt.want)
		}
	}
	p, err := c.Vouched(ctx, tests[0].v)
	if must(t, p, err).Roles[acme.ID] != policy.Reader || string(p.Token) != string(vault.ID) {
		t.Errorf("acme/ci is %+v", p)
	}

	c.Used(string(vault.ID), netip.MustParseAddr("192.0.2.1"))
	c.WriteUses(ctx)
	list, err := c.SSHAuthorities(ctx, acme.ID)
	if list = must(t, list, err); len(list) != 2 || list[0].Name != "brief" || list[0].MaxLifetime != time.Hour || list[1].FullName() != "acme/Vault" || list[1].UsedFrom != "192.0.2.1" {
		t.Errorf("listed %+v", list)
	}
	wantKind(t, "to remove what is not there", c.RemoveSSHAuthority(ctx, acme.ID, "gone"), errkind.NotFound)
	must0(t, c.RemoveSSHAuthority(ctx, acme.ID, "vault"))
	_, err = c.Vouched(ctx, tests[0].v)
	wantKind(t, "by who is trusted no more", err, errkind.Unauthorized)
	p, err = c.Vouched(ctx, tests[1].v)
	must(t, p, err) // the other tenant still does
}
