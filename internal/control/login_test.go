package control_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
)

const provider = "https://id.example.org"

func TestIdentities(t *testing.T) { onEach(t, testIdentities) }

func testIdentities(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	if _, err := c.Login(ctx, provider, "a1", ""); !errors.Is(err, control.ErrUnlinked) {
		t.Errorf("login of somebody who is linked with nobody = %v", err)
	}
	alice, err := c.Login(ctx, provider, "a1", "alice")
	if must0(t, err); alice.Name != "alice" || alice.Admin || alice.Class != policy.Human {
		t.Errorf("a first login made %+v", alice)
	}
	// The subject counts, whatever name comes with it.
	for _, name := range []string{"other", "admin", "Alice Smith", ""} {
		again, err := c.Login(ctx, provider, "a1", name)
		if must0(t, err); again.ID != alice.ID {
			t.Errorf("a second login, as %q, is %+v, not %+v", name, again, alice)
		}
	}
	for _, tt := range []struct {
		what, provider, subject, name string
		want                          errkind.Kind
	}{
		{"somebody else of alice's name", provider, "a2", "alice", errkind.Exists},
		{"the same in another case", provider, "a2", "ALICE", errkind.Exists},
		{"the administrator's name", provider, "a2", "admin", errkind.Exists},
		{"the subject of another provider", "https://evil.example.org", "a1", "alice", errkind.Exists},
		{"the subject with a space", provider, "a1 ", "", errkind.Forbidden},
		{"a name that nobody can have", provider, "a2", "../x", errkind.Invalid},
		{"no subject", provider, "", "bob", errkind.Invalid},
		{"a subject without end", provider, strings.Repeat("a", 256), "bob", errkind.Invalid},
		{"a subject that is no text", provider, "a\x00", "bob", errkind.Invalid},
	} {
		_, err := c.Login(ctx, tt.provider, tt.subject, tt.name)
		wantKind(t, tt.what, err, tt.want)
	}
	bob := principal(t, c, "bob")
	must0(t, second(c.LinkIdentity(ctx, bob.ID, provider, "b1")))
	ci, err := c.CreateAccount(ctx, tenant(t, c, "acme").ID, "ci", policy.Pipeline)
	must0(t, err)
	wantKind(t, "an account of a tenant", second(c.LinkIdentity(ctx, ci.ID, provider, "c1")), errkind.Invalid)
	_, err = c.LinkIdentity(ctx, alice.ID, provider, "b1")
	wantKind(t, "a link of what is bob's", err, errkind.Exists)
	who, err := c.Login(ctx, provider, "b1", "")
	if must0(t, err); who.ID != bob.ID {
		t.Errorf("bob's identity is %+v", who)
	}
	wantKind(t, "unlink from somebody else", c.UnlinkIdentity(ctx, alice.ID, provider, "b1"), errkind.NotFound)
	must0(t, c.UnlinkIdentity(ctx, bob.ID, provider, "b1"))
	_, err = c.Login(ctx, provider, "b1", "")
	wantKind(t, "login after unlink", err, errkind.Forbidden)
	list, err := c.Identities(ctx, alice.ID)
	if must0(t, err); len(list) != 1 || list[0].Subject != "a1" || list[0].Used.IsZero() {
		t.Errorf("alice's identities = %+v", list)
	}
	must0(t, c.DeletePrincipal(ctx, alice.ID))
	_, err = c.Login(ctx, provider, "a1", "")
	wantKind(t, "login of a principal that is gone", err, errkind.Forbidden)
}

// session begins one, and gives the way in which its secret is presented.
func session(t *testing.T, c *control.Control, p control.Principal) (control.Session, auth.Hash) {
	t.Helper()
	s, secret, err := c.CreateSession(t.Context(), control.Session{Principal: p.ID, Address: "192.0.2.1", Agent: "Browser\x00\n"})
	must0(t, err)
	return s, hashOfSecret(t, secret)
}

func hashOfSecret(t *testing.T, secret string) auth.Hash {
	t.Helper()
	h, ok := auth.SessionHash(secret)
	if !ok {
		t.Fatalf("secret %q does not look like one", secret)
	}
	return h
}

func TestSessions(t *testing.T) { onEach(t, testSessions) }

