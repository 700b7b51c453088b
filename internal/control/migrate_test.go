package control_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/postgres"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
	"github.com/skep-dev/skep/internal/sqlite"
)

// atVersion is what a database of each version can have had in it before the next one. A new version gets a line here with
// what its own columns and tables may hold.
var atVersion = []string{
	1: `
	INSERT INTO tenant (tenant_id, parent_id, path, created) VALUES ('ten_1', NULL, 'Acme', 1), ('ten_2', 'ten_1', 'Acme/Web', 2), ('ten_3', NULL, 'b_c', 3);
	INSERT INTO principal (principal_id, name, admin, created) VALUES ('usr_1', 'Admin', 1, 1), ('usr_2', 'bob@example.org', 0, 2);
	INSERT INTO member (tenant_id, principal_id, role) VALUES ('ten_1', 'usr_2', 'owner');
	INSERT INTO repo (tenant_id, repo_id, name, public, created, updated) VALUES ('ten_1', 'rep_1', 'Site', 1, 4, 5), ('ten_2', 'rep_2', 'x', 0, 6, 7);
	INSERT INTO token (token_id, hash, principal_id, tenant_id, repo_id, name, scope, created, expires)
		VALUES ('tok_1', HASH, 'usr_2', 'ten_1', 'rep_1', 'a token', 'write', 8, 0);`,
	2: `UPDATE epoch SET changes = changes + 3 WHERE kind = 'repo';`,
	3: `
	INSERT INTO policy (tenant_id, version, document, principal_id, updated) VALUES ('ten_1', 4, '[policy]', 'usr_2', 9);
	INSERT INTO group_member (tenant_id, name_key, principal_id, name) VALUES ('ten_1', 'release', 'usr_2', 'Release');
	UPDATE principal SET class = 'pipeline' WHERE principal_id = 'usr_2';`,
	4: `
	INSERT INTO audit (seq, at, principal_id, name, class, token_id, action, in_tenant, resource, outcome, intent, request_id, address, detail, prev, hash)
		VALUES (1, 10, 'usr_1', 'Admin', 'human', '', 'tenant.create', '', 'tenant/Acme', 'done', '', '', '', '', ZERO, HASH);
	UPDATE audit_head SET seq = 1, hash = HASH;`,
	5: `
	INSERT INTO issuer (tenant_id, issuer_id, name, iss, audience, role, listed, url, keys, fetched, created)
		VALUES ('ten_1', 'iss_1', 'Platform', 'https://p.example.org', 'https://g.example.org', 'writer', 0, '', '{}', 11, 11);
	INSERT INTO issuer_subject (tenant_id, issuer_id, subject, principal_id) VALUES ('ten_1', 'iss_1', 'agent', 'usr_2');
	INSERT INTO certificate (certificate_id, kind, value, principal_id, scope, created) VALUES ('crt_1', 'cn', 'bob', 'usr_2', 'write', 12);
	INSERT INTO token (token_id, hash, principal_id, name, scope, created, expires, prefix, parent_id, used, used_from)
		VALUES ('tok_2', ZERO, 'usr_2', 'a child', 'read', 13, 0, 'skep_AAAA', 'tok_1', 14, '192.0.2.1');`,
	6: `
	INSERT INTO identity (issuer, subject, principal_id, created, used) VALUES ('https://id.example.org', 'b1', 'usr_2', 11, 0);
	INSERT INTO session (session_id, hash, old_hash, principal_id, address, agent, created, rotated, used, expires)
		VALUES ('ses_1', HASH, NULL, 'usr_2', '192.0.2.1', 'Browser', 12, 12, 12, 13);
	INSERT INTO device (hash, code, name, address, scope, created, expires, state, principal_id)
		VALUES (HASH, 'BCDF-GHJK', 'laptop', '192.0.2.1', 'write', 14, 15, 'allowed', 'usr_2');
	INSERT INTO ssh_key (key_id, fingerprint, principal_id, title, kind, public, created, expires, used)
		VALUES ('key_1', 'SHA256:x', 'usr_2', 'laptop', 'ssh-ed25519', HASH, 16, 0, 0);`,
	7: `
	UPDATE tenant SET suspended = 10 WHERE tenant_id = 'ten_3';
	INSERT INTO tenant (tenant_id, parent_id, path, created, deleted, deleted_with, deleted_path) VALUES ('ten_4', 'ten_1', '-/ten_4', 11, 12, 'ten_4', 'Acme/Old');
	UPDATE repo SET shared = 1 WHERE repo_id = 'rep_1';
	INSERT INTO share (tenant_id, repo_id, with_tenant, children, principal_id, created) VALUES ('ten_1', 'rep_1', 'ten_2', 1, 'usr_2', 13);
	INSERT INTO principal (principal_id, name, admin, created, class, home_id) VALUES ('usr_3', 'Acme/ci', 0, 14, 'pipeline', 'ten_1');
	INSERT INTO invitation (tenant_id, invitation_id, hash, role, name, new_account, principal_id, created, expires)
		VALUES ('ten_1', 'inv_1', HASH, 'writer', 'bob', 1, 'usr_1', 15, 16);`,
	8: `
	INSERT INTO usage (tenant_id, hour, repo_id, kind, amount) VALUES ('ten_1', 3600000000, 'rep_1', 'fetch', 5), ('ten_gone', 3600000000, '', 'api.read', 1);
	INSERT INTO usage_total (tenant_id, period, since, kind, amount) VALUES ('ten_1', 'hour', 3600000000, 'fetch', 5);
	INSERT INTO usage_meter (meter_id, batch, updated) VALUES ('m', 3, 10);
	INSERT INTO storage (tenant_id, repo_id, bytes, updated) VALUES ('ten_1', 'rep_1', 4096, 11);
	INSERT INTO quota (tenant_id, kind, most) VALUES ('ten_1', 'storage', 1000000);`,
	9: `
	INSERT INTO secret (tenant_id, owner, name, version, repo_id, principal_id, created, key_id, wrapped, box)
		VALUES ('ten_1', '', 'A', 1, NULL, 'usr_2', 9, 'k', HASH, HASH), ('ten_1', 'rep_1', 'A', 3, 'rep_1', 'usr_2', 9, 'k', HASH, HASH);
	INSERT INTO reply (principal_id, hash, begun, sent, status, why, key_id, wrapped, box) VALUES ('usr_2', HASH, 9, HASH, 201, '', 'k', HASH, HASH);
	INSERT INTO policy_source (tenant_id, of_tenant_id, repo_id, ref, path, delegated, commit_id, pending, principal_id)
		VALUES ('ten_2', 'ten_1', 'rep_1', 'refs/heads/main', 'policy.toml', 1, '', 1, 'usr_2');`,
	10: `INSERT INTO issuer_subject (tenant_id, issuer_id, subject, principal_id) VALUES ('ten_1', 'iss_1', 'who has left', 'usr_gone');`,
	11: `INSERT INTO former_name (name_key) VALUES ('olga');`,
	12: `
	INSERT INTO ssh_authority (tenant_id, authority_id, name, kind, public, fingerprint, scope, max_seconds, created)
		VALUES ('ten_1', 'sca_1', 'Vault', 'ssh-ed25519', HASH, 'SHA256:y', 'write', 3600, 17);
	UPDATE reply SET share = 'ten_1';`,
	13: `
	INSERT INTO document (tenant_id, document_id, name, repo_id, by_id, milestones, active, created, updated)
		VALUES ('ten_1', 'doc_1', 'Shop', 'rep_1', 'usr_2', '{"branch":"main","format":"yaml","after":100}', 1, 18, 19);`,
	14: `
	INSERT INTO deploy_key (tenant_id, repo_id, key_id, fingerprint, title, kind, public, writes, principal_id, created, expires)
		VALUES ('ten_1', 'rep_1', 'dpl_1', 'SHA256:z', 'ci', 'ssh-ed25519', HASH, 1, 'usr_gone', 18, 0);
	UPDATE ssh_key SET used_from = '192.0.2.1';`,
}

