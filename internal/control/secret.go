package control

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/secret"
)

// The limits of secrets.
const (
	maxSecrets        = 100 // of a tenant or repository; with their versions they are listed whole
	maxSecretVersions = 10  // the oldest is dropped
	maxSecretName     = 100
)

// SecretOwner is what a secret belongs to: a tenant, or a repository of it.
type SecretOwner struct {
	Tenant id.Tenant
	Repo   id.Repo // empty: the tenant itself
}

// Secret is a version of a secret, its value not included.
type Secret struct {
	Name    string
	Version int64
	By      id.Principal
	Created time.Time
}

// secretRow is a version's place in the table.
type secretRow struct {
	SecretOwner
	name    string
	version int64
}

// associated is what the value is bound to: put into another row, it does not open.
func (k *secretRow) associated() []byte {
	return fmt.Appendf(nil, "skep secret: tenant %q, repository %q, name %q, version %d", k.Tenant, k.Repo, k.name, k.version)
}

func (k *secretRow) String() string {
	return fmt.Sprintf("secret %s of %s%s, version %d", clip(k.name), k.Tenant, slash(k.Repo), k.version)
}

func slash(r id.Repo) string {
	if r == "" {
		return ""
	}
	return "/" + string(r)
}

// checkSecretName lets through what an environment variable may be called.
func checkSecretName(s string) error {
	bad := s == "" || len(s) > maxSecretName || '0' <= s[0] && s[0] <= '9'
	for i := 0; i < len(s) && !bad; i++ {
		c := s[i]
		bad = c != '_' && (c < 'A' || 'Z' < c) && (c < '0' || '9' < c)
	}
	if bad {
		return fmt.Errorf("secret name %q is not 1 to %d of A-Z, 0-9 and _, a digit not first: %w", clip(s), maxSecretName, errkind.Invalid)
	}
	return nil
}

// errNoMasterKey is of a control plane that was opened without keys.
var errNoMasterKey = fmt.Errorf("this server has no master key for secrets: %w", errkind.Unsupported)

// SetSecret gives a secret a value, as a new version of it.
func (c *Control) SetSecret(ctx context.Context, o SecretOwner, name string, value []byte, by id.Principal) (Secret, error) {
	err := checkSecretName(name)
	if err == nil && len(value) == 0 {
		err = fmt.Errorf("the value is empty: %w", errkind.Invalid)
	}
	var out Secret
	if err == nil {
		out, err = c.addSecret(ctx, o, name, value, by, "")
	}
	if err != nil {
		return Secret{}, fmt.Errorf("set secret: %w", err)
	}
	return out, nil
}

// RestoreSecret makes the value of an older version the newest one again.
func (c *Control) RestoreSecret(ctx context.Context, o SecretOwner, name string, version int64, by id.Principal) (Secret, error) {
	var out Secret
	var value []byte
	err := checkSecretName(name)
	if err == nil {
		value, err = c.openSecret(ctx, secretRow{o, name, version})
	}
	if err == nil {
		out, err = c.addSecret(ctx, o, name, value, by, fmt.Sprint(", restored from ", version))
	}
	if err != nil {
		return Secret{}, fmt.Errorf("restore secret: %w", err)
	}
	return out, nil
}

// addSecret adds a version, of which the audit log says where it comes from. It is sealed outside the transaction, because the master key may be far away.
func (c *Control) addSecret(ctx context.Context, o SecretOwner, name string, value []byte, by id.Principal, from string) (Secret, error) {
	if c.keys == nil {
		return Secret{}, errNoMasterKey
	}
	newest := int64(0)
	find := func(q conn) (n int64, err error) {
		if _, err := ownerPath(q, o); err != nil {
			return 0, err
		}
		_, err = q.First("SELECT version FROM secret WHERE tenant_id = ? AND owner = ? AND name = ? ORDER BY version DESC LIMIT 1",
			func(r row) { n = r.Int64(0) }, o.Tenant, o.Repo, name)
		return n, err
	}
	err := c.db.Read(ctx, func(q conn) (err error) {
		newest, err = find(q)
		return err
	})
	if err != nil {
		return Secret{}, err
	}
	if name == documentsKey && newest > 0 {
		return Secret{}, fmt.Errorf("%s was made by somebody else meanwhile: %w", name, errkind.Conflict)
	}
	at := secretRow{o, name, newest + 1}
	sealed, err := c.keys.Seal(ctx, value, at.associated())
	if err != nil {
		return Secret{}, err
	}
	out := Secret{Name: name, Version: at.version, By: by, Created: c.timestamp()}
	err = c.change(ctx, func(q *txn) error {
		switch now, err := find(q); {
		case err != nil:
			return err
		case now != newest:
			return fmt.Errorf("%s was set by somebody else meanwhile: %w", name, errkind.Conflict)
		}
		if other, ok, err := otherKey(q, sealed.KeyID); err != nil || ok {
			if ok {
				err = fmt.Errorf("the secrets here are wrapped with another master key than this node's: %w", secret.NoKey(other))
			}
			return err
		}
		if err := recordSecret(q, "set", at, fmt.Sprint("version ", at.version, from)); err != nil {
			return err
		}
		return insertSecret(q, at, out, sealed)
	}, nil)
	return out, err
}

