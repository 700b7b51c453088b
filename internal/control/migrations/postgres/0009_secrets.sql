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
