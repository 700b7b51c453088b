package control_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// TestTokensEndWithTheirParents: what was made with a token ends with it, however it ends, and not after it.
func TestTokensEndWithTheirParents(t *testing.T) { onEach(t, testTokensEndWithTheirParents) }

func testTokensEndWithTheirParents(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	clk := &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	c.SetClock(clk.now)
	alice, bob := principal(t, c, "alice"), principal(t, c, "bob")
	known := func(h auth.Hash) bool {
		_, err := c.Principal(ctx, h)
		if err != nil {
			wantKind(t, "token", err, errkind.Unauthorized)
		}
		return err == nil
	}
	root, rootHash := token(t, c, control.Token{Principal: alice.ID, Expires: clk.t.Add(time.Hour)})
	child, childHash := token(t, c, control.Token{Principal: alice.ID, Parent: root.ID})
	later, _ := token(t, c, control.Token{Principal: alice.ID, Parent: root.ID, Expires: clk.t.Add(2 * time.Hour)})
	sooner, _ := token(t, c, control.Token{Principal: alice.ID, Parent: child.ID, Expires: clk.t.Add(time.Minute)})
	_, bobs := token(t, c, control.Token{Principal: bob.ID, Parent: child.ID})
	_, other := token(t, c, control.Token{Principal: alice.ID})
	for _, tt := range []struct {
		got  control.Token
		want time.Duration
	}{{child, time.Hour}, {later, time.Hour}, {sooner, time.Minute}} {
		if !tt.got.Expires.Equal(clk.t.Add(tt.want)) {
			t.Errorf("a child of a token that ends in an hour ends in %v, want %v", tt.got.Expires.Sub(clk.t), tt.want)
		}
	}
	for _, h := range []auth.Hash{rootHash, childHash, bobs, other} {
		if !known(h) {
			t.Error("a token is not known before the end of its parent")
		}
	}
	must0(t, c.RevokeToken(ctx, child.ID))
	if known(childHash) || known(bobs) || !known(rootHash) || !known(other) {
		t.Errorf("after a token was revoked: itself %v, what it made %v, what made it %v, another %v", known(childHash), known(bobs), known(rootHash), known(other))
	}
	_, _, err := c.CreateToken(ctx, control.Token{Principal: alice.ID, Scope: policy.ScopeRead, Parent: child.ID})
	wantKind(t, "a child of what was revoked", err, errkind.Unauthorized)
	clk.t = clk.t.Add(time.Hour)
	_, _, err = c.CreateToken(ctx, control.Token{Principal: alice.ID, Scope: policy.ScopeRead, Parent: root.ID})
	wantKind(t, "a child of what has expired", err, errkind.Unauthorized)

	up, _ := token(t, c, control.Token{Principal: alice.ID})
	first := up
	for depth := 1; ; depth++ {
		next, _, err := c.CreateToken(ctx, control.Token{Principal: alice.ID, Scope: policy.ScopeRead, Parent: up.ID})
		if err != nil {
			wantKind(t, "a long line of tokens", err, errkind.TooLarge)
			if depth != control.MaxTokenDepth {
				t.Errorf("%d tokens were made with one another, want %d", depth, control.MaxTokenDepth)
			}
			break
		}
		up = next
	}
	must0(t, c.RevokeToken(ctx, first.ID))
	_, err = c.TokenByID(ctx, up.ID)
	wantKind(t, "the last of the line", err, errkind.NotFound)
	entries, _, err := c.AuditLog(ctx, control.AuditFilter{Action: "token.revoke"}, 0, 10)
	if must0(t, err); len(entries) != 2 || entries[1].Detail != `of alice, "", and 15 made with it` {
		t.Errorf("the audit log has %+v", entries)
	}
	_, bobs = token(t, c, control.Token{Principal: bob.ID, Parent: func() id.Token { t1, _ := token(t, c, control.Token{Principal: alice.ID}); return t1.ID }()})
	must0(t, c.DeletePrincipal(ctx, alice.ID))
	if known(bobs) {
		t.Error("a token outlives the principal whose token made it")
	}
}

// TestRotateToken: another secret, and all else as it was.
func TestRotateToken(t *testing.T) { onEach(t, testRotateToken) }