// scriptOf is what was written up to a version.
func scriptOf(database string, version int) string {
	begin := map[string]string{"sqlite": "x'", "postgres": `'\x`}[database]
	hash, zero := begin+strings.Repeat("ab", 32)+"'", begin+strings.Repeat("00", 32)+"'"
	return strings.NewReplacer("HASH", hash, "ZERO", zero).Replace(strings.Join(atVersion[1:version+1], ""))
}

// upTo is the schema as a program of that version had it, without the steps that came later.
func upTo(t *testing.T, of string, version int) (fsys fstest.MapFS, newest int) {
	t.Helper()
	all := control.Steps(of)
	names, err := fs.Glob(all, "*.sql")
	must0(t, err)
	fsys = fstest.MapFS{}
	for _, n := range names[:min(version, len(names))] {
		text, err := fs.ReadFile(all, n)
		must0(t, err)
		fsys[n] = &fstest.MapFile{Data: text}
	}
	return fsys, len(names)
}

// build makes a database with some steps, and runs a script on it.
func build(t *testing.T, db backend, where string, fsys fs.FS, script string) {
	t.Helper()
	if db.name == "postgres" {
		old, err := postgres.Open(t.Context(), where, fsys, postgres.Options{})
		must0(t, err)
		must0(t, old.Close())
		must0(t, postgrestest.Exec(t.Context(), where, script))
		return
	}
	old, err := sqlite.Open(t.Context(), where, fsys, sqlite.Options{})
	must0(t, err)
	must0(t, old.Write(t.Context(), func(c *sqlite.Conn) error {
		for one := range strings.SplitSeq(script, ";") {
			if strings.TrimSpace(one) != "" {
				must0(t, c.Exec(one))
			}
		}
		return nil
	}))
	must0(t, old.Close())
}

