-- Documents of configuration. Their operations are in logs of their own.

CREATE TABLE document (
  tenant_id   TEXT COLLATE "C" NOT NULL REFERENCES tenant (tenant_id),
  document_id TEXT COLLATE "C" NOT NULL,
  name        TEXT COLLATE "C" NOT NULL,
  repo_id     TEXT COLLATE "C" NOT NULL DEFAULT '', -- where its milestones go; '': nowhere
  by_id       TEXT COLLATE "C" NOT NULL DEFAULT '', -- who said so, and as whom automatic ones are made
  milestones  TEXT COLLATE "C" NOT NULL DEFAULT '', -- how they are made, in JSON
  active      BIGINT NOT NULL DEFAULT 0 CHECK (active IN (0, 1)), -- it does something without being asked
  created     BIGINT NOT NULL,
  updated     BIGINT NOT NULL,
  name_key    TEXT COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(name)) STORED,
  PRIMARY KEY (tenant_id, document_id)
);

CREATE UNIQUE INDEX document_by_name ON document (tenant_id, name_key);
CREATE INDEX document_by_id ON document (document_id);
CREATE INDEX document_active ON document (document_id) WHERE active = 1;