func testSessions(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	alice, bob := principal(t, c, "alice"), principal(t, c, "bob")
	a := tenant(t, c, "acme")
	must0(t, c.SetMember(ctx, a.ID, alice.ID, policy.Writer))
	s, h := session(t, c, alice)
	p, next, err := c.SessionPrincipal(ctx, h)
	if must0(t, err); p.ID != alice.ID || p.Session != s.ID || p.Token != "" || p.Scope != policy.ScopeAdmin || p.Roles[a.ID] != policy.Writer || next != "" {
		t.Errorf("session's principal = %+v, %q", p, next)
	}
	_, err = c.Principal(ctx, h)
	wantKind(t, "a session as a token", err, errkind.Unauthorized)
	_, tok := token(t, c, control.Token{Principal: alice.ID})
	must0(t, second(c.Principal(ctx, tok)))
	_, _, err = c.SessionPrincipal(ctx, tok)
	wantKind(t, "a token as a session", err, errkind.Unauthorized)

	other, oh := session(t, c, bob)
	list, err := c.Sessions(ctx, alice.ID, "", 10)
	if must0(t, err); len(list) != 1 || list[0].ID != s.ID || list[0].Agent != "Browser??" || list[0].Address != "192.0.2.1" {
		t.Errorf("alice's sessions = %+v", list)
	}
	must0(t, c.RevokeSession(ctx, s.ID))
	_, _, err = c.SessionPrincipal(ctx, h)
	wantKind(t, "a session that was ended", err, errkind.Unauthorized)
	wantKind(t, "end it again", c.RevokeSession(ctx, s.ID), errkind.NotFound)
	must0(t, c.DeletePrincipal(ctx, bob.ID))
	_, _, err = c.SessionPrincipal(ctx, oh)
	wantKind(t, "the session of a principal that is gone", err, errkind.Unauthorized)
	_, err = c.SessionByID(ctx, other.ID)
	wantKind(t, "its record", err, errkind.NotFound)
}

// TestSessionTimes: a session ends when it is not used and when it is old, and its secret changes meanwhile.
func TestSessionTimes(t *testing.T) { onEach(t, testSessionTimes) }

func testSessionTimes(t *testing.T, db backend) {
	c := open(t, db)
	now := &clock{t: time.Now()}
	c.SetClock(now.now)
	alice := principal(t, c, "alice")
	ask := func(h auth.Hash) (next string, err error) {
		_, next, err = c.SessionPrincipal(t.Context(), h)
		return next, err
	}
	_, idle := session(t, c, alice)
	now.t = now.t.Add(control.SessionIdle)
	_, err := ask(idle)
	wantKind(t, "a session that was not used", err, errkind.Unauthorized)

	_, h := session(t, c, alice)
	now.t = now.t.Add(control.SessionRotation)
	next, err := ask(h)
	if must0(t, err); next == "" {
		t.Fatal("the secret does not change")
	}
	young := hashOfSecret(t, next)
	for range 2 {
		if again, err := ask(h); err != nil || again != "" {
			t.Errorf("the secret before, a moment later: %q, %v", again, err)
		}
		must0(t, second(ask(young)))
	}
	now.t = now.t.Add(control.SessionGrace)
	_, err = ask(h)
	wantKind(t, "the secret before, later", err, errkind.Unauthorized)
	must0(t, second(ask(young)))

	// Used now and then, it lasts, but not for ever.
	started := now.t
	for now.t.Sub(started) < control.SessionLife {
		next, err := ask(young)
		if err != nil {
			break
		}
		if next != "" {
			young = hashOfSecret(t, next)
		}
		now.t = now.t.Add(control.SessionIdle / 2)
	}
	if lasted := now.t.Sub(started); lasted < control.SessionLife-control.SessionIdle {
		t.Errorf("a session in use lasted %v", lasted)
	}
	_, err = ask(young)
	wantKind(t, "an old session", err, errkind.Unauthorized)
}

// TestMaxSessions: a principal who logs in again and again loses the session that it has not used for longest.
func TestMaxSessions(t *testing.T) { onEach(t, testMaxSessions) }

