package control_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/secret"
)

// keyOf makes a master key whose bytes are all b.
func keyOf(tb testing.TB, b byte) secret.KeyWrapper {
	tb.Helper()
	k, err := secret.ParseKey(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)))
	return must(tb, k, err)
}

// tryKeys opens a control plane with master keys, the first of which wraps.
func tryKeys(tb testing.TB, where string, keys ...byte) (*control.Control, error) {
	tb.Helper()
	c, _, err := control.Open(tb.Context(), where, control.Options{Keys: func(bool) (*secret.Ring, error) {
		var old []secret.KeyWrapper
		for _, b := range keys[1:] {
			old = append(old, keyOf(tb, b))
		}
		return secret.NewRing(keyOf(tb, keys[0]), old...), nil
	}})
	return c, err
}

func withKeys(tb testing.TB, where string, keys ...byte) *control.Control {
	tb.Helper()
	c, err := tryKeys(tb, where, keys...)
	must0(tb, err)
	tb.Cleanup(func() { must0(tb, c.Close()) })
	return c
}

func set(tb testing.TB, c *control.Control, o control.SecretOwner, name, value string) control.Secret {
	tb.Helper()
	s, err := c.SetSecret(tb.Context(), o, name, []byte(value), "usr_1")
	return must(tb, s, err)
}

// names writes secrets as NAME:version,version.
func names(list [][]control.Secret) (out []string) {
	for _, versions := range list {
		text := versions[0].Name + ":"
		for _, v := range versions {
			text += fmt.Sprint(" ", v.Version)
		}
		out = append(out, text)
	}
	return out
}

func wantSecrets(tb testing.TB, c *control.Control, o control.SecretOwner, want ...string) {
	tb.Helper()
	got, err := c.Secrets(tb.Context(), o)
	must0(tb, err)
	if diff := cmp.Diff(want, names(got)); diff != "" {
		tb.Errorf("secrets (-want +got):\n%s", diff)
	}
}

// faults opens all secrets and says which do not open.
func faults(tb testing.TB, c *control.Control) (checked int, bad []string) {
	tb.Helper()
	checked, err := c.CheckSecrets(tb.Context(), func(what string, err error) {
		if strings.Contains(err.Error(), "s3cret") {
			tb.Errorf("%s: the error has the value: %v", what, err)
		}
		bad = append(bad, what)
	})
	return must(tb, checked, err), bad
}

func execute(tb testing.TB, c *control.Control, query string, args ...any) {
	tb.Helper()
	must0(tb, c.DB().Write(tb.Context(), func(q control.Conn) error { return q.Exec(query, args...) }))
}

func TestSecrets(t *testing.T) { onEach(t, testSecrets) }

