-- Secrets of tenants and repositories. A row is a version; the one with the greatest number counts.

CREATE TABLE secret (
  tenant_id    TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  owner        TEXT COLLATE "C" NOT NULL, -- repo_id, or '' for the tenant's own: what is NULL can be in no key
  name         TEXT COLLATE "C" NOT NULL,
  version      BIGINT NOT NULL, -- counts up from 1
  repo_id      TEXT COLLATE "C",
  principal_id TEXT COLLATE "C" NOT NULL, -- who set it, who may be gone by now
  created      BIGINT NOT NULL,
  key_id       TEXT COLLATE "C" NOT NULL, -- the master key that wraps the data key: all nodes must have it
  wrapped      BYTEA NOT NULL, -- the data key
  box          BYTEA NOT NULL, -- the value, encrypted with it
  PRIMARY KEY (tenant_id, owner, name, version),
  CHECK (owner = coalesce(repo_id, '')),
  FOREIGN KEY (tenant_id, repo_id) REFERENCES repo (tenant_id, repo_id) ON DELETE CASCADE
);

CREATE INDEX secret_by_repo ON secret (tenant_id, repo_id) WHERE repo_id IS NOT NULL;
CREATE INDEX secret_by_key ON secret (key_id);

-- What was answered to requests under an idempotency key, for a day. The answer is encrypted as a secret is.
CREATE TABLE reply (
  principal_id TEXT COLLATE "C" NOT NULL, -- who may be gone by now
  hash         BYTEA NOT NULL CHECK (length(hash) = 32), -- of all that makes a request the same, but its body
  begun        BIGINT NOT NULL,
  sent         BYTEA, -- the hash of the request's body; NULL: it is being done, or was interrupted
  status       BIGINT NOT NULL, -- 0: the answer is not kept
  why          TEXT COLLATE "C" NOT NULL, -- not
  key_id       TEXT COLLATE "C" NOT NULL,
  wrapped      BYTEA,
  box          BYTEA,
  PRIMARY KEY (principal_id, hash)
);

CREATE INDEX reply_by_age ON reply (begun);
CREATE INDEX reply_of_principal ON reply (principal_id, begun);

-- A policy document that lives in a repository. What is there counts.
CREATE TABLE policy_source (
  tenant_id    TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  of_tenant_id TEXT COLLATE "C" NOT NULL, -- the repository's
  repo_id      TEXT COLLATE "C" NOT NULL,
  ref          TEXT COLLATE "C" NOT NULL,
  path         TEXT COLLATE "C" NOT NULL,
  delegated    BIGINT NOT NULL CHECK (delegated IN (0, 1)), -- whoever may push there may change it
  commit_id    TEXT COLLATE "C" NOT NULL, -- the last one that changed it
  pending      BIGINT NOT NULL CHECK (pending >= 0), -- pushes that may have changed it, and whose end nobody has seen
  principal_id TEXT COLLATE "C" NOT NULL, -- who made it so, who may be gone by now
  FOREIGN KEY (of_tenant_id, repo_id) REFERENCES repo (tenant_id, repo_id) ON DELETE CASCADE
);

CREATE INDEX policy_source_by_repo ON policy_source (of_tenant_id, repo_id);
