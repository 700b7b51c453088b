package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// RepoFilter narrows Repos.
type RepoFilter struct {
	Tenant  id.Tenant // empty: of all tenants
	Deleted bool      // of deleted tenants too that can be restored, under the paths where these wait
	// For, if not nil, lets the database leave out what this principal surely may not read, so that a stranger's list
	// does not cost a look at each private repository. It decides nothing: Visible does.
	For *policy.Principal
	// Visible leaves out, if not nil, what the function refuses.
	Visible func(Repo) bool
}

// scanRepos is how many records Repos reads in one transaction while it looks for visible ones.
const scanRepos = 500

// Repos lists repositories by ID, after a cursor (an ID, "" at first).
func (c *Control) Repos(ctx context.Context, f RepoFilter, after id.Repo, most int) ([]Repo, error) {
	most = page(most)
	n := most
	if f.Visible != nil {
		n = scanRepos
	}
	query, args, err := c.repoQuery(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	var out []Repo
	for {
		batch, err := c.repoBatch(ctx, query, append([]any{after, n}, args...))
		if err != nil {
			return nil, fmt.Errorf("list repositories: %w", err)
		}
		for _, r := range batch {
			// Outside of the transaction: it may well ask this database.
			if f.Visible == nil || f.Visible(r) {
				out = append(out, r)
			}
			if len(out) == most {
				return out, nil
			}
		}
		if len(batch) < n {
			return out, nil
		}
		after = batch[len(batch)-1].ID
	}
}

func (c *Control) repoBatch(ctx context.Context, query string, args []any) (out []Repo, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		for r, err := range q.Query(query, args...) {
			if err != nil {
				return err
			}
			out = append(out, scanRepo(r))
		}
		return nil
	})
	return out, err
}

// The lists of repositories: ?1 is the cursor, ?2 the number, ?3 the tenant or tenants.
const (
	reposOfAll    = repoColumns + "WHERE repo_id > ?1 ORDER BY repo_id LIMIT ?2"
	reposEver     = repoColumnsEver + "WHERE repo_id > ?1 AND deleted_with <> '" + doomed + "' ORDER BY repo_id LIMIT ?2"
	reposOfTenant = repoColumns + "WHERE tenant_id = ?3 AND repo_id > ?1 ORDER BY repo_id LIMIT ?2"

	// alive leaves out what belongs to deleted tenants where a list is cut before these are: else a page would seem to be the last.
	alive = "tenant_id NOT IN (SELECT tenant_id FROM tenant WHERE deleted > 0)"

	// Cut to the number wanted before anything else of a repository is looked up.
	publicOf = repoColumns + `WHERE repo_id IN (
		SELECT repo_id FROM repo
		WHERE public = 1 AND tenant_id = ?3 AND repo_id > ?1 ORDER BY repo_id LIMIT ?2
	) ORDER BY repo_id`
	publicOrSharedOf = repoColumns + `WHERE repo_id IN (
		SELECT repo_id FROM (SELECT repo_id FROM repo WHERE public = 1 AND tenant_id = ?3 AND repo_id > ?1 ORDER BY repo_id LIMIT ?2) AS open
		UNION
		SELECT repo_id FROM (SELECT DISTINCT repo_id FROM share WHERE tenant_id = ?3 AND repo_id > ?1 ORDER BY repo_id LIMIT ?2) AS shared
	) ORDER BY repo_id LIMIT ?2`

	// Three lists in order, each cut to the number wanted, make one: the public ones; those in the tenants of ?3, in tenants whose
	// documents may give rights to anybody, and below; and those that are shared with one of all these or with one above. ?3 is
	// an object whose keys count: of its values' and of an array's elements the databases speak differently.
	publicOrMine = `WITH RECURSIVE mine (tenant_id) AS (
		SELECT tenant_id FROM tenant WHERE tenant_id IN (SELECT key FROM json_each(?3)) AND deleted = 0
		UNION SELECT tenant_id FROM policy WHERE document <> '' AND ` + alive + `
		UNION SELECT tenant.tenant_id FROM tenant JOIN mine ON tenant.parent_id = mine.tenant_id WHERE tenant.deleted = 0
	), family (tenant_id) AS (
		SELECT tenant_id FROM mine
		UNION SELECT tenant.parent_id FROM tenant JOIN family USING (tenant_id) WHERE parent_id IS NOT NULL
	)
	` + repoColumns + `WHERE repo_id IN (
		SELECT repo_id FROM (SELECT repo_id FROM repo WHERE public = 1 AND repo_id > ?1 AND ` + alive + ` ORDER BY repo_id LIMIT ?2) AS open
		UNION
		SELECT repo_id FROM (SELECT repo_id FROM repo WHERE tenant_id IN (SELECT tenant_id FROM mine) AND repo_id > ?1
			ORDER BY repo_id LIMIT ?2) AS ours
		UNION
		SELECT repo_id FROM (SELECT DISTINCT repo_id FROM share WHERE with_tenant IN (SELECT tenant_id FROM family) AND repo_id > ?1 AND ` + alive + `
			ORDER BY repo_id LIMIT ?2) AS shared
	) ORDER BY repo_id LIMIT ?2`
)

// repoQuery chooses a list and its arguments from the third on.
func (c *Control) repoQuery(ctx context.Context, f RepoFilter) (query string, args []any, err error) {
	everything := f.For == nil || f.For.Admin
	switch {
	case f.Deleted:
		return reposEver, nil, nil
	case f.Tenant == "" && everything:
		return reposOfAll, nil, nil
	case f.Tenant == "":
		text := []byte("{}")
		if len(f.For.Roles) > 0 {
			text, err = json.Marshal(f.For.Roles)
		}
		return publicOrMine, []any{string(text)}, err
	}
	if !everything {
		standing, err := c.Standing(ctx, f.Tenant)
		if err != nil {
			return "", nil, err
		}
		// Rules may show somebody more than membership does.
		everything = len(standing.Rules) > 0 || slices.ContainsFunc(standing.Lineage, func(t id.Tenant) bool { return f.For.Roles[t] != "" })
	}
	switch {
	case everything:
		return reposOfTenant, []any{f.Tenant}, nil
	case !f.For.Anonymous():
		return publicOrSharedOf, []any{f.Tenant}, nil
	}
	return publicOf, []any{f.Tenant}, nil
}