func testSecrets(t *testing.T, db backend) {
	c := withKeys(t, db.fresh(t), 1)
	ctx := t.Context()
	acme, other := tenant(t, c, "acme"), tenant(t, c, "other")
	api := repo(t, c, acme.ID, "api")
	ofAcme, ofAPI := control.SecretOwner{Tenant: acme.ID}, control.SecretOwner{Tenant: acme.ID, Repo: api.ID}

	first := set(t, c, ofAcme, "TOKEN", "s3cret-1")
	if first.Version != 1 || first.By != "usr_1" || first.Created.IsZero() {
		t.Errorf("first = %+v", first)
	}
	set(t, c, ofAcme, "TOKEN", "s3cret-2")
	set(t, c, ofAcme, "A_1", "s3cret-3")
	set(t, c, ofAPI, "TOKEN", "s3cret-4")
	wantSecrets(t, c, ofAcme, "A_1: 1", "TOKEN: 2 1")
	wantSecrets(t, c, ofAPI, "TOKEN: 1")
	wantSecrets(t, c, control.SecretOwner{Tenant: other.ID})

	// Restored, the old value is the newest version, under a key of its own.
	s, err := c.RestoreSecret(ctx, ofAcme, "TOKEN", 1, "usr_2")
	if must0(t, err); s.Version != 3 || s.By != "usr_2" {
		t.Errorf("restored = %+v", s)
	}
	value, err := c.OpenSecret(ctx, ofAcme, "TOKEN", 3)
	if must0(t, err); string(value) != "s3cret-1" {
		t.Errorf("restored %q", value)
	}
	for i := range 12 {
		set(t, c, ofAPI, "TOKEN", fmt.Sprint("s3cret-", i))
	}
	wantSecrets(t, c, ofAPI, "TOKEN: 13 12 11 10 9 8 7 6 5 4")
	if n, bad := faults(t, c); n != 14 || bad != nil {
		t.Errorf("%d checked, faults %q", n, bad)
	}

	for what, err := range map[string]error{
		"version that is dropped": second(c.RestoreSecret(ctx, ofAPI, "TOKEN", 1, "usr_1")),
		"version to come":         second(c.RestoreSecret(ctx, ofAPI, "TOKEN", 99, "usr_1")),
		"name that is not there":  second(c.RestoreSecret(ctx, ofAPI, "A_1", 1, "usr_1")),
		"delete what is not":      c.DeleteSecret(ctx, ofAPI, "A_1"),
		"tenant that is not":      second(c.SetSecret(ctx, control.SecretOwner{Tenant: "ten_x"}, "A", []byte("s3cret"), "usr_1")),
		"repository elsewhere":    second(c.SetSecret(ctx, control.SecretOwner{Tenant: other.ID, Repo: api.ID}, "A", []byte("s3cret"), "usr_1")),
		"list of another's":       second(c.Secrets(ctx, control.SecretOwner{Tenant: other.ID, Repo: api.ID})),
	} {
		wantKind(t, what, err, errkind.NotFound)
	}
	must0(t, c.DeleteSecret(ctx, ofAcme, "TOKEN"))
	wantSecrets(t, c, ofAcme, "A_1: 1")

	// They go with what they belong to.
	must0(t, c.DeleteRepo(ctx, api.ID))
	must0(t, c.DeleteTenant(ctx, acme.ID, false))
	for more := true; more; {
		var err error
		more, err = c.Purge(ctx, time.Now().Add(time.Hour), remover{func(control.Repo) error { return nil }, nil})
		must0(t, err)
	}
	if n, _ := faults(t, c); n != 0 {
		t.Errorf("%d secrets are left of what is gone", n)
	}
}

func TestSecretLimits(t *testing.T) { onEach(t, testSecretLimits) }

func testSecretLimits(t *testing.T, db backend) {
	c := withKeys(t, db.fresh(t), 1)
	o := control.SecretOwner{Tenant: tenant(t, c, "acme").ID}
	try := func(name, value string) error {
		return second(c.SetSecret(t.Context(), o, name, []byte(value), "usr_1"))
	}
	for _, name := range []string{"", "lower", "1A", "A B", "A-B", "Ä", "A\x00", strings.Repeat("A", 101), "A/B", "../A"} {
		wantKind(t, fmt.Sprintf("name %q", name), try(name, "s3cret"), errkind.Invalid)
	}
	wantKind(t, "no value", try("A", ""), errkind.Invalid)
	wantKind(t, "a long value", try("A", strings.Repeat("x", secret.MaxValueBytes+1)), errkind.TooLarge)
	for i := range control.MaxSecrets {
		must0(t, try(fmt.Sprint("N", i), "s3cret"))
	}
	must0(t, try("N0", "another version"))
	wantKind(t, "one too many", try("MORE", "s3cret"), errkind.TooLarge)
}

// TestSecretsAreNotReadable: nothing of a value is in the database, and a row opens in its own place only.
func TestSecretsAreNotReadable(t *testing.T) { onEach(t, testSecretsAreNotReadable) }

