-- Tenants are suspended, moved, deleted and restored.

ALTER TABLE tenant ADD COLUMN suspended INTEGER NOT NULL DEFAULT 0;     -- since when; 0: it is not
-- A deleted tenant and all that was below it wait for their end under another path, so that their own is free.
ALTER TABLE tenant ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;       -- when; 0: it is not
ALTER TABLE tenant ADD COLUMN deleted_with TEXT NOT NULL DEFAULT '';    -- the tenant whose deletion it was, perhaps itself
ALTER TABLE tenant ADD COLUMN deleted_path TEXT NOT NULL DEFAULT '';    -- what its path was

CREATE INDEX tenant_deleted ON tenant (deleted, tenant_id) WHERE deleted > 0;
