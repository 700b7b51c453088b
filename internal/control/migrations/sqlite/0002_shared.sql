-- Names are found and listed by a key: the name with ASCII letters in lower case, compared byte by byte. That is the same on
-- every database, which a collation is not. The keys are computed, so a program that does not know them need not write them.
-- The constraints of step 1 say the same in SQLite's own way; like repo_public_of, they stay until a later step contracts.

ALTER TABLE tenant ADD COLUMN path_key TEXT GENERATED ALWAYS AS (lower(path)) VIRTUAL;
CREATE UNIQUE INDEX tenant_by_path ON tenant (path_key);

ALTER TABLE principal ADD COLUMN name_key TEXT GENERATED ALWAYS AS (lower(name)) VIRTUAL;
CREATE UNIQUE INDEX principal_by_name ON principal (name_key);

ALTER TABLE repo ADD COLUMN name_key TEXT GENERATED ALWAYS AS (lower(name)) VIRTUAL;
CREATE UNIQUE INDEX repo_by_name ON repo (tenant_id, name_key);

-- repo_public_of is taken by no planner without a hint that only SQLite has.
CREATE INDEX repo_of_by_public ON repo (tenant_id, public, repo_id);

-- How often what nodes remember has changed. Each node looks, and forgets what others have changed.
CREATE TABLE epoch (
  kind    TEXT NOT NULL PRIMARY KEY CHECK (kind IN ('lineage', 'principal', 'repo')),
  changes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO epoch (kind, changes) VALUES ('lineage', 0), ('principal', 0), ('repo', 0);