func testSecretsAreNotReadable(t *testing.T, db backend) {
	c := withKeys(t, db.fresh(t), 1)
	acme, other := tenant(t, c, "acme"), tenant(t, c, "other")
	api, web := repo(t, c, acme.ID, "api"), repo(t, c, acme.ID, "web")
	owners := []control.SecretOwner{{Tenant: acme.ID}, {Tenant: acme.ID, Repo: api.ID}, {Tenant: acme.ID, Repo: web.ID}, {Tenant: other.ID}}
	for _, o := range owners {
		set(t, c, o, "TOKEN", "s3cret of "+string(o.Tenant)+string(o.Repo))
		set(t, c, o, "OTHER", "s3cret of "+string(o.Tenant)+string(o.Repo))
	}
	set(t, c, owners[1], "TOKEN", "s3cret two")
	must0(t, c.DB().Read(t.Context(), func(q control.Conn) error {
		for r, err := range q.Query("SELECT wrapped, box FROM secret") {
			must0(t, err)
			if bytes.Contains(slices.Concat(r.Bytes(0), r.Bytes(1)), []byte("s3cret")) {
				t.Error("a value is in the database")
			}
		}
		return nil
	}))

	// Somebody with the database moves what they want to use to where they may use it. The whole row, or the box alone.
	const from = " = (SELECT %s FROM secret WHERE tenant_id = ?1 AND owner = ?2 AND name = ?3 AND version = ?4) WHERE tenant_id = ?5 AND owner = ?6 AND name = ?7 AND version = ?8"
	for what, args := range map[string][]any{
		"another repository":     {acme.ID, api.ID, "TOKEN", 1, acme.ID, web.ID, "TOKEN", 1},
		"another tenant":         {acme.ID, "", "TOKEN", 1, other.ID, "", "TOKEN", 1},
		"the tenant's in a repo": {acme.ID, "", "TOKEN", 1, acme.ID, api.ID, "TOKEN", 1},
		"another name":           {acme.ID, api.ID, "TOKEN", 1, acme.ID, api.ID, "OTHER", 1},
		"another version":        {acme.ID, api.ID, "TOKEN", 1, acme.ID, api.ID, "TOKEN", 2},
	} {
		for _, columns := range [][]string{{"wrapped", "box"}, {"box"}, {"wrapped"}} {
			var was [2][]byte
			at := args[4:]
			must0(t, c.DB().Read(t.Context(), func(q control.Conn) error {
				return second(q.First("SELECT wrapped, box FROM secret WHERE tenant_id = ? AND owner = ? AND name = ? AND version = ?",
					func(r control.Row) { was = [2][]byte{bytes.Clone(r.Bytes(0)), bytes.Clone(r.Bytes(1))} }, at...))
			}))
			for _, column := range columns {
				execute(t, c, "UPDATE secret SET "+column+fmt.Sprintf(from, column), args...)
			}
			if _, bad := faults(t, c); len(bad) != 1 {
				t.Errorf("%s, %v moved: faults %q, want one", what, columns, bad)
			}
			execute(t, c, "UPDATE secret SET wrapped = ?, box = ? WHERE tenant_id = ? AND owner = ? AND name = ? AND version = ?", append([]any{was[0], was[1]}, at...)...)
		}
	}
	if n, bad := faults(t, c); n != 9 || bad != nil {
		t.Fatalf("put back: %d checked, faults %q", n, bad)
	}
	execute(t, c, "UPDATE secret SET key_id = 'another' WHERE owner = ?", web.ID)
	execute(t, c, "UPDATE secret SET box = ? WHERE owner = ? AND version = 2", []byte("short"), api.ID)
	if _, bad := faults(t, c); len(bad) != 3 {
		t.Errorf("changed rows: faults %q, want three", bad)
	}
	_, err := c.RestoreSecret(t.Context(), owners[1], "TOKEN", 2, "usr_1")
	if err == nil || errkind.Of(err) != errkind.Internal {
		t.Errorf("restored what was changed: %v", err)
	}
}

// TestMasterKeyIsReplaced: with both keys everything is wrapped anew, some at a time; a crash in the middle loses nothing.
func TestMasterKeyIsReplaced(t *testing.T) { onEach(t, testMasterKeyIsReplaced) }

