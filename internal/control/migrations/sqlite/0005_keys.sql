-- Whom tenants let sign tokens, which client certificates are whose, and of tokens: what people tell them by, which one made
-- them, and when they were used.

CREATE TABLE issuer (
  tenant_id TEXT NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  issuer_id TEXT NOT NULL,
  name      TEXT NOT NULL,
  iss       TEXT NOT NULL, -- the claim; several issuers may have the same
  audience  TEXT NOT NULL,
  role      TEXT NOT NULL CHECK (role IN ('guest', 'reader', 'writer', 'owner')), -- the most that its tokens give
  listed    INTEGER NOT NULL CHECK (listed IN (0, 1)), -- 1: it speaks for its issuer_subject only
  url       TEXT NOT NULL, -- of its keys; '' when they were sent
  keys      TEXT NOT NULL, -- a JWK set
  fetched   INTEGER NOT NULL, -- when they came
  created   INTEGER NOT NULL,
  used      INTEGER NOT NULL DEFAULT 0,
  used_from TEXT NOT NULL DEFAULT '',
  name_key  TEXT GENERATED ALWAYS AS (lower(name)) VIRTUAL,
  PRIMARY KEY (tenant_id, issuer_id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX issuer_by_name ON issuer (tenant_id, name_key);
CREATE INDEX issuer_by_iss ON issuer (iss, issuer_id);
CREATE INDEX issuer_by_id ON issuer (issuer_id);

-- Which principal a sub means.
CREATE TABLE issuer_subject (
  tenant_id    TEXT NOT NULL,
  issuer_id    TEXT NOT NULL,
  subject      TEXT NOT NULL,
  principal_id TEXT NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  PRIMARY KEY (tenant_id, issuer_id, subject),
  FOREIGN KEY (tenant_id, issuer_id) REFERENCES issuer (tenant_id, issuer_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX issuer_subject_by_principal ON issuer_subject (principal_id);

-- Which principal a client certificate means, by one of its names. It belongs to no tenant.
CREATE TABLE certificate (
  certificate_id TEXT NOT NULL PRIMARY KEY,
  kind           TEXT NOT NULL CHECK (kind IN ('cn', 'dns', 'email', 'uri', 'fingerprint')),
  value          TEXT NOT NULL,
  principal_id   TEXT NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  scope          TEXT NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
  created        INTEGER NOT NULL,
  used           INTEGER NOT NULL DEFAULT 0,
  used_from      TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX certificate_by_value ON certificate (kind, value);
CREATE INDEX certificate_by_principal ON certificate (principal_id);

ALTER TABLE token ADD COLUMN prefix TEXT NOT NULL DEFAULT ''; -- how its secret begins; '' of those made before
-- What a token was made with, with which it goes. Both are NULL of the first one, and of those made before.
ALTER TABLE token ADD COLUMN parent_id TEXT REFERENCES token (token_id) ON DELETE CASCADE;
ALTER TABLE token ADD COLUMN certificate_id TEXT REFERENCES certificate (certificate_id) ON DELETE CASCADE;
ALTER TABLE token ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE token ADD COLUMN used_from TEXT NOT NULL DEFAULT ''; -- an address; '' when it is not known

CREATE INDEX token_by_parent ON token (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX token_by_certificate ON token (certificate_id) WHERE certificate_id IS NOT NULL;
