-- Login of people: whom an OpenID Connect provider's word stands for, the sessions of browsers, terminals that wait for somebody's
-- yes, and the SSH keys of principals.

-- Of all names that a provider has for somebody, the subject alone is never given to somebody else.
CREATE TABLE identity (
  issuer       TEXT NOT NULL,
  subject      TEXT NOT NULL,
  principal_id TEXT NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  created      INTEGER NOT NULL,
  used         INTEGER NOT NULL, -- the last login
  PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX identity_by_principal ON identity (principal_id, issuer, subject);

-- A session's secret changes now and then. The one before is good for a moment longer, for requests that are under way.
CREATE TABLE session (
  session_id   TEXT NOT NULL PRIMARY KEY,
  hash         BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  old_hash     BLOB UNIQUE CHECK (length(old_hash) = 32),
  principal_id TEXT NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  address      TEXT NOT NULL,
  agent        TEXT NOT NULL,
  created      INTEGER NOT NULL,
  rotated      INTEGER NOT NULL,
  used         INTEGER NOT NULL,
  expires      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX session_by_principal ON session (principal_id, session_id);

-- A terminal that asks for a token. It is here until it has collected its answer, or is late.
CREATE TABLE device (
  hash         BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
  code         TEXT NOT NULL UNIQUE,
  name         TEXT NOT NULL,
  address      TEXT NOT NULL,
  scope        TEXT NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
  created      INTEGER NOT NULL,
  expires      INTEGER NOT NULL,
  state        TEXT NOT NULL CHECK (state IN ('waiting', 'allowed', 'denied')),
  principal_id TEXT REFERENCES principal (principal_id) ON DELETE CASCADE -- who said yes
) STRICT, WITHOUT ROWID;

CREATE INDEX device_by_expiry ON device (expires);
CREATE INDEX device_by_principal ON device (principal_id) WHERE principal_id IS NOT NULL;

CREATE TABLE ssh_key (
  key_id       TEXT NOT NULL PRIMARY KEY,
  fingerprint  TEXT NOT NULL UNIQUE, -- SHA256:…, as ssh-keygen -l prints it
  principal_id TEXT NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  title        TEXT NOT NULL,
  kind         TEXT NOT NULL,        -- ssh-ed25519, ssh-rsa, …
  public       BLOB NOT NULL,        -- in SSH's wire format
  created      INTEGER NOT NULL,
  expires      INTEGER NOT NULL,
  used         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX ssh_key_by_principal ON ssh_key (principal_id, key_id);
