-- How often what nodes remember has changed. Each node looks, and forgets what others have changed.

CREATE TABLE epoch (
  kind    TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (kind IN ('lineage', 'principal', 'repo')),
  changes BIGINT NOT NULL
);

INSERT INTO epoch (kind, changes) VALUES ('lineage', 0), ('principal', 0), ('repo', 0);
