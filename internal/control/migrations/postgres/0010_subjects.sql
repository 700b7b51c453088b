-- A sub that means a principal goes on to do so when that is deleted: as one that is not mapped, it would have the role of its issuer.
ALTER TABLE issuer_subject DROP CONSTRAINT issuer_subject_principal_id_fkey;
DROP INDEX issuer_subject_by_principal;
