-- What tenants use, and how much they may. Usage refers to nothing: it is billed, whether or not who used is still there.

CREATE TABLE usage (
  tenant_id TEXT NOT NULL,
  hour      INTEGER NOT NULL, -- its beginning
  repo_id   TEXT NOT NULL,    -- '' for what belongs to no repository
  kind      TEXT NOT NULL,
  amount    INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, hour, repo_id, kind)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_of_repo ON usage (tenant_id, repo_id, hour);
CREATE INDEX usage_by_hour ON usage (hour, tenant_id, repo_id, kind);

-- Sums for quotas: a tenant's own, without its children.
CREATE TABLE usage_total (
  tenant_id TEXT NOT NULL,
  period    TEXT NOT NULL CHECK (period IN ('hour', 'day', 'month')),
  since     INTEGER NOT NULL, -- the period's beginning
  kind      TEXT NOT NULL,
  amount    INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, period, since, kind)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_total_by_age ON usage_total (since);

-- The last batch of each meter, so that none is added twice.
CREATE TABLE usage_meter (
  meter_id TEXT NOT NULL PRIMARY KEY,
  batch    INTEGER NOT NULL,
  updated  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_meter_by_age ON usage_meter (updated);

CREATE TABLE storage (
  tenant_id TEXT NOT NULL,
  repo_id   TEXT NOT NULL,
  bytes     INTEGER NOT NULL,
  updated   INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, repo_id),
  FOREIGN KEY (tenant_id, repo_id) REFERENCES repo (tenant_id, repo_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE quota (
  tenant_id TEXT NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  kind      TEXT NOT NULL,
  most      INTEGER NOT NULL CHECK (most >= 0),
  PRIMARY KEY (tenant_id, kind)
) STRICT, WITHOUT ROWID;
