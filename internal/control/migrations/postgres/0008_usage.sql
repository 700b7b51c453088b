-- What tenants use, and how much they may. Usage refers to nothing: it is billed, whether or not who used is still there.

CREATE TABLE usage (
  tenant_id TEXT COLLATE "C" NOT NULL,
  hour      BIGINT NOT NULL, -- its beginning
  repo_id   TEXT COLLATE "C" NOT NULL,    -- '' for what belongs to no repository
  kind      TEXT COLLATE "C" NOT NULL,
  amount    BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, hour, repo_id, kind)
);

CREATE INDEX usage_of_repo ON usage (tenant_id, repo_id, hour);
CREATE INDEX usage_by_hour ON usage (hour, tenant_id, repo_id, kind);

-- Sums for quotas: a tenant's own, without its children.
CREATE TABLE usage_total (
  tenant_id TEXT COLLATE "C" NOT NULL,
  period    TEXT COLLATE "C" NOT NULL CHECK (period IN ('hour', 'day', 'month')),
  since     BIGINT NOT NULL, -- the period's beginning
  kind      TEXT COLLATE "C" NOT NULL,
  amount    BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, period, since, kind)
);

CREATE INDEX usage_total_by_age ON usage_total (since);

-- The last batch of each meter, so that none is added twice.
CREATE TABLE usage_meter (
  meter_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  batch    BIGINT NOT NULL,
  updated  BIGINT NOT NULL
);

CREATE INDEX usage_meter_by_age ON usage_meter (updated);

CREATE TABLE storage (
  tenant_id TEXT COLLATE "C" NOT NULL,
  repo_id   TEXT COLLATE "C" NOT NULL,
  bytes     BIGINT NOT NULL,
  updated   BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, repo_id),
  FOREIGN KEY (tenant_id, repo_id) REFERENCES repo (tenant_id, repo_id) ON DELETE CASCADE
);

CREATE TABLE quota (
  tenant_id TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id) ON DELETE CASCADE,
  kind      TEXT COLLATE "C" NOT NULL,
  most      BIGINT NOT NULL CHECK (most >= 0),
  PRIMARY KEY (tenant_id, kind)
);
