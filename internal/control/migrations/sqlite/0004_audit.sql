-- The audit log: rows are only ever added. Each has the hash of the one before it. What they name may be gone.

CREATE TABLE audit (
  seq          INTEGER NOT NULL PRIMARY KEY, -- 1, 2, 3 and so on without a gap
  at           INTEGER NOT NULL,
  principal_id TEXT NOT NULL,
  name         TEXT NOT NULL,
  class        TEXT NOT NULL,
  token_id     TEXT NOT NULL,
  action       TEXT NOT NULL,
  in_tenant    TEXT NOT NULL, -- its ID; '' for what is done in no tenant. The log is one: it cannot be distributed by tenant
  resource     TEXT NOT NULL,
  outcome      TEXT NOT NULL,
  intent       TEXT NOT NULL,
  request_id   TEXT NOT NULL,
  address      TEXT NOT NULL,
  detail       TEXT NOT NULL,
  prev         BLOB NOT NULL CHECK (length(prev) = 32),
  hash         BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE INDEX audit_of_tenant ON audit (in_tenant, seq);
CREATE INDEX audit_by_principal ON audit (principal_id, seq);

-- The last row's number and hash, which must agree with it.
CREATE TABLE audit_head (
  one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
  seq  INTEGER NOT NULL,
  hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

INSERT INTO audit_head (one, seq, hash) VALUES (1, 0, zeroblob(32));
