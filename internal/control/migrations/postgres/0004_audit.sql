-- The audit log: rows are only ever added. Each has the hash of the one before it. What they name may be gone.

CREATE TABLE audit (
  seq          BIGINT NOT NULL PRIMARY KEY, -- 1, 2, 3 and so on without a gap
  at           BIGINT NOT NULL,
  principal_id TEXT COLLATE "C" NOT NULL,
  name         TEXT COLLATE "C" NOT NULL,
  class        TEXT COLLATE "C" NOT NULL,
  token_id     TEXT COLLATE "C" NOT NULL,
  action       TEXT COLLATE "C" NOT NULL,
  in_tenant    TEXT COLLATE "C" NOT NULL, -- its ID; '' for what is done in no tenant. The log is one: it cannot be distributed by tenant
  resource     TEXT COLLATE "C" NOT NULL,
  outcome      TEXT COLLATE "C" NOT NULL,
  intent       TEXT COLLATE "C" NOT NULL,
  request_id   TEXT COLLATE "C" NOT NULL,
  address      TEXT COLLATE "C" NOT NULL,
  detail       TEXT COLLATE "C" NOT NULL,
  prev         BYTEA NOT NULL CHECK (length(prev) = 32),
  hash         BYTEA NOT NULL CHECK (length(hash) = 32)
);

CREATE INDEX audit_of_tenant ON audit (in_tenant, seq);
CREATE INDEX audit_by_principal ON audit (principal_id, seq);

-- The last row's number and hash, which must agree with it.
CREATE TABLE audit_head (
  one  BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
  seq  BIGINT NOT NULL,
  hash BYTEA NOT NULL CHECK (length(hash) = 32)
);

INSERT INTO audit_head (one, seq, hash) VALUES (1, 0, decode(repeat('00', 32), 'hex'));