// TestEachOlderVersionMigrates: whatever an older program has left is there afterwards, and can be worked with.
func TestEachOlderVersionMigrates(t *testing.T) {
	onEach(t, func(t *testing.T, db backend) {
		_, newest := upTo(t, db.name, 0)
		if len(atVersion) != newest+1 {
			t.Fatalf("there are %d versions, and atVersion has data for %d: give the new one a line", newest, len(atVersion)-1)
		}
		for version := 1; version <= newest; version++ {
			t.Run(fmt.Sprint("from ", version), func(t *testing.T) {
				where := db.fresh(t)
				fsys, _ := upTo(t, db.name, version)
				script := scriptOf(db.name, version)
				build(t, db, where, fsys, script)
				c := openAt(t, where)
				run(t, c)
				checkMigrated(t, c)
			})
		}
	})
}

func checkMigrated(t *testing.T, c *control.Control) {
	t.Helper()
	ctx := t.Context()
	paths := []string{}
	tenants, err := c.Tenants(ctx, control.TenantFilter{}, "", 10)
	must0(t, err)
	for _, tn := range tenants {
		paths = append(paths, tn.Path)
	}
	if diff := cmp.Diff([]string{"Acme", "Acme/Web", "b_c"}, paths); diff != "" {
		t.Errorf("tenants (-want +got):\n%s", diff)
	}
	r, err := c.RepoByName(ctx, "ACME", "sITE")
	if must0(t, err); r.ID != "rep_1" || !r.Public || r.Updated.UnixMicro() != 5 {
		t.Errorf("repository = %+v", r)
	}
	p, err := c.Principal(ctx, [32]byte(slices.Repeat([]byte{0xab}, 32)))
	if must0(t, err); p.ID != "usr_2" || p.Roles["ten_1"] != policy.Owner || p.Repo != "rep_1" || p.Scope != policy.ScopeWrite {
		t.Errorf("principal = %+v", p)
	}
	_, err = c.CreateTenant(ctx, "ACME")
	wantKind(t, "a name that was there before", err, errkind.Exists)
	repo(t, c, "ten_2", "new")
	must0(t, second(c.SetPublic(ctx, r.ID, false)))
	if r, err = c.RepoByName(ctx, "acme", "site"); err != nil || r.Public {
		t.Errorf("made private: %+v, %v", r, err)
	}
	must0(t, c.DeletePrincipal(ctx, "usr_2"))
}

