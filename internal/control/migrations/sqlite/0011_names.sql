-- The names of deleted people, by which policies may still know them: nobody gets one by choosing it.
CREATE TABLE former_name (
  name_key TEXT NOT NULL PRIMARY KEY -- in lower case
) STRICT, WITHOUT ROWID;
