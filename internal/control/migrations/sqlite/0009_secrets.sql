-- Secrets of tenants and repositories. A row is a version; the one with the greatest number counts.

CREATE TABLE secret (
  tenant_id    TEXT NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  owner        TEXT NOT NULL, -- repo_id, or '' for the tenant's own: what is NULL can be in no key
  name         TEXT NOT NULL,
  version      INTEGER NOT NULL, -- counts up from 1
  repo_id      TEXT,
  principal_id TEXT NOT NULL, -- who set it, who may be gone by now
  created      INTEGER NOT NULL,
  key_id       TEXT NOT NULL, -- the master key that wraps the data key: all nodes must have it
  wrapped      BLOB NOT NULL, -- the data key
  box          BLOB NOT NULL, -- the value, encrypted with it
  PRIMARY KEY (tenant_id, owner, name, version),
  CHECK (owner = coalesce(repo_id, '')),
  FOREIGN KEY (tenant_id, repo_id) REFERENCES repo (tenant_id, repo_id) ON DELETE CASCADE
) STRICT;

CREATE INDEX secret_by_repo ON secret (tenant_id, repo_id) WHERE repo_id IS NOT NULL;
CREATE INDEX secret_by_key ON secret (key_id);
