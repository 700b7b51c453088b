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
	Used        time.Time // zero: never
}

// maxSSHKeys is how many a principal may have: a person's machines, with room.
const maxSSHKeys = 100

// AddSSHKey registers a key. Of k it takes Principal, Title, Kind, Public, Fingerprint and Expires. A key is one principal's: a
// second time it is errkind.Exists, which does not say whose it is.
func (c *Control) AddSSHKey(ctx context.Context, k SSHKey) (SSHKey, error) {
	k.ID, k.Created, k.Used = id.NewKey(), c.timestamp(), time.Time{}
	err := c.checkSSHKey(&k)
	if err == nil {
		err = c.change(ctx, func(q *txn) error {
			who, err := principalByID(q, k.Principal)
			if err != nil {
				return err
			}
			taken, err := exists(q, "SELECT 1 FROM ssh_key WHERE fingerprint = ?", k.Fingerprint)
			if err != nil {
				return err
			}
			if taken {
				return fmt.Errorf("this key is in use on this server; make another with ssh-keygen: %w", errkind.Exists)
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

func (c *Control) checkSSHKey(k *SSHKey) error {
	if !printableText(k.Title) || len(k.Title) > maxNameBytes {
		return fmt.Errorf("title %q is not printable text of at most %d bytes: %w", clip(k.Title), maxNameBytes, errkind.Invalid)
	}
	if !k.Expires.IsZero() {
		k.Expires = k.Expires.UTC().Truncate(time.Microsecond)
		if !k.Expires.After(k.Created) {
			return fmt.Errorf("expiry %s is not in the future: %w", k.Expires.Format(time.RFC3339), errkind.Invalid)
		}
	}
	return nil
}

const sshKeyColumns = "SELECT key_id, principal_id, title, kind, public, fingerprint, created, expires, used FROM ssh_key "

func scanSSHKey(r row) SSHKey {
	return SSHKey{
		ID: id.Key(r.Text(0)), Principal: id.Principal(r.Text(1)), Title: r.Text(2), Kind: r.Text(3), Public: r.Bytes(4),
		Fingerprint: r.Text(5), Created: r.Time(6), Expires: r.Time(7), Used: r.Time(8),
	}
}

// SSHKeys lists a principal's keys, of which there are few, expired ones too.
func (c *Control) SSHKeys(ctx context.Context, p id.Principal) (out []SSHKey, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		for r, err := range q.Query(sshKeyColumns+"WHERE principal_id = ? ORDER BY key_id", p) {
			if err != nil {
				return err
			}
			out = append(out, scanSSHKey(r))
		}
		return nil
	})
	return out, err
}

// RemoveSSHKey takes a principal's key away.
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
	}, nil)
	if err != nil {
		return fmt.Errorf("remove SSH key: %w", err)
	}
	return nil
}
