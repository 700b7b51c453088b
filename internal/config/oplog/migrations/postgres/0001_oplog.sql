-- A document's number is drawn when it is made. It leads the keys of all that belongs to the document, so that it can become a
-- distribution column; config_document, which finds it by the document's name, is small and changes seldom.

CREATE TABLE config_document (
  name     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  document BIGINT NOT NULL
);

-- Documents that were deleted, while there is still something of theirs to remove.
CREATE TABLE config_deleted (
  document BIGINT NOT NULL PRIMARY KEY
);

-- The row is what makes the document exist. Who appends changes it first, and so holds its lock.
CREATE TABLE config_head (
  document BIGINT NOT NULL PRIMARY KEY,
  seq      BIGINT NOT NULL, -- the last record's
  hash     BYTEA NOT NULL
);

CREATE TABLE config_record (
  document BIGINT NOT NULL,
  seq      BIGINT NOT NULL,
  hash     BYTEA NOT NULL,
  data     BYTEA NOT NULL,
  PRIMARY KEY (document, seq)
);

-- Parts are written one by one, so that no transaction is long. The row here makes them a snapshot.
CREATE TABLE config_snapshot (
  document BIGINT NOT NULL PRIMARY KEY,
  seq      BIGINT NOT NULL,
  save     BIGINT NOT NULL, -- which SaveSnapshot it was, at random
  parts    BIGINT NOT NULL
);

CREATE TABLE config_snapshot_part (
  document BIGINT NOT NULL,
  seq      BIGINT NOT NULL,
  save     BIGINT NOT NULL,
  part     BIGINT NOT NULL, -- from 0
  data     BYTEA NOT NULL,
  PRIMARY KEY (document, seq, save, part)
);

CREATE TABLE config_meta (
  document BIGINT NOT NULL,
  key      TEXT COLLATE "C" NOT NULL,
  value    BYTEA NOT NULL,
  PRIMARY KEY (document, key)
);
