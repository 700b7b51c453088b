package control

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

// SSHKey is a public key of a principal's.
type SSHKey struct {
	ID          id.Key
	Principal   id.Principal
	Title       string
	Kind        string // ssh-ed25519, ssh-rsa, …
	Public      []byte // in SSH's wire format
	Fingerprint string // SHA256:…
	Created     time.Time
	Expires     time.Time // zero: never

	Use
}

// maxSSHKeys is how many a principal may have: a person's machines, with room.
const maxSSHKeys = 100

// AddSSHKey registers a key. Of k it takes Principal, Title, Kind, Public, Fingerprint and Expires. A key is one principal's or one
// repository's: a second time it is errkind.Exists, which does not say whose it is.
func (c *Control) AddSSHKey(ctx context.Context, k SSHKey) (SSHKey, error) {
	k.ID, k.Created, k.Use = id.NewKey(), c.timestamp(), Use{}
	var err error
	if k.Expires, err = checkKey(k.Title, k.Created, k.Expires); err == nil {
		err = c.change(ctx, func(q *txn) error {
			who, err := principalByID(q, k.Principal)
			if err != nil {
				return err
			}
			if err := mustBeNobodys(q, k.Fingerprint); err != nil {
				return err
			}
			if err := recordSSHKey(q, "key.add", who, k); err != nil {
				return err
			}
			if err := q.Exec(`INSERT INTO ssh_key (key_id, fingerprint, principal_id, title, kind, public, created, expires, used)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)`, k.ID, k.Fingerprint, k.Principal, k.Title, k.Kind, k.Public, k.Created, k.Expires); err != nil {
				return err
			}
			return mustHold(q, "SSH keys of the principal", maxSSHKeys, "SELECT 1 FROM ssh_key WHERE principal_id = ? LIMIT 1 OFFSET ?", k.Principal)
		}, nil)
	}
	if err != nil {
		return SSHKey{}, fmt.Errorf("add SSH key: %w", err)
	}
	return k, nil
}

func recordSSHKey(q *txn, action string, who Principal, k SSHKey) error {
	return q.record(audit.Entry{Action: action, Resource: "key/" + string(k.ID), Detail: fmt.Sprintf("of %s, %q, %s %s", who.Name, k.Title, k.Kind, k.Fingerprint)})
}

// checkKey judges a key's title and end, and returns the end as it is stored.
func checkKey(title string, created, expires time.Time) (time.Time, error) {
	if !printableText(title) || len(title) > maxNameBytes {
		return expires, fmt.Errorf("title %q is not printable text of at most %d bytes: %w", clip(title), maxNameBytes, errkind.Invalid)
	}
	if expires.IsZero() {
		return expires, nil
	}
	expires = expires.UTC().Truncate(time.Microsecond)
	if !expires.After(created) {
		return expires, fmt.Errorf("expiry %s is not in the future: %w", expires.Format(time.RFC3339), errkind.Invalid)
	}
	return expires, nil
}

const sshKeyColumns = "SELECT key_id, principal_id, title, kind, public, fingerprint, created, expires, used, used_from FROM ssh_key "

func scanSSHKey(r row) SSHKey {
	return SSHKey{
		ID: id.Key(r.Text(0)), Principal: id.Principal(r.Text(1)), Title: r.Text(2), Kind: r.Text(3), Public: r.Bytes(4),
		Fingerprint: r.Text(5), Created: r.Time(6), Expires: r.Time(7), Use: scanUse(r, 8),
	}
}

// SSHKeys lists a principal's keys, of which there are few, expired ones too.
func (c *Control) SSHKeys(ctx context.Context, p id.Principal) (out []SSHKey, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		for r, err := range q.Query(sshKeyColumns+"WHERE principal_id = ? ORDER BY key_id", p) {
			if err != nil {
				return err
			}
			out = append(out, scanSSHKey(r))
		}
		return nil
	})
	for n := range out {
		c.uses.add(string(out[n].ID), &out[n].Use)
	}
	return out, err
}

// RemoveSSHKey takes a principal's key away. Once it returns, the key is refused.
func (c *Control) RemoveSSHKey(ctx context.Context, p id.Principal, k id.Key) error {
	err := c.change(ctx, func(q *txn) error {
		who, err := principalByID(q, p)
		if err != nil {
			return err
		}
		var found SSHKey
		if err := find(q, "key "+clip(string(k)), sshKeyColumns+"WHERE key_id = ? AND principal_id = ?", func(r row) { found = scanSSHKey(r) }, k, p); err != nil {
			return err
		}
		if err := recordSSHKey(q, "key.remove", who, found); err != nil {
			return err
		}
		return q.Exec("DELETE FROM ssh_key WHERE key_id = ?", k)
	}, c.cache.principals.clear, principalKind)
	if err != nil {
		return fmt.Errorf("remove SSH key: %w", err)
	}
	return nil
}
