-- Login of people: whom an OpenID Connect provider's word stands for, the sessions of browsers, terminals that wait for somebody's
-- yes, and the SSH keys of principals.

-- Of all names that a provider has for somebody, the subject alone is never given to somebody else.
CREATE TABLE identity (
  issuer       TEXT COLLATE "C" NOT NULL,
  subject      TEXT COLLATE "C" NOT NULL,
  principal_id TEXT COLLATE "C" NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  created      BIGINT NOT NULL,
  used         BIGINT NOT NULL, -- the last login
  PRIMARY KEY (issuer, subject)
);

CREATE INDEX identity_by_principal ON identity (principal_id, issuer, subject);

-- A session's secret changes now and then. The one before is good for a moment longer, for requests that are under way.
CREATE TABLE session (
  session_id   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  hash         BYTEA NOT NULL UNIQUE CHECK (length(hash) = 32),
  old_hash     BYTEA UNIQUE CHECK (length(old_hash) = 32),
  principal_id TEXT COLLATE "C" NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  address      TEXT COLLATE "C" NOT NULL,
  agent        TEXT COLLATE "C" NOT NULL,
  created      BIGINT NOT NULL,
  rotated      BIGINT NOT NULL,
  used         BIGINT NOT NULL,
  expires      BIGINT NOT NULL
);

CREATE INDEX session_by_principal ON session (principal_id, session_id);

-- A terminal that asks for a token. It is here until it has collected its answer, or is late.
CREATE TABLE device (
  hash         BYTEA NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
  code         TEXT COLLATE "C" NOT NULL UNIQUE,
  name         TEXT COLLATE "C" NOT NULL,
  address      TEXT COLLATE "C" NOT NULL,
  scope        TEXT COLLATE "C" NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
  created      BIGINT NOT NULL,
  expires      BIGINT NOT NULL,
  state        TEXT COLLATE "C" NOT NULL CHECK (state IN ('waiting', 'allowed', 'denied')),
  principal_id TEXT COLLATE "C" REFERENCES principal (principal_id) ON DELETE CASCADE -- who said yes
);

CREATE INDEX device_by_expiry ON device (expires);
CREATE INDEX device_by_principal ON device (principal_id) WHERE principal_id IS NOT NULL;

CREATE TABLE ssh_key (
  key_id       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  fingerprint  TEXT COLLATE "C" NOT NULL UNIQUE, -- SHA256:…, as ssh-keygen -l prints it
  principal_id TEXT COLLATE "C" NOT NULL REFERENCES principal (principal_id) ON DELETE CASCADE,
  title        TEXT COLLATE "C" NOT NULL,
  kind         TEXT COLLATE "C" NOT NULL,        -- ssh-ed25519, ssh-rsa, …
  public       BYTEA NOT NULL,        -- in SSH's wire format
  created      BIGINT NOT NULL,
  expires      BIGINT NOT NULL,
  used         BIGINT NOT NULL
);

CREATE INDEX ssh_key_by_principal ON ssh_key (principal_id, key_id);
