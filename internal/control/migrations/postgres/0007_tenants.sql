-- Tenants are suspended, moved, deleted and restored; they share repositories with those below them, have
-- accounts of their own, and invite people.

ALTER TABLE tenant ADD COLUMN suspended BIGINT NOT NULL DEFAULT 0;                  -- since when; 0: it is not
-- A deleted tenant and all that was below it wait for their end under another path, so that their own is free.
ALTER TABLE tenant ADD COLUMN deleted BIGINT NOT NULL DEFAULT 0;                    -- when; 0: it is not
ALTER TABLE tenant ADD COLUMN deleted_with TEXT COLLATE "C" NOT NULL DEFAULT '';    -- the tenant whose deletion it was, perhaps itself
ALTER TABLE tenant ADD COLUMN deleted_path TEXT COLLATE "C" NOT NULL DEFAULT '';    -- what its path was

CREATE INDEX tenant_deleted ON tenant (deleted, tenant_id) WHERE deleted > 0;

-- Whether a repository has ever been shared, so that the others cost no look-up.
ALTER TABLE repo ADD COLUMN shared BIGINT NOT NULL DEFAULT 0 CHECK (shared IN (0, 1));

CREATE TABLE share (
  tenant_id    TEXT COLLATE "C" NOT NULL, -- of the repository
  repo_id      TEXT COLLATE "C" NOT NULL,
  with_tenant  TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE, -- below that one
  children     BIGINT NOT NULL CHECK (children IN (0, 1)),                      -- and with those below it
  principal_id TEXT COLLATE "C" NOT NULL, -- who shared it, who may be gone by now
  created      BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, repo_id, with_tenant),
  FOREIGN KEY (tenant_id, repo_id) REFERENCES repo (tenant_id, repo_id) ON DELETE CASCADE
);

CREATE INDEX share_by_receiver ON share (with_tenant);

-- An account is a principal that belongs to a tenant. Its name is the tenant's path and its own, with a slash, which people's names
-- do not have. It is never an administrator of the server.
ALTER TABLE principal ADD COLUMN home_id TEXT COLLATE "C" REFERENCES tenant (tenant_id) ON DELETE CASCADE CHECK (home_id IS NULL OR admin = 0);

CREATE INDEX principal_by_home ON principal (home_id, principal_id) WHERE home_id IS NOT NULL;

CREATE TABLE invitation (
  tenant_id     TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  invitation_id TEXT COLLATE "C" NOT NULL,
  hash          BYTEA NOT NULL CHECK (length(hash) = 32), -- of a secret with 256 random bits
  role          TEXT COLLATE "C" NOT NULL CHECK (role IN ('guest', 'reader', 'writer', 'owner')),
  name          TEXT COLLATE "C" NOT NULL, -- who may accept it; '' is anybody
  new_account   BIGINT NOT NULL CHECK (new_account IN (0, 1)), -- also somebody whom the server does not know yet
  principal_id  TEXT COLLATE "C" NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE, -- who invites
  created       BIGINT NOT NULL,
  expires       BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, invitation_id)
);

CREATE INDEX invitation_by_hash ON invitation (hash);
CREATE INDEX invitation_by_principal ON invitation (principal_id);
