-- What tenants write themselves: documents of policy, groups; and guests, whose rights come from documents alone.

CREATE TABLE policy (
  tenant_id    TEXT NOT NULL PRIMARY KEY REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  version      INTEGER NOT NULL, -- counts up from 1, also over a removal
  document     TEXT NOT NULL,    -- '' when it was removed
  principal_id TEXT NOT NULL,    -- who wrote it, who may be gone by now
  updated      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A group is there while it has members.
CREATE TABLE group_member (
  tenant_id    TEXT NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  name_key     TEXT NOT NULL, -- the name in lower case; written, since SQLite has no computed column in a key
  principal_id TEXT NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  name         TEXT NOT NULL,
  PRIMARY KEY (tenant_id, name_key, principal_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX group_member_by_principal ON group_member (principal_id);

ALTER TABLE principal ADD COLUMN class TEXT NOT NULL DEFAULT 'human' CHECK (class IN ('human', 'pipeline', 'operator', 'system'));

-- SQLite cannot change a CHECK: the table is written anew, with one more role. Nothing refers to it.
CREATE TABLE member_of (
  tenant_id    TEXT NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  principal_id TEXT NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  role         TEXT NOT NULL CHECK (role IN ('guest', 'reader', 'writer', 'owner')),
  PRIMARY KEY (tenant_id, principal_id)
) STRICT, WITHOUT ROWID;
INSERT INTO member_of (tenant_id, principal_id, role) SELECT tenant_id, principal_id, role FROM member;
DROP TABLE member;
ALTER TABLE member_of RENAME TO member;
CREATE INDEX member_by_principal ON member (principal_id);
