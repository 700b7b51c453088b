-- The names of deleted people, by which policies may still know them: nobody gets one by choosing it.
CREATE TABLE former_name (
  name_key TEXT COLLATE "C" NOT NULL PRIMARY KEY -- in lower case
);