func testMaxSessions(t *testing.T, db backend) {
	c := open(t, db)
	now := &clock{t: time.Now()}
	c.SetClock(now.now)
	alice := principal(t, c, "alice")
	var hashes []auth.Hash
	for range control.MaxSessions + 1 {
		_, h := session(t, c, alice)
		hashes = append(hashes, h)
		now.t = now.t.Add(time.Second)
		if len(hashes) == control.MaxSessions { // that it is remembered must not keep it
			_, _, err := c.SessionPrincipal(t.Context(), hashes[0])
			must0(t, err)
		}
	}
	_, _, err := c.SessionPrincipal(t.Context(), hashes[0])
	wantKind(t, "the oldest session", err, errkind.Unauthorized)
	for _, h := range hashes[1:] {
		_, _, err := c.SessionPrincipal(t.Context(), h)
		must0(t, err)
	}
}

// TestSessionEndsOnOtherNodes: what is revoked or rotated on one node, the other refuses within the promised time.
func TestSessionEndsOnOtherNodes(t *testing.T) {
	where := postgrestest.New(t)
	one, two := openAt(t, where), openAt(t, where)
	run(t, one)
	run(t, two)
	ctx := t.Context()
	alice := principal(t, one, "alice")
	s, h := session(t, one, alice)
	known := func() bool {
		_, _, err := two.SessionPrincipal(ctx, h)
		if err != nil {
			wantKind(t, "session", err, errkind.Unauthorized)
		}
		return err == nil
	}
	if !known() {
		t.Fatal("the session is not known on another node")
	}
	must0(t, one.RevokeSession(ctx, s.ID))
	until(t, "session ended", time.Now(), known)

	now := &clock{t: time.Now()}
	one.SetClock(now.now)
	two.SetClock(now.now)
	_, h = session(t, one, alice)
	if !known() {
		t.Fatal("the session is not known on another node")
	}
	now.t = now.t.Add(control.SessionRotation)
	_, next, err := one.SessionPrincipal(ctx, h)
	if must0(t, err); next == "" {
		t.Fatal("the secret does not change")
	}
	now.t = now.t.Add(control.SessionGrace)
	if known() {
		t.Error("another node takes the secret before")
	}
}

func TestDevices(t *testing.T) { onEach(t, testDevices) }

func testDevices(t *testing.T, db backend) {
	c := open(t, db)
	now := &clock{t: time.Now()}
	c.SetClock(now.now)
	ctx := t.Context()
	alice := principal(t, c, "alice")
	begin := func() (control.Device, auth.Hash) {
		t.Helper()
		d, secret, err := c.BeginDevice(ctx, control.Device{Name: "laptop\x1b[31m", Address: "192.0.2.1", Scope: policy.ScopeRead})
		must0(t, err)
		return d, hashOfSecret(t, secret)
	}
	collect := func(h auth.Hash) (control.Token, string, error) { return c.CollectDevice(ctx, h, time.Hour) }
	refused := func(what string, h auth.Hash, want error) {
		t.Helper()
		if _, _, err := collect(h); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}

	d, h := begin()
	refused("nobody has answered", h, control.ErrDeviceWaits)
	found, err := c.DeviceByCode(ctx, d.Code)
	if must0(t, err); found != d || found.Name != "laptop?[31m" {
		t.Errorf("found %+v, want %+v", found, d)
	}
	must0(t, c.AnswerDevice(ctx, d.Code, alice.ID, true))
	wantKind(t, "a second answer", c.AnswerDevice(ctx, d.Code, alice.ID, false), errkind.NotFound)
	tok, secret, err := collect(h)
	if must0(t, err); tok.Principal != alice.ID || tok.Scope != policy.ScopeRead || tok.Name != "skep login on laptop?[31m" || tok.Expires.Sub(tok.Created) != time.Hour {
		t.Errorf("token = %+v", tok)
	}
	p, err := c.Principal(ctx, auth.HashSecret(secret))
	if must0(t, err); p.ID != alice.ID || p.Token != tok.ID {
		t.Errorf("its principal = %+v", p)
	}
	refused("it was collected", h, control.ErrDeviceLate)

	d, h = begin()
	must0(t, c.AnswerDevice(ctx, d.Code, alice.ID, false))
	refused("denied", h, control.ErrDeviceDenied)
	wantKind(t, "allowed after all", c.AnswerDevice(ctx, d.Code, alice.ID, true), errkind.NotFound)

	d, h = begin()
	allowed, ah := begin()
	must0(t, c.AnswerDevice(ctx, allowed.Code, alice.ID, true))
	now.t = now.t.Add(control.DeviceLife)
	refused("late", h, control.ErrDeviceLate)
	refused("allowed, and late", ah, control.ErrDeviceLate)
	wantKind(t, "an answer that is late", c.AnswerDevice(ctx, d.Code, alice.ID, true), errkind.NotFound)

	d, h = begin()
	must0(t, c.AnswerDevice(ctx, d.Code, alice.ID, true))
	must0(t, c.DeletePrincipal(ctx, alice.ID))
	refused("who allowed it is gone", h, control.ErrDeviceLate)
	refused("no such terminal", auth.Hash{}, control.ErrDeviceLate)
	_, _, err = c.BeginDevice(ctx, control.Device{Scope: "all"})
	wantKind(t, "a scope that there is not", err, errkind.Invalid)
}

