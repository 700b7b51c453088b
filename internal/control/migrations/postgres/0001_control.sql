-- Times are microseconds since 1970; 0 is never. Booleans are 0 and 1. Names keep their case; their keys, in lower case, are
-- unique. COLLATE "C" is the order of bytes: lists are in the same order on every database, and lower() folds ASCII only.
-- tenant_id leads each key of what belongs to a tenant, so that it can become a distribution column.

CREATE TABLE tenant (
  tenant_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  parent_id TEXT COLLATE "C" REFERENCES tenant (tenant_id), -- NULL at the top
  path      TEXT COLLATE "C" NOT NULL,
  created   BIGINT NOT NULL,
  path_key  TEXT COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(path)) STORED
);

CREATE INDEX tenant_by_parent ON tenant (parent_id);
CREATE UNIQUE INDEX tenant_by_path ON tenant (path_key);

CREATE TABLE principal (
  principal_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  name         TEXT COLLATE "C" NOT NULL,
  admin        BIGINT NOT NULL CHECK (admin IN (0, 1)),
  created      BIGINT NOT NULL,
  name_key     TEXT COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(name)) STORED
);

CREATE UNIQUE INDEX principal_by_name ON principal (name_key);

CREATE TABLE member (
  tenant_id    TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  principal_id TEXT COLLATE "C" NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  role         TEXT COLLATE "C" NOT NULL CHECK (role IN ('reader', 'writer', 'owner')),
  PRIMARY KEY (tenant_id, principal_id)
);

CREATE INDEX member_by_principal ON member (principal_id);

CREATE TABLE repo (
  tenant_id TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
  repo_id   TEXT COLLATE "C" NOT NULL,
  name      TEXT COLLATE "C" NOT NULL,
  public    BIGINT NOT NULL CHECK (public IN (0, 1)),
  created   BIGINT NOT NULL,
  updated   BIGINT NOT NULL,
  name_key  TEXT COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(name)) STORED,
  PRIMARY KEY (tenant_id, repo_id)
);

CREATE UNIQUE INDEX repo_by_name ON repo (tenant_id, name_key);
-- Not unique: of a distributed table, only what has the distribution column in it can be. Identifiers are unique as made.
CREATE INDEX repo_by_id ON repo (repo_id);
-- What strangers list, among however many private ones.
CREATE INDEX repo_public ON repo (repo_id) WHERE public = 1;
CREATE INDEX repo_of_by_public ON repo (tenant_id, public, repo_id);

-- A token belongs to a principal, who belongs to no tenant. One that is good for a single repository goes with it.
CREATE TABLE token (
  token_id     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  hash         BYTEA NOT NULL UNIQUE CHECK (length(hash) = 32),
  principal_id TEXT COLLATE "C" NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  tenant_id    TEXT COLLATE "C",
  repo_id      TEXT COLLATE "C",
  name         TEXT COLLATE "C" NOT NULL,
  scope        TEXT COLLATE "C" NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
  created      BIGINT NOT NULL,
  expires      BIGINT NOT NULL,
  CHECK ((tenant_id IS NULL) = (repo_id IS NULL)),
  FOREIGN KEY (tenant_id, repo_id) REFERENCES repo (tenant_id, repo_id) ON DELETE CASCADE
);

CREATE INDEX token_by_principal ON token (principal_id, token_id);
CREATE INDEX token_by_repo ON token (tenant_id, repo_id) WHERE repo_id IS NOT NULL;
