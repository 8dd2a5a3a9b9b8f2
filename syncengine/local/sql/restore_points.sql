-- Sealed copies of the store, and what a restore carries over into one.

-- name: record
-- A restore point that was opened and compared; its number.
INSERT INTO _sync_restore_point (
  path, sha256, size_bytes, recipient, schema_version, rows, reason, made_at, verified_at, keep_until
)
VALUES (
  :path, :sha256, :size_bytes, :recipient, :schema_version, :rows, :reason, :made_at, :verified_at, :keep_until
)
RETURNING restore_point_id;

-- name: kept
-- Those whose files should be there, oldest first.
SELECT
  restore_point_id, path, sha256, size_bytes, recipient, schema_version, rows, reason, made_at, verified_at,
  keep_until
FROM _sync_restore_point
WHERE gone_at IS NULL
ORDER BY restore_point_id;

-- name: one
-- One whose file should be there.
SELECT
  restore_point_id, path, sha256, size_bytes, recipient, schema_version, rows, reason, made_at, verified_at,
  keep_until
FROM _sync_restore_point
WHERE restore_point_id = :restore_point_id
  AND gone_at IS NULL;

-- name: paths
-- The files of all that ever were, relative to the store's folder.
SELECT path
FROM _sync_restore_point;

-- name: made_since
-- The newest one that was made at this time or later.
SELECT restore_point_id
FROM _sync_restore_point
WHERE gone_at IS NULL
  AND made_at >= :since
ORDER BY restore_point_id DESC
LIMIT 1;

-- name: over
-- Those whose time is over, and all but the newest few.
SELECT restore_point_id, path
FROM _sync_restore_point
WHERE gone_at IS NULL
  AND (
    keep_until <= :now
    OR restore_point_id NOT IN (
      SELECT restore_point_id
      FROM _sync_restore_point
      WHERE gone_at IS NULL
      ORDER BY restore_point_id DESC
      LIMIT :kept_max
    )
  )
ORDER BY restore_point_id;

-- name: gone
-- Its file was deleted.
UPDATE _sync_restore_point
SET gone_at = :now
WHERE restore_point_id = :restore_point_id;

-- name: of_shadow
-- The restore point that was made before a large collection began to be rewritten.
SELECT restore_point_id
FROM _sync_shadow
WHERE migration = :migration
  AND restore_point_id IS NOT NULL
LIMIT 1;

-- name: tables_of_the_app
-- Tables that hold rows of the app's.
SELECT name
FROM sqlite_schema
WHERE type = 'table'
  AND rootpage > 0
  AND name NOT LIKE 'sqlite\_%' ESCAPE '\'
  AND name NOT LIKE '\_sync\_%' ESCAPE '\'
ORDER BY name;