func TestParseUserCode(t *testing.T) {
	for _, s := range []string{"BCDF-GHJK", "bcdfghjk", " bcdf ghjk ", "b-c-d-f-g-h-j-k"} {
		if got, err := control.ParseUserCode(s); err != nil || got != "BCDF-GHJK" {
			t.Errorf("ParseUserCode(%q) = %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "BCDF", "BCDF-GHJKL", "ACDF-GHJK", "BCDF_GHJK", "BCDF-GHJK\x00", "БCDF-GHJK", strings.Repeat(" ", 40) + "BCDF-GHJK", "\"BCDFGHJK"} {
		if got, err := control.ParseUserCode(s); !errors.Is(err, errkind.Invalid) {
			t.Errorf("ParseUserCode(%q) = %q, %v, want errkind.Invalid", s, got, err)
		}
	}
}

func FuzzUserCode(f *testing.F) {
	f.Add("bcdf-ghjk")
	f.Fuzz(func(t *testing.T, s string) {
		code, err := control.ParseUserCode(s)
		if err != nil {
			return
		}
		if again, err := control.ParseUserCode(code); err != nil || again != code {
			t.Errorf("%q became %q, and that %q, %v", s, code, again, err)
		}
	})
}

func TestSSHKeys(t *testing.T) { onEach(t, testSSHKeys) }

func testSSHKeys(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	alice, bob := principal(t, c, "alice"), principal(t, c, "bob")
	k := control.SSHKey{Principal: alice.ID, Title: "laptop", Kind: "ssh-ed25519", Public: []byte{1, 2}, Fingerprint: "SHA256:a", Expires: time.Now().Add(time.Hour)}
	made, err := c.AddSSHKey(ctx, k)
	must0(t, err)
	list, err := c.SSHKeys(ctx, alice.ID)
	if must0(t, err); len(list) != 1 || list[0].ID != made.ID || string(list[0].Public) != "\x01\x02" || !list[0].Expires.Equal(made.Expires) || !list[0].Used.IsZero() {
		t.Errorf("alice's keys = %+v, want %+v", list, made)
	}
	for _, who := range []id.Principal{alice.ID, bob.ID} {
		k.Principal = who
		_, err := c.AddSSHKey(ctx, k)
		if wantKind(t, "the key again", err, errkind.Exists); strings.Contains(err.Error(), "alice") || strings.Contains(err.Error(), string(alice.ID)) {
			t.Errorf("the refusal says whose the key is: %v", err)
		}
	}
	k.Fingerprint, k.Title = "SHA256:b", "a\nb"
	_, err = c.AddSSHKey(ctx, k)
	wantKind(t, "a title of two lines", err, errkind.Invalid)
	k.Title, k.Expires = "", time.Now().Add(-time.Hour)
	_, err = c.AddSSHKey(ctx, k)
	wantKind(t, "a key that has expired", err, errkind.Invalid)
	wantKind(t, "removal of alice's key as bob's", c.RemoveSSHKey(ctx, bob.ID, made.ID), errkind.NotFound)
	must0(t, c.RemoveSSHKey(ctx, alice.ID, made.ID))
	k.Expires = time.Time{}
	for i := range control.MaxSSHKeys {
		k.Fingerprint = fmt.Sprint("SHA256:", i)
		must0(t, second(c.AddSSHKey(ctx, k)))
	}
	k.Fingerprint = "SHA256:z"
	_, err = c.AddSSHKey(ctx, k)
	wantKind(t, "one key too many", err, errkind.TooLarge)
}
