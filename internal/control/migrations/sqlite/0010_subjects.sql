-- A sub that means a principal goes on to do so when that is deleted: as one that is not mapped, it would have the role of its issuer.
-- SQLite cannot drop a reference: the table is written anew. Nothing refers to it.
CREATE TABLE subject_of (
  tenant_id    TEXT NOT NULL,
  issuer_id    TEXT NOT NULL,
  subject      TEXT NOT NULL,
  principal_id TEXT NOT NULL, -- who may be gone by now
  PRIMARY KEY (tenant_id, issuer_id, subject),
  FOREIGN KEY (tenant_id, issuer_id) REFERENCES issuer (tenant_id, issuer_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
INSERT INTO subject_of (tenant_id, issuer_id, subject, principal_id) SELECT tenant_id, issuer_id, subject, principal_id FROM issuer_subject;
DROP TABLE issuer_subject;
ALTER TABLE subject_of RENAME TO issuer_subject;