func insertSecret(q conn, at secretRow, s Secret, sealed secret.Sealed) error {
	var repo any
	if at.Repo != "" {
		repo = at.Repo
	}
	if err := q.Exec(`INSERT INTO secret (tenant_id, owner, name, version, repo_id, principal_id, created, key_id, wrapped, box)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		at.Tenant, at.Repo, at.name, at.version, repo, s.By, s.Created, sealed.KeyID, sealed.Wrapped, sealed.Box); err != nil {
		return err
	}
	if err := q.Exec("DELETE FROM secret WHERE tenant_id = ? AND owner = ? AND name = ? AND version <= ?",
		at.Tenant, at.Repo, at.name, at.version-maxSecretVersions); err != nil {
		return err
	}
	return mustHold(q, "secrets of one owner", maxSecrets, "SELECT name FROM secret WHERE tenant_id = ? AND owner = ? GROUP BY name LIMIT 1 OFFSET ?", at.Tenant, at.Repo)
}

// ownerPath is how an owner's secrets are named, up to the slash. The repository must be the tenant's.
func ownerPath(q conn, o SecretOwner) (string, error) {
	t, err := tenantByID(q, o.Tenant)
	path := "secret/" + t.Path + "/"
	if err == nil && o.Repo != "" {
		err = find(q, "repository "+clip(string(o.Repo)), "SELECT name FROM repo WHERE tenant_id = ? AND repo_id = ?", func(r row) { path += r.Text(0) + "/" }, o.Tenant, o.Repo)
	}
	return path, err
}

func recordSecret(q *txn, verb string, at secretRow, detail string) error {
	path, err := ownerPath(q, at.SecretOwner)
	if err != nil {
		return err
	}
	return q.record(audit.Entry{Action: "secret." + verb, Tenant: string(at.Tenant), Resource: path + at.name, Detail: detail})
}

// openSecret decrypts a version.
func (c *Control) openSecret(ctx context.Context, at secretRow) ([]byte, error) {
	if c.keys == nil {
		return nil, errNoMasterKey
	}
	var s secret.Sealed
	err := c.db.Read(ctx, func(q conn) error {
		return find(q, "version "+strconv.FormatInt(at.version, 10)+" of secret "+clip(at.name),
			"SELECT key_id, wrapped, box FROM secret WHERE tenant_id = ? AND owner = ? AND name = ? AND version = ?", func(r row) {
				s = secret.Sealed{KeyID: r.Text(0), Wrapped: r.Bytes(1), Box: r.Bytes(2)}
			}, at.Tenant, at.Repo, at.name, at.version)
	})
	if err != nil {
		return nil, err
	}
	value, err := c.keys.Open(ctx, s, at.associated())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", &at, err)
	}
	return value, nil
}

// documentsKey is the name of a secret of tenants that is the server's own. In lower case it is no name that anybody could choose.
const documentsKey = "documents"

// DocumentsKey returns the key with which what must not be read in the logs of a tenant's documents is encrypted: 32 random bytes, made at
// the first call. It is wrapped by the master key, and anew when that is replaced, as all secrets are.
func (c *Control) DocumentsKey(ctx context.Context, t id.Tenant) ([]byte, error) {
	at := secretRow{SecretOwner{Tenant: t}, documentsKey, 1}
	for {
		key, err := c.openSecret(ctx, at)
		if errkind.Of(err) != errkind.NotFound {
			return key, err
		}
		key = make([]byte, 32)
		rand.Read(key) // never fails: crypto/rand ends the process instead
		_, err = c.addSecret(ctx, at.SecretOwner, at.name, key, "", ", for the documents of the tenant")
		if err == nil {
			return key, nil
		}
		if errkind.Of(err) != errkind.Conflict { // somebody else made one
			return nil, fmt.Errorf("make a key for documents: %w", err)
		}
	}
}

// Secrets lists an owner's secrets by name, each with its versions, the newest first.
func (c *Control) Secrets(ctx context.Context, o SecretOwner) (out [][]Secret, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		if _, err := ownerPath(q, o); err != nil {
			return err
		}
		for r, err := range q.Query(`SELECT name, version, principal_id, created FROM secret
			WHERE tenant_id = ? AND owner = ? AND name <> ? ORDER BY name, version DESC`, o.Tenant, o.Repo, documentsKey) {
			if err != nil {
				return err
			}
			s := Secret{Name: r.Text(0), Version: r.Int64(1), By: id.Principal(r.Text(2)), Created: r.Time(3)}
			if len(out) == 0 || out[len(out)-1][0].Name != s.Name {
				out = append(out, nil)
			}
			out[len(out)-1] = append(out[len(out)-1], s)
		}
		return nil
	})
	return out, err
}

// DeleteSecret deletes a secret with all its versions.
func (c *Control) DeleteSecret(ctx context.Context, o SecretOwner, name string) error {
	if name == documentsKey {
		return fmt.Errorf("delete secret: %w", notFound("secret "+name))
	}
	err := c.change(ctx, func(q *txn) error {
		if err := recordSecret(q, "delete", secretRow{SecretOwner: o, name: clip(name)}, ""); err != nil {
			return err
		}
		if err := q.Exec("DELETE FROM secret WHERE tenant_id = ? AND owner = ? AND name = ?", o.Tenant, o.Repo, name); err != nil {
			return err
		}
		if q.Changes() == 0 {
			return notFound("secret " + clip(name))
		}
		return nil
	}, nil)
	if err != nil {
		return fmt.Errorf("delete secret: %w", err)
	}
	return nil
}
