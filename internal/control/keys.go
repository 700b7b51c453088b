package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/secret"
)

// All secrets are wrapped with one master key, except while it is being replaced. A node finds what it needs when it starts:
//
//	no secrets                   any key will do
//	its current key alone        nothing to do
//	keys that it has             the current one replaces the others: data keys are wrapped anew, some at a time
//	a key that it lacks          it does not start, and nothing is changed; unless it is told that the key is lost
//
// A crash while keys are replaced leaves both in use, and the next start goes on. A node that runs with the old key meanwhile
// is refused when it sets a secret.

// rewrapBatch is how many data keys are wrapped anew in one transaction: a master key elsewhere takes some milliseconds each.
const rewrapBatch = 100

// errKeysInUse is what openKeys adds for whoever starts a node.
var errKeysInUse = errors.New("start it with that key as well; if the key is lost, so are the secrets: delete them with --discard-lost-secrets")

// openKeys gets the master keys, and sees to it that they open all secrets.
func (c *Control) openKeys(ctx context.Context, get func(inUse bool) (*secret.Ring, error), discardLost bool) error {
	var used []string
	err := c.db.Read(ctx, func(q conn) error {
		used = nil
		for next, more := "", true; more; {
			var err error
			if more, err = q.First("SELECT key_id FROM secret WHERE key_id > ? ORDER BY key_id LIMIT 1", func(r row) { next = r.Text(0) }, next); err != nil {
				return err
			}
			if more {
				used = append(used, next)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	ring, err := get(len(used) > 0)
	if err != nil {
		return err
	}
	c.keys = ring
	for _, k := range used {
		switch {
		case ring.Has(k):
		case !discardLost:
			return fmt.Errorf("open the secrets: %w: %w", secret.NoKey(k), errKeysInUse)
		default:
			if err := c.discardSecrets(ctx, k); err != nil {
				return fmt.Errorf("discard the secrets of a lost key: %w", err)
			}
		}
	}
	return nil
}

// discardSecrets deletes what a master key that is lost has wrapped.
func (c *Control) discardSecrets(ctx context.Context, keyID string) error {
	return c.change(ctx, func(q *txn) error {
		if err := q.Exec("DELETE FROM secret WHERE key_id = ?", keyID); err != nil {
			return err
		}
		detail := fmt.Sprintf("%d versions, whose master key %s is lost", q.Changes(), keyID)
		return q.record(audit.Entry{Action: "secret.discard", Resource: "server", Detail: detail})
	}, nil)
}

// otherKey finds a master key other than this one that is in use. It looks on both sides of it in the index.
func otherKey(q conn, than string) (other string, ok bool, err error) {
	ok, err = q.First("SELECT key_id FROM secret WHERE key_id < ?1 UNION ALL SELECT key_id FROM secret WHERE key_id > ?1 LIMIT 1",
		func(r row) { other = r.Text(0) }, than)
	return other, ok, err
}

// ReplaceKeys wraps what older master keys have wrapped with the current one, and counts it. Afterwards the older ones are not needed.
func (c *Control) ReplaceKeys(ctx context.Context) (replaced int, err error) {
	for {
		n, err := c.replaceSome(ctx)
		replaced += n
		if err != nil || n == 0 {
			return replaced, err
		}
	}
}

func (c *Control) replaceSome(ctx context.Context) (int, error) {
	var rows []sealedRow
	err := c.db.Read(ctx, func(q conn) (err error) {
		other, ok, err := otherKey(q, c.keys.Current())
		if err != nil || !ok {
			rows = nil
			return err
		}
		rows, err = sealedRows(q, sealedColumns+"WHERE key_id = ? LIMIT ?", other, rewrapBatch)
		return err
	})
	if err != nil {
		return 0, err
	}
	anew := make([]secret.Sealed, len(rows))
	for i, r := range rows {
		if anew[i], err = c.keys.Rewrap(ctx, r.sealed, r.at.associated()); err != nil {
			return 0, fmt.Errorf("replace the master key: %s: %w", &r.at, err)
		}
	}
	if len(rows) == 0 {
		return 0, nil
	}
	err = c.change(ctx, func(q *txn) error {
		detail := fmt.Sprintf("%d data keys, from master key %s to %s", len(rows), rows[0].sealed.KeyID, c.keys.Current())
		if err := q.record(audit.Entry{Action: "secret.rewrap", Resource: "server", Detail: detail}); err != nil {
			return err
		}
		for i, r := range rows {
			if err := q.Exec("UPDATE secret SET key_id = ?, wrapped = ? WHERE tenant_id = ? AND owner = ? AND name = ? AND version = ? AND key_id = ?",
				anew[i].KeyID, anew[i].Wrapped, r.at.Tenant, r.at.Repo, r.at.name, r.at.version, r.sealed.KeyID); err != nil {
				return err
			}
		}
		return nil
	}, nil)
	return len(rows), err
}

// CheckSecrets opens every version of every secret, and tells fault which do not open. It says how many there are.
func (c *Control) CheckSecrets(ctx context.Context, fault func(what string, err error)) (checked int, err error) {
	for last := (secretRow{}); ; {
		var rows []sealedRow
		err := c.db.Read(ctx, func(q conn) (err error) {
			rows, err = sealedRows(q, sealedColumns+`WHERE (tenant_id, owner, name, version) > (?, ?, ?, ?)
				ORDER BY tenant_id, owner, name, version LIMIT ?`, last.Tenant, last.Repo, last.name, last.version, rewrapBatch)
			return err
		})
		if err != nil || len(rows) == 0 {
			return checked, err
		}
		for _, r := range rows {
			checked++
			if _, err := c.keys.Open(ctx, r.sealed, r.at.associated()); err != nil {
				fault(r.at.String(), err)
			}
		}
		last = rows[len(rows)-1].at
	}
}

type sealedRow struct {
	at     secretRow
	sealed secret.Sealed
}

const sealedColumns = "SELECT tenant_id, owner, name, version, key_id, wrapped, box FROM secret "

func sealedRows(q conn, query string, args ...any) (out []sealedRow, err error) {
	for r, err := range q.Query(query, args...) {
		if err != nil {
			return nil, err
		}
		out = append(out, sealedRow{
			secretRow{SecretOwner{id.Tenant(r.Text(0)), id.Repo(r.Text(1))}, r.Text(2), r.Int64(3)},
			secret.Sealed{KeyID: r.Text(4), Wrapped: r.Bytes(5), Box: r.Bytes(6)},
		})
	}
	return out, nil
}