func testMasterKeyIsReplaced(t *testing.T, db backend) {
	where := db.fresh(t)
	c := withKeys(t, where, 1)
	const each = 60 // of two owners: more than one batch
	for _, path := range []string{"acme", "other"} {
		o := control.SecretOwner{Tenant: tenant(t, c, path).ID}
		for i := range each {
			set(t, c, o, fmt.Sprint("N", i), "s3cret")
		}
	}
	must0(t, second(c.ReplaceKeys(t.Context()))) // nothing to do

	_, err := tryKeys(t, where, 2)
	wantKind(t, "only another key", err, errkind.Unavailable)
	if err != nil && !strings.Contains(err.Error(), keyOf(t, 1).ID()) {
		t.Errorf("only another key: %v does not name the one it needs", err)
	}
	both := withKeys(t, where, 2, 1)
	must0(t, second(both.ReplaceSome(t.Context()))) // and then a crash
	_, err = tryKeys(t, where, 1)
	wantKind(t, "only the old key in the middle", err, errkind.Unavailable)
	_, err = tryKeys(t, where, 2)
	wantKind(t, "only the new key in the middle", err, errkind.Unavailable)
	acme, err := c.TenantByPath(t.Context(), "acme")
	must0(t, err)
	err = second(c.SetSecret(t.Context(), control.SecretOwner{Tenant: acme.ID}, "N0", []byte("s3cret"), "usr_1"))
	if wantKind(t, "set on a node with the old key", err, errkind.Unavailable); !strings.Contains(fmt.Sprint(err), "another master key") {
		t.Error(err)
	}

	if n, err := both.ReplaceKeys(t.Context()); err != nil || n != 2*each-control.RewrapBatch {
		t.Errorf("replaced %d more, %v", n, err)
	}
	after := withKeys(t, where, 2)
	if n, bad := faults(t, after); n != 2*each || bad != nil {
		t.Errorf("with the new key alone: %d checked, faults %q", n, bad)
	}
	set(t, after, control.SecretOwner{Tenant: acme.ID}, "N0", "s3cret")
}

// TestLostMasterKey: what nobody can open is deleted when that is asked for, and nothing else.
func TestLostMasterKey(t *testing.T) { onEach(t, testLostMasterKey) }

func testLostMasterKey(t *testing.T, db backend) {
	where := db.fresh(t)
	c := withKeys(t, where, 1)
	o := control.SecretOwner{Tenant: tenant(t, c, "acme").ID}
	set(t, c, o, "LOST", "s3cret")
	ring := func(bool) (*secret.Ring, error) { return secret.NewRing(keyOf(t, 2)), nil }
	after, _, err := control.Open(t.Context(), where, control.Options{Keys: ring, DiscardLost: true})
	must0(t, err)
	wantSecrets(t, after, o)
	set(t, after, o, "ANEW", "s3cret")
	must0(t, after.Close())
	again, _, err := control.Open(t.Context(), where, control.Options{Keys: ring, DiscardLost: true})
	must0(t, err)
	wantSecrets(t, again, o, "ANEW: 1")
	must0(t, again.Close())
}

func TestSecretsNeedAKey(t *testing.T) {
	where := onSQLite.fresh(t)
	c := openAt(t, where)
	acme := tenant(t, c, "acme")
	wantKind(t, "set without a key", second(c.SetSecret(t.Context(), control.SecretOwner{Tenant: acme.ID}, "A", []byte("s3cret"), "usr_1")), errkind.Unsupported)
	wantKind(t, "restore without a key", second(c.RestoreSecret(t.Context(), control.SecretOwner{Tenant: acme.ID}, "A", 1, "usr_1")), errkind.Unsupported)
}

// TestSecretSetTwiceAtOnce: of two who set one secret at once, one is told.
func TestSecretSetTwiceAtOnce(t *testing.T) { onEach(t, testSecretSetTwiceAtOnce) }

func testSecretSetTwiceAtOnce(t *testing.T, db backend) {
	c := withKeys(t, db.fresh(t), 1)
	o := control.SecretOwner{Tenant: tenant(t, c, "acme").ID}
	const writers = 8
	errs := make(chan error, writers)
	for range writers {
		go func() { errs <- second(c.SetSecret(t.Context(), o, "A", []byte("s3cret"), "usr_1")) }()
	}
	done := 0
	for range writers {
		if err := <-errs; err != nil {
			wantKind(t, "set at once", err, errkind.Conflict)
			continue
		}
		done++
	}
	list, err := c.Secrets(t.Context(), o)
	if must0(t, err); done == 0 || len(list[0]) != done || list[0][0].Version != int64(done) {
		t.Errorf("%d were done, and there is %q", done, names(list))
	}
}
