-- Times are microseconds since 1970; 0 is never. Names keep their case and are unique without regard to it.
-- tenant_id leads each key of what belongs to a tenant, so that it can become a distribution column.

CREATE TABLE tenant (
  tenant_id TEXT NOT NULL PRIMARY KEY,
  parent_id TEXT REFERENCES tenant (tenant_id), -- NULL at the top
  path      TEXT NOT NULL COLLATE NOCASE UNIQUE,
  created   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tenant_by_parent ON tenant (parent_id);

CREATE TABLE principal (
  principal_id TEXT NOT NULL PRIMARY KEY,
  name         TEXT NOT NULL COLLATE NOCASE UNIQUE,
  admin        INTEGER NOT NULL CHECK (admin IN (0, 1)),
  created      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE member (
  tenant_id    TEXT NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  principal_id TEXT NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  role         TEXT NOT NULL CHECK (role IN ('reader', 'writer', 'owner')),
  PRIMARY KEY (tenant_id, principal_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX member_by_principal ON member (principal_id);

CREATE TABLE repo (
  tenant_id TEXT NOT NULL REFERENCES tenant (tenant_id),
  repo_id   TEXT NOT NULL,
  name      TEXT NOT NULL COLLATE NOCASE,
  public    INTEGER NOT NULL CHECK (public IN (0, 1)),
  created   INTEGER NOT NULL,
  updated   INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, repo_id),
  UNIQUE (tenant_id, name)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX repo_by_id ON repo (repo_id);
-- What strangers list, among however many private ones.
CREATE INDEX repo_public ON repo (repo_id) WHERE public = 1;
CREATE INDEX repo_public_of ON repo (tenant_id, repo_id) WHERE public = 1;

-- A token belongs to a principal, who belongs to no tenant. One that is good for a single repository goes with it.
CREATE TABLE token (
  token_id     TEXT NOT NULL PRIMARY KEY,
  hash         BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  principal_id TEXT NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  tenant_id    TEXT,
  repo_id      TEXT,
  name         TEXT NOT NULL,
  scope        TEXT NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
  created      INTEGER NOT NULL,
  expires      INTEGER NOT NULL,
  CHECK ((tenant_id IS NULL) = (repo_id IS NULL)),
  FOREIGN KEY (tenant_id, repo_id) REFERENCES repo (tenant_id, repo_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX token_by_principal ON token (principal_id, token_id);
CREATE INDEX token_by_repo ON token (tenant_id, repo_id) WHERE repo_id IS NOT NULL;