func testRotateToken(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	alice := principal(t, c, "alice")
	tok, old := token(t, c, control.Token{Principal: alice.ID, Name: "laptop"})
	_, child := token(t, c, control.Token{Principal: alice.ID, Parent: tok.ID})
	_, err := c.Principal(ctx, old)
	must0(t, err)
	got, secret, err := c.RotateToken(ctx, tok.ID)
	if must0(t, err); got.ID != tok.ID || got.Name != "laptop" || got.Prefix != auth.Mark(secret) || got.Prefix == tok.Prefix {
		t.Errorf("token = %+v, was %+v", got, tok)
	}
	_, err = c.Principal(ctx, old)
	wantKind(t, "the old secret", err, errkind.Unauthorized)
	for _, h := range []auth.Hash{auth.HashSecret(secret), child} {
		_, err := c.Principal(ctx, h)
		must0(t, err)
	}
	_, _, err = c.RotateToken(ctx, "tok_none")
	wantKind(t, "nobody's token", err, errkind.NotFound)
}

// TestLastUse: it is shown at once where it happened, to the minute, and is on disk when Run has ended.
func TestLastUse(t *testing.T) { onEach(t, testLastUse) }

func testLastUse(t *testing.T, db backend) {
	where := db.fresh(t)
	c, _, err := control.Open(t.Context(), where, control.Options{})
	must0(t, err)
	clk := &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	c.SetClock(clk.now)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	alice := principal(t, c, "alice")
	tok, _ := token(t, c, control.Token{Principal: alice.ID})
	idle, _ := token(t, c, control.Token{Principal: alice.ID})
	last := func(c *control.Control, tok id.Token) control.Use {
		t.Helper()
		got, err := c.TokenByID(t.Context(), tok)
		must0(t, err)
		list, err := c.Tokens(t.Context(), control.TokenFilter{Principal: alice.ID}, "", 10)
		must0(t, err)
		for _, one := range list {
			if one.ID == tok && one.Use != got.Use {
				t.Errorf("a list has %+v, the token itself %+v", one.Use, got.Use)
			}
		}
		return got.Use
	}
	if got := last(c, tok.ID); got != (control.Use{}) {
		t.Errorf("before the first use: %+v", got)
	}
	c.Used(string(tok.ID), netip.MustParseAddr("192.0.2.1"))
	first := control.Use{Used: clk.t, UsedFrom: "192.0.2.1"}
	if got := last(c, tok.ID); got != first {
		t.Errorf("used once: %+v, want %+v", got, first)
	}
	clk.t = clk.t.Add(10 * time.Second)
	c.Used(string(tok.ID), netip.MustParseAddr("192.0.2.2"))
	if got := last(c, tok.ID); got != first {
		t.Errorf("used again within the minute: %+v, want %+v", got, first)
	}
	clk.t = clk.t.Add(time.Minute)
	c.Used(string(tok.ID), netip.Addr{})
	c.Used("jwt_0123", netip.Addr{})
	c.Used("", netip.Addr{})
	want := control.Use{Used: clk.t}
	if got := last(c, tok.ID); got != want {
		t.Errorf("used a minute later: %+v, want %+v", got, want)
	}
	cancel()
	must0(t, <-ended)
	must0(t, c.Close())
	again, _, err := control.Open(t.Context(), where, control.Options{})
	must0(t, err)
	if got := last(again, tok.ID); got != want {
		t.Errorf("after a restart: %+v, want %+v", got, want)
	}
	if got := last(again, idle.ID); got != (control.Use{}) {
		t.Errorf("one that was not used: %+v", got)
	}
	must0(t, again.Close())
}

// TestUsesAreBounded: however many credentials are used, what waits to be written has a limit.
func TestUsesAreBounded(t *testing.T) {
	c, _, err := control.Open(t.Context(), filepath.Join(t.TempDir(), "control.db"), control.Options{})
	must0(t, err)
	t.Cleanup(func() { must0(t, c.Close()) })
	for n := range 10 {
		c.Used(fmt.Sprint("jwt_", n), netip.Addr{})
	}
	if n := c.PendingUses(); n != 0 {
		t.Errorf("%d uses wait of what is in no table", n)
	}
	for n := range 2 * control.MaxUses {
		c.Used(fmt.Sprint("tok_", n), netip.Addr{})
	}
	if n := c.PendingUses(); n != control.MaxUses {
		t.Errorf("%d uses wait, want %d", n, control.MaxUses)
	}
	c.WriteUses(t.Context())
	if n := c.PendingUses(); n != 0 {
		t.Errorf("%d uses wait after they were written", n)
	}
}