// TestProgramBeforeGoesOn: steps are applied while nodes of the version before serve, and those write as they did.
func TestProgramBeforeGoesOn(t *testing.T) {
	where := postgrestest.New(t)
	_, newest := upTo(t, "postgres", 0)
	fsys, _ := upTo(t, "postgres", newest)
	build(t, onPostgres, where, fsys, scriptOf("postgres", newest-1))
	checkMigrated(t, openAt(t, where))
}

func TestNewerDatabaseIsRefused(t *testing.T) { onEach(t, testNewerDatabaseIsRefused) }

func testNewerDatabaseIsRefused(t *testing.T, db backend) {
	where := db.fresh(t)
	fsys, newest := upTo(t, db.name, 1000)
	fsys[fmt.Sprintf("%04d_future.sql", newest+1)] = &fstest.MapFile{Data: []byte("CREATE TABLE future (a TEXT);")}
	build(t, db, where, fsys, "")
	_, _, err := control.Open(t.Context(), where, control.Options{})
	wantKind(t, "a newer database", err, errkind.Unsupported)
	if want := fmt.Sprintf("its schema %d is newer than this program, which knows %d", newest+1, newest); err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
}

// TestSchemasAgree: the databases have the same steps, and in the end the same tables and columns.
func TestSchemasAgree(t *testing.T) {
	var names [2][]string
	for i, of := range []string{"sqlite", "postgres"} {
		found, err := fs.Glob(control.Steps(of), "*.sql")
		names[i] = must(t, found, err)
	}
	if diff := cmp.Diff(names[0], names[1]); diff != "" {
		t.Errorf("steps (-sqlite +postgres):\n%s", diff)
	}
	columns := func(db backend, query string) (out []string) {
		c := openAt(t, db.fresh(t))
		must0(t, c.DB().Read(t.Context(), func(q control.Conn) error {
			for r, err := range q.Query(query) {
				must0(t, err)
				out = append(out, r.Text(0))
			}
			return nil
		}))
		slices.Sort(out)
		return out
	}
	lite := columns(onSQLite, `SELECT m.name || '.' || c.name || ' ' || c.type FROM sqlite_schema AS m JOIN pragma_table_xinfo(m.name) AS c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%'`)
	post := columns(onPostgres, `SELECT table_name || '.' || column_name || ' ' ||
		CASE data_type WHEN 'text' THEN 'TEXT' WHEN 'bigint' THEN 'INTEGER' WHEN 'bytea' THEN 'BLOB' ELSE data_type END
		FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'skep_schema'`)
	if diff := cmp.Diff(lite, post); diff != "" {
		t.Errorf("columns (-sqlite +postgres):\n%s", diff)
	}
	// Without it a list would be in another order, and a cursor would skip.
	for _, column := range columns(onPostgres, `SELECT table_name || '.' || column_name FROM information_schema.columns
		WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'`) {
		t.Errorf("postgres: column %s lacks COLLATE \"C\"", column)
	}
	// What belongs to a tenant can be distributed by it only if each unique key begins with the tenant.
	for _, index := range columns(onPostgres, `SELECT t.relname || ': ' || i.relname FROM pg_index AS x
		JOIN pg_class AS i ON i.oid = x.indexrelid JOIN pg_class AS t ON t.oid = x.indrelid
		JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attname = 'tenant_id' AND a.attnotnull
		WHERE x.indisunique AND x.indkey[0] <> a.attnum AND t.relname <> 'tenant'`) {
		t.Errorf("postgres: unique index %s does not begin with tenant_id", index)
	}
}
