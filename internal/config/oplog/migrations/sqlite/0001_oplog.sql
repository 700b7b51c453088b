-- A file has one document. Its number is drawn when it is made and leads each key, as on PostgreSQL.

-- The row is what makes the document exist; it goes first when the document is deleted.
CREATE TABLE config_head (
  document INTEGER NOT NULL PRIMARY KEY,
  seq      INTEGER NOT NULL, -- the last record's
  hash     BLOB NOT NULL
) STRICT;

-- The document is no part of the key: a key of one integer makes the table grow at its end.
CREATE TABLE config_record (
  seq      INTEGER NOT NULL PRIMARY KEY,
  document INTEGER NOT NULL,
  hash     BLOB NOT NULL,
  data     BLOB NOT NULL
) STRICT;

-- Parts are written one by one, so that appends go on between them. The row here makes them a snapshot.
CREATE TABLE config_snapshot (
  document INTEGER NOT NULL PRIMARY KEY,
  seq      INTEGER NOT NULL,
  save     INTEGER NOT NULL, -- which SaveSnapshot it was, at random
  parts    INTEGER NOT NULL
) STRICT;

CREATE TABLE config_snapshot_part (
  document INTEGER NOT NULL,
  seq      INTEGER NOT NULL,
  save     INTEGER NOT NULL,
  part     INTEGER NOT NULL, -- from 0
  data     BLOB NOT NULL,
  PRIMARY KEY (document, seq, save, part)
) STRICT;

CREATE TABLE config_meta (
  document INTEGER NOT NULL,
  key      TEXT NOT NULL,
  value    BLOB NOT NULL,
  PRIMARY KEY (document, key)
) STRICT;
