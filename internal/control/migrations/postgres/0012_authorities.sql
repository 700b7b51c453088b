-- SSH certificate authorities, and a fairer division of what is remembered of requests.

-- Whose SSH certificates a tenant takes, for its own accounts.
CREATE TABLE ssh_authority (
  tenant_id    TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  authority_id TEXT COLLATE "C" NOT NULL,
  name         TEXT COLLATE "C" NOT NULL,
  kind         TEXT COLLATE "C" NOT NULL, -- of its key: ssh-ed25519, ssh-rsa, …
  public       BYTEA NOT NULL,            -- in SSH's wire format
  fingerprint  TEXT COLLATE "C" NOT NULL, -- SHA256:…; several tenants may trust the same key
  scope        TEXT COLLATE "C" NOT NULL CHECK (scope IN ('read', 'write', 'admin')), -- what its certificates let do
  max_seconds  BIGINT NOT NULL CHECK (max_seconds >= 0), -- how long one may be good; 0: as long as it says
  created      BIGINT NOT NULL,
  used         BIGINT NOT NULL DEFAULT 0,
  used_from    TEXT COLLATE "C" NOT NULL DEFAULT '',
  name_key     TEXT COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(name)) STORED,
  PRIMARY KEY (tenant_id, authority_id)
);

CREATE UNIQUE INDEX ssh_authority_by_name ON ssh_authority (tenant_id, name_key);
CREATE UNIQUE INDEX ssh_authority_by_fingerprint ON ssh_authority (tenant_id, fingerprint);
CREATE INDEX ssh_authority_by_id ON ssh_authority (authority_id);

-- Among whom the places of remembered answers are divided: a tenant or a principal. '' of those from before.
ALTER TABLE reply ADD COLUMN share TEXT COLLATE "C" NOT NULL DEFAULT '';

CREATE INDEX reply_of_share ON reply (share, begun) WHERE sent IS NOT NULL;
