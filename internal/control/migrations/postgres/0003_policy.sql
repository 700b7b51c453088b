-- What tenants write themselves: documents of policy, groups; and guests, whose rights come from documents alone.

CREATE TABLE policy (
  tenant_id    TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  version      BIGINT NOT NULL,           -- counts up from 1, also over a removal
  document     TEXT COLLATE "C" NOT NULL, -- '' when it was removed
  principal_id TEXT COLLATE "C" NOT NULL, -- who wrote it, who may be gone by now
  updated      BIGINT NOT NULL
);

-- A group is there while it has members.
CREATE TABLE group_member (
  tenant_id    TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  name_key     TEXT COLLATE "C" NOT NULL, -- the name in lower case; written, since SQLite has no computed column in a key
  principal_id TEXT COLLATE "C" NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  name         TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant_id, name_key, principal_id)
);

CREATE INDEX group_member_by_principal ON group_member (principal_id);

ALTER TABLE principal ADD COLUMN class TEXT COLLATE "C" NOT NULL DEFAULT 'human' CHECK (class IN ('human', 'pipeline', 'operator', 'system'));

ALTER TABLE member DROP CONSTRAINT member_role_check;
ALTER TABLE member ADD CONSTRAINT member_role_check CHECK (role IN ('guest', 'reader', 'writer', 'owner'));
