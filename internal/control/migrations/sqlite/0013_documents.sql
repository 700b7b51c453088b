-- Documents of configuration. Their operations are in logs of their own.

CREATE TABLE document (
  tenant_id   TEXT NOT NULL REFERENCES tenant (tenant_id),
  document_id TEXT NOT NULL,
  name        TEXT NOT NULL,
  repo_id     TEXT NOT NULL DEFAULT '', -- where its milestones go; '': nowhere
  by_id       TEXT NOT NULL DEFAULT '', -- who said so, and as whom automatic ones are made
  milestones  TEXT NOT NULL DEFAULT '', -- how they are made, in JSON
  active      INTEGER NOT NULL DEFAULT 0 CHECK (active IN (0, 1)), -- it does something without being asked
  created     INTEGER NOT NULL,
  updated     INTEGER NOT NULL,
  name_key    TEXT GENERATED ALWAYS AS (lower(name)) VIRTUAL,
  PRIMARY KEY (tenant_id, document_id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX document_by_name ON document (tenant_id, name_key);
CREATE INDEX document_by_id ON document (document_id);
CREATE INDEX document_active ON document (document_id) WHERE active = 1;
