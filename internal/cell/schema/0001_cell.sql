-- A cell's database: one repository. Every table costs a page of 4 KiB, so there are few.
-- Names of references are bytes, not text. Object IDs are their 20 bytes.

-- The one row of what the repository is as a whole.
CREATE TABLE repo (
	one      INTEGER PRIMARY KEY CHECK (one = 1),
	version  INTEGER NOT NULL, -- counts transactions: a writer that has not seen the last one must read again
	head     BLOB    NOT NULL, -- the branch that HEAD names
	settings TEXT    NOT NULL  -- JSON
) STRICT;

CREATE TABLE ref (
	name   BLOB PRIMARY KEY,
	oid    BLOB NOT NULL,
	peeled BLOB             -- what an annotated tag leads to in the end
) STRICT, WITHOUT ROWID;

-- The objects of live packs that no object of a live pack names.
CREATE TABLE root (
	oid   BLOB PRIMARY KEY,
	loose INTEGER NOT NULL  -- when a compaction first found that no reference names it, microseconds since 1970; 0: never
) STRICT, WITHOUT ROWID;

-- Packs. The id gives the order: an object counts in the first live pack that has it.
CREATE TABLE pack (
	id       INTEGER PRIMARY KEY,
	checksum BLOB    NOT NULL,  -- the packfile's trailer
	size     INTEGER NOT NULL,  -- of the packfile
	objects  INTEGER NOT NULL,
	aside    INTEGER NOT NULL,  -- when it was set aside as unreachable, microseconds since 1970; 0: it is live
	idx      BLOB,              -- these three are NULL when the pack is in the bucket
	tbl      BLOB,
	data     BLOB               -- last: the columns before it are read without it
) STRICT;

CREATE TABLE reflog (
	id      INTEGER PRIMARY KEY,
	at      INTEGER NOT NULL,   -- microseconds since 1970
	actor   TEXT    NOT NULL,
	message TEXT    NOT NULL,
	name    BLOB    NOT NULL,
	old     BLOB    NOT NULL,   -- zero: it did not exist
	new     BLOB    NOT NULL    -- zero: it was deleted
) STRICT;

CREATE INDEX reflog_name ON reflog (name);
