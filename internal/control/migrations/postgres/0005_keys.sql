-- Whom tenants let sign tokens, which client certificates are whose, and of tokens: what people tell them by, which one made
-- them, and when they were used.

CREATE TABLE issuer (
  tenant_id TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  issuer_id TEXT COLLATE "C" NOT NULL,
  name      TEXT COLLATE "C" NOT NULL,
  iss       TEXT COLLATE "C" NOT NULL, -- the claim; several issuers may have the same
  audience  TEXT COLLATE "C" NOT NULL,
  role      TEXT COLLATE "C" NOT NULL CHECK (role IN ('guest', 'reader', 'writer', 'owner')), -- the most that its tokens give
  listed    BIGINT NOT NULL CHECK (listed IN (0, 1)), -- 1: it speaks for its issuer_subject only
  url       TEXT COLLATE "C" NOT NULL, -- of its keys; '' when they were sent
  keys      TEXT COLLATE "C" NOT NULL, -- a JWK set
  fetched   BIGINT NOT NULL, -- when they came
  created   BIGINT NOT NULL,
  used      BIGINT NOT NULL DEFAULT 0,
  used_from TEXT COLLATE "C" NOT NULL DEFAULT '',
  name_key  TEXT COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(name)) STORED,
  PRIMARY KEY (tenant_id, issuer_id)
);

CREATE UNIQUE INDEX issuer_by_name ON issuer (tenant_id, name_key);
CREATE INDEX issuer_by_iss ON issuer (iss, issuer_id);
CREATE INDEX issuer_by_id ON issuer (issuer_id);

-- Which principal a sub means.
CREATE TABLE issuer_subject (
  tenant_id    TEXT COLLATE "C" NOT NULL,
  issuer_id    TEXT COLLATE "C" NOT NULL,
  subject      TEXT COLLATE "C" NOT NULL,
  principal_id TEXT COLLATE "C" NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  PRIMARY KEY (tenant_id, issuer_id, subject),
  FOREIGN KEY (tenant_id, issuer_id) REFERENCES issuer (tenant_id, issuer_id) ON DELETE CASCADE
);

CREATE INDEX issuer_subject_by_principal ON issuer_subject (principal_id);

-- Which principal a client certificate means, by one of its names. It belongs to no tenant.
CREATE TABLE certificate (
  certificate_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  kind           TEXT COLLATE "C" NOT NULL CHECK (kind IN ('cn', 'dns', 'email', 'uri', 'fingerprint')),
  value          TEXT COLLATE "C" NOT NULL,
  principal_id   TEXT COLLATE "C" NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  scope          TEXT COLLATE "C" NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
  created        BIGINT NOT NULL,
  used           BIGINT NOT NULL DEFAULT 0,
  used_from      TEXT COLLATE "C" NOT NULL DEFAULT ''
);

CREATE UNIQUE INDEX certificate_by_value ON certificate (kind, value);
CREATE INDEX certificate_by_principal ON certificate (principal_id);

ALTER TABLE token ADD COLUMN prefix TEXT COLLATE "C" NOT NULL DEFAULT ''; -- how its secret begins; '' of those made before
-- What a token was made with, with which it goes. Both are NULL of the first one, and of those made before.
ALTER TABLE token ADD COLUMN parent_id TEXT COLLATE "C" REFERENCES token (token_id) ON DELETE CASCADE;
ALTER TABLE token ADD COLUMN certificate_id TEXT COLLATE "C" REFERENCES certificate (certificate_id) ON DELETE CASCADE;
ALTER TABLE token ADD COLUMN used BIGINT NOT NULL DEFAULT 0;
ALTER TABLE token ADD COLUMN used_from TEXT COLLATE "C" NOT NULL DEFAULT ''; -- an address; '' when it is not known

CREATE INDEX token_by_parent ON token (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX token_by_certificate ON token (certificate_id) WHERE certificate_id IS NOT NULL;
