package control

import (
	"context"
	"fmt"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// KeyHolder finds the principal of an SSH key, in SSH's wire format, that somebody has shown to have: its owner, who may with it do all
// that they may, or the deploy key itself. errkind.Unauthorized when it is unknown, expired or removed.
func (c *Control) KeyHolder(ctx context.Context, k auth.SSHPublic) (policy.Principal, error) {
	h := auth.HashSecret(string(k.Wire))
	cred, ok := c.cache.principals.get(h)
	if !ok {
		before := c.cache.principals.version()
		err := c.db.Read(ctx, func(q conn) (err error) {
			cred, err = loadKeyHolder(q, k.Fingerprint)
			return err
		})
		if err != nil {
			return policy.Principal{}, err
		}
		c.cache.principals.put(h, cred, before)
	}
	if !cred.expires.IsZero() && !c.now().Before(cred.expires) {
		return policy.Principal{}, fmt.Errorf("SSH key has expired: %w", errkind.Unauthorized)
	}
	return cred.principal, nil
}

func loadKeyHolder(q conn, fingerprint string) (cred credential, err error) {
	p := &cred.principal
	ok, err := q.First(`SELECT principal_id, admin, key_id, principal.name, class, home_id, expires FROM ssh_key JOIN principal USING (principal_id)
		WHERE fingerprint = ? AND (home_id IS NULL OR home_id IN (SELECT tenant_id FROM tenant WHERE deleted = 0))`, func(r row) {
		p.ID, p.Admin, p.Token, p.Name = id.Principal(r.Text(0)), r.Bool(1), id.Token(r.Text(2)), r.Text(3)
		p.Class, p.Home, p.Scope, cred.expires = policy.Class(r.Text(4)), id.Tenant(r.Text(5)), policy.ScopeAdmin, r.Time(6)
	}, fingerprint)
	if err != nil {
		return credential{}, err
	}
	if ok {
		return cred, loadBelonging(q, p)
	}
	var k DeployKey
	ok, err = q.First(deployKeyColumns+"WHERE fingerprint = ? AND tenant_id IN (SELECT tenant_id FROM tenant WHERE deleted = 0)",
		func(r row) { k = scanDeployKey(r) }, fingerprint)
	if err != nil {
		return credential{}, err
	}
	if !ok {
		return credential{}, fmt.Errorf("SSH key is not known: %w", errkind.Unauthorized)
	}
	return credential{principal: k.principal(), expires: k.Expires}, nil
}

// principal is as whom a deploy key acts: somebody of its own, with a role in the repository's tenant that counts for this one repository
// and no other, be that public or shared with the tenant. Nobody else can be called so: a name of a person has no colon, and others have
// a slash before theirs.
func (k DeployKey) principal() policy.Principal {
	role, scope := policy.Reader, policy.ScopeRead
	if k.Writes {
		role, scope = policy.Writer, policy.ScopeWrite
	}
	return policy.Principal{
		ID: id.Principal(k.ID), Name: "deploy-key:" + string(k.ID), Class: policy.Pipeline, Token: id.Token(k.ID), Scope: scope,
		Repo: k.Repo, Within: k.Tenant, Roles: map[id.Tenant]policy.Role{k.Tenant: role},
	}
}
