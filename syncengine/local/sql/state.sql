-- Small facts about this store, and the version table.

-- name: has_engine_tables
-- 1 when the engine's tables are there.
SELECT count(*)
FROM sqlite_schema
WHERE name = '_sync_state';

-- name: get
-- One fact.
SELECT value
FROM _sync_state
WHERE name = :name;

-- name: set
-- Write one fact.
INSERT INTO _sync_state (name, value)
VALUES (:name, :value)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: claim_for_app
-- Whose store it is; who comes first writes it.
INSERT INTO _sync_state (name, value)
VALUES ('app', :app)
ON CONFLICT (name) DO NOTHING;

-- name: versions
-- The version table.
SELECT scope, schema_version, cloud_version
FROM _sync_version;

-- name: store_version
-- The version of the store; nothing in a store that has never been migrated.
SELECT schema_version
FROM _sync_version
WHERE scope = 'store';

-- name: write_schema_version
-- Move a scope's schema version, or begin it.
INSERT INTO _sync_version (scope, schema_version, app_version, updated_at)
VALUES (:scope, :schema_version, :app_version, :now)
ON CONFLICT (scope) DO UPDATE SET
  schema_version = excluded.schema_version,
  app_version = excluded.app_version,
  updated_at = excluded.updated_at;

-- name: write_cloud_version
-- Move the version that a user's cloud data has reached.
UPDATE _sync_version
SET cloud_version = :cloud_version,
    updated_at = :now
WHERE scope = :scope;

-- name: applied
-- What has run, and where: 2 done, 1 queued for the cloud, 0 skipped; nothing of what was rolled back since.
SELECT r.migration, r.scope, max(CASE r.state WHEN 'skipped' THEN 0 WHEN 'queued' THEN 1 ELSE 2 END)
FROM _sync_run AS r
WHERE r.state IN ('completed', 'queued', 'stood_for', 'skipped')
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_run AS undone
    WHERE undone.migration = r.migration
      AND undone.scope = r.scope
      AND undone.state = 'rolled_back'
      AND undone.run_id > r.run_id
  )
GROUP BY r.migration, r.scope;
