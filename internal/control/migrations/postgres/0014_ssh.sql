-- What the SSH server needs to know: the keys of repositories, and from where people's were used.

-- A key that lets do what git does with one repository, and with no other. No key is both one of these and somebody's own.
CREATE TABLE deploy_key (
  tenant_id    TEXT COLLATE "C" NOT NULL,
  repo_id      TEXT COLLATE "C" NOT NULL,
  key_id       TEXT COLLATE "C" NOT NULL,
  fingerprint  TEXT COLLATE "C" NOT NULL, -- SHA256:…, as ssh-keygen -l prints it
  title        TEXT COLLATE "C" NOT NULL,
  kind         TEXT COLLATE "C" NOT NULL, -- ssh-ed25519, ssh-rsa, …
  public       BYTEA NOT NULL,            -- in SSH's wire format
  writes       BIGINT NOT NULL CHECK (writes IN (0, 1)), -- or it only reads
  principal_id TEXT COLLATE "C" NOT NULL, -- who added it, who may be gone by now
  created      BIGINT NOT NULL,
  expires      BIGINT NOT NULL,           -- 0: never
  used         BIGINT NOT NULL DEFAULT 0,
  used_from    TEXT COLLATE "C" NOT NULL DEFAULT '',
  PRIMARY KEY (tenant_id, repo_id, key_id),
  FOREIGN KEY (tenant_id, repo_id) REFERENCES repo (tenant_id, repo_id) ON DELETE CASCADE
);

CREATE UNIQUE INDEX deploy_key_of_tenant ON deploy_key (tenant_id, fingerprint);
CREATE INDEX deploy_key_by_fingerprint ON deploy_key (fingerprint);
CREATE INDEX deploy_key_by_id ON deploy_key (key_id);

ALTER TABLE ssh_key ADD COLUMN used_from TEXT COLLATE "C" NOT NULL DEFAULT '';
