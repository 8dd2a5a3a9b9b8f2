-- Sealed copies of the store, and what a restore carries over into one.

-- name: record
-- A restore point that was opened and compared; its number.
INSERT INTO _sync_restore_point (
  path, sha256, size_bytes, recipient, schema_version, rows, reason, made_at, verified_at, keep_until,
  newest_erasure
)
VALUES (
  :path, :sha256, :size_bytes, :recipient, :schema_version, :rows, :reason, :made_at, :verified_at, :keep_until,
  :newest_erasure
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
-- One whose file should be there, and that holds nothing that was erased since.
SELECT
  restore_point_id, path, sha256, size_bytes, recipient, schema_version, rows, reason, made_at, verified_at,
  keep_until
FROM _sync_restore_point
WHERE restore_point_id = :restore_point_id
  AND gone_at IS NULL
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_erasure AS e
    WHERE e.erasure_id > newest_erasure
      AND e.scope = 'store'
  );

-- name: paths
-- The files that should be there, relative to the store's folder.
SELECT path
FROM _sync_restore_point
WHERE gone_at IS NULL;

-- name: path
-- Where the file of one should be.
SELECT path
FROM _sync_restore_point
WHERE restore_point_id = :restore_point_id
  AND gone_at IS NULL;

-- name: recipients
-- The public keys that those are sealed for whose files should be there.
SELECT DISTINCT recipient
FROM _sync_restore_point
WHERE gone_at IS NULL;

-- name: resealed
-- It is sealed for another key, in another file.
UPDATE _sync_restore_point
SET path = :path,
    sha256 = :sha256,
    size_bytes = :size_bytes,
    recipient = :recipient,
    verified_at = :verified_at
WHERE restore_point_id = :restore_point_id
  AND gone_at IS NULL;

-- name: newest_of_all
-- The newest one that was ever made, whatever became of it; 0 for none.
SELECT coalesce(max(restore_point_id), 0)
FROM _sync_restore_point;

-- name: made_since
-- The newest one that was made after this one; none that holds what was erased since. Clocks may go back.
SELECT restore_point_id
FROM _sync_restore_point
WHERE gone_at IS NULL
  AND restore_point_id > :since
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_erasure AS e
    WHERE e.erasure_id > newest_erasure
      AND e.scope = 'store'
  )
ORDER BY restore_point_id DESC
LIMIT 1;

-- name: over
-- Those whose time is over, and all but the newest few; and why each goes.
SELECT
  restore_point_id, path, CASE WHEN keep_until <= :now THEN 'its time was over' ELSE 'there were newer ones' END
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

-- name: any_is_over
-- 1 when the time of one is over.
SELECT EXISTS (
  SELECT 1
  FROM _sync_restore_point
  WHERE gone_at IS NULL
    AND keep_until <= :now
);

-- name: erased
-- Those that hold what a migration has erased since, and which.
SELECT p.restore_point_id, p.path, e.migration || ' erased what it holds'
FROM _sync_restore_point AS p
JOIN _sync_erasure AS e ON e.erasure_id = (
  SELECT min(erasure_id)
  FROM _sync_erasure
  WHERE erasure_id > p.newest_erasure
    AND scope = 'store'
)
WHERE p.gone_at IS NULL
ORDER BY p.restore_point_id;

-- name: erased_at
-- When something was last erased that copies of the store may hold.
SELECT max(erased_at)
FROM _sync_erasure
WHERE scope = 'store';

-- name: newest_erasure
-- The number of the newest erasure.
SELECT coalesce(max(erasure_id), 0)
FROM _sync_erasure;

-- name: gone
-- Its file was deleted, and why.
UPDATE _sync_restore_point
SET gone_at = :now,
    gone_because = :why
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
  AND name NOT GLOB '_sync_*'
ORDER BY name;

-- name: set_row_aside
-- A row that going back takes away.
INSERT INTO _sync_quarantine (
  origin, owner, collection, row_key, body, error_code, error_text, shape_version, created_at
)
VALUES ('restore', :owner, :collection, :row_key, :body, 'restored_over', :error_text, :shape_version, :now);

-- name: taken_back
-- A migration that has run since the restore point, and has not any more.
INSERT INTO _sync_run (
  migration, scope, from_version, to_version, state, method, restore_point_id, started_at, ended_at, duration_ms
)
SELECT migration, scope, from_version, to_version, 'rolled_back', 'restore_point', :restore_point_id, :now, :now, 0
FROM _sync_run
WHERE migration = :migration
  AND scope = :scope
ORDER BY run_id DESC
LIMIT 1;

-- name: done_again
-- A migration that was done (2), queued (1) or skipped (0) at the restore point, and was rolled back since.
INSERT INTO _sync_run (
  migration, scope, from_version, to_version, state, method, restore_point_id,
  rows_read, rows_written, rows_merged, rows_dropped, rows_quarantined, started_at, ended_at, duration_ms
)
SELECT
  migration, scope, from_version, to_version, state, 'restore_point', :restore_point_id,
  rows_read, rows_written, rows_merged, rows_dropped, rows_quarantined, :now, :now, 0
FROM _sync_run
WHERE migration = :migration
  AND scope = :scope
  AND CASE state WHEN 'skipped' THEN 0 WHEN 'queued' THEN 1 WHEN 'completed' THEN 2 WHEN 'stood_for' THEN 2 END = :level
ORDER BY run_id DESC
LIMIT 1;

-- name: record_restore
-- The restore itself, in the history.
INSERT INTO _sync_run (
  migration, scope, from_version, to_version, state, method, restore_point_id, rows_quarantined,
  started_at, ended_at, duration_ms
)
VALUES (
  'restore-point-' || :restore_point_id, 'store', :from_version, :to_version, 'restored', 'restore_point',
  :restore_point_id, :rows_quarantined, :now, :now, 0
);

-- name: items_of_migration
-- Its rows are in their tables again as they were before it.
UPDATE _sync_quarantine
SET resolution = 'restored',
    resolved_at = :now
WHERE origin = 'migration'
  AND migration = :migration
  AND ('store' = :scope OR 'user:' || owner = :scope)
  AND item_id > :newest_item
  AND resolution IS NULL;

-- name: newest_item
-- The number of the newest quarantine item.
SELECT coalesce(max(item_id), 0)
FROM _sync_quarantine;

-- name: fence_leases
-- Nothing that other processes had begun on the tables before may go on.
UPDATE _sync_lease
SET fence = fence + 1,
    holder = ''
WHERE pid <> :pid;

-- name: forget_drain
-- A new device has given out no number yet.
DELETE FROM _sync_drain;

-- name: entries
-- All that waits, in order.
SELECT entry_id
FROM _sync_outbox
ORDER BY entry_id;

-- name: read_on
-- The rows are those of an earlier time: whoever has sent or read is not up to date before the cloud was read again.
INSERT INTO _sync_cursor (owner, at_head, updated_at)
SELECT owner, 0, :now
FROM (SELECT owner FROM _sync_drain UNION SELECT owner FROM _sync_cursor)
WHERE true
ON CONFLICT (owner) DO UPDATE SET
  at_head = 0,
  updated_at = excluded.updated_at;

-- name: record_rescue
-- In the history: the store before this one was damaged.
INSERT INTO _sync_run (
  migration, scope, from_version, to_version, state, method, started_at, ended_at, duration_ms
)
VALUES ('rescue', 'store', :version, :version, 'restored', 'restore_point', :now, :now, 0);
