-- What the way back of a migration needs: the shape before it, and the values that it took away or bent.

-- name: write_shape_before
-- The shape of a collection's table before a migration; of the last time that it ran.
INSERT INTO _sync_shape_before (collection, migration, ddl)
VALUES (:collection, :migration, :ddl)
ON CONFLICT (collection, migration) DO UPDATE SET
  ddl = excluded.ddl;

-- name: shape_before
-- That shape: a JSON list of the SQL of the table, then of its indexes.
SELECT ddl
FROM _sync_shape_before
WHERE collection = :collection
  AND migration = :migration;

-- name: anything_kept
-- 1 where values of a collection are kept for a migration.
SELECT EXISTS (
  SELECT 1
  FROM _sync_archive
  WHERE collection = :collection
    AND migration = :migration
);

-- name: kept_of_row
-- What is kept of one row.
SELECT field, value
FROM _sync_archive
WHERE collection = :collection
  AND owner = CAST(:owner AS TEXT)
  AND row_key = CAST(:row_key AS TEXT)
  AND migration = :migration;

-- name: keep
-- One value; the newest counts.
INSERT INTO _sync_archive (collection, owner, row_key, field, value, migration, archived_at)
VALUES (:collection, CAST(:owner AS TEXT), CAST(:row_key AS TEXT), :field, :value, :migration, :now)
ON CONFLICT (collection, owner, row_key, field, migration) DO UPDATE SET
  value = excluded.value,
  archived_at = excluded.archived_at;

-- name: unkeep
-- A value that was kept before, and is none now.
DELETE FROM _sync_archive
WHERE collection = :collection
  AND owner = CAST(:owner AS TEXT)
  AND row_key = CAST(:row_key AS TEXT)
  AND field = :field
  AND migration = :migration;

-- name: forget_kept
-- What was kept has been given back.
DELETE FROM _sync_archive
WHERE collection = :collection
  AND migration = :migration;
