-- Going back: what ran, what it leaves behind, and the record of its undoing.

-- name: applied_runs
-- The newest good run of each migration and scope, oldest first; none that was rolled back since.
SELECT
  max(r.run_id), r.migration, r.scope, r.state, r.from_version, r.to_version, r.restore_point_id,
  r.rows_read, r.rows_written, r.rows_dropped, r.started_at
FROM _sync_run AS r
WHERE r.state IN ('completed', 'queued', 'stood_for')
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_run AS undone
    WHERE undone.migration = r.migration
      AND undone.scope = r.scope
      AND undone.state = 'rolled_back'
      AND undone.run_id > r.run_id
  )
GROUP BY r.migration, r.scope
ORDER BY 1;

-- name: record
-- One migration of one scope was undone.
INSERT INTO _sync_run (
  migration, scope, from_version, to_version, code_hash, state, method, restore_point_id,
  rows_read, rows_written, rows_dropped, rows_quarantined, entries_read, entries_converted, entries_quarantined,
  started_at, ended_at, duration_ms, warnings, because_of, note
)
VALUES (
  :migration, :scope, :from_version, :to_version, :code_hash, 'rolled_back', :method, :restore_point_id,
  :rows_read, :rows_written, :rows_dropped, :rows_quarantined, :entries_read, :entries_converted, :entries_quarantined,
  :started_at, :now, :duration_ms, :warnings, :because_of, :note
);

-- name: rolled_back
-- What was rolled back and has not run since, with the code that was known then; the oldest first.
SELECT r.run_id, r.migration, r.scope, r.code_hash, r.because_of, r.note, r.ended_at
FROM _sync_run AS r
WHERE r.state = 'rolled_back'
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_run AS later
    WHERE later.migration = r.migration
      AND later.scope = r.scope
      AND later.state IN ('completed', 'queued', 'stood_for', 'rolled_back')
      AND later.run_id > r.run_id
  )
ORDER BY r.run_id;

-- name: kept_tables
-- Old tables that are still there.
SELECT collection, migration, table_name
FROM _sync_kept_table
WHERE EXISTS (
  SELECT 1
  FROM sqlite_schema
  WHERE type = 'table'
    AND name = table_name
);

-- name: restore_points
-- Sealed copies that were checked and are there, newest first; none that holds what was erased since.
SELECT restore_point_id, schema_version, made_at
FROM _sync_restore_point
WHERE gone_at IS NULL
  AND verified_at IS NOT NULL
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_erasure AS e
    WHERE e.erasure_id > newest_erasure
      AND e.scope = 'store'
  )
ORDER BY restore_point_id DESC;

-- name: claimed_uploads
-- Online migrations of which the cloud may or may not have something.
SELECT DISTINCT migration, owner
FROM _sync_outbox
WHERE state = 'claimed'
  AND migration IS NOT NULL;

-- name: filling
-- Collections that are being rewritten beside the live table.
SELECT collection
FROM _sync_shadow;

-- name: entries_to_take_back
-- How many entries an online migration queued that nobody has sent.
SELECT count(*)
FROM _sync_outbox
WHERE migration = :migration
  AND owner = :owner
  AND state <> 'claimed';

-- name: take_back_entries
-- What an online migration queued and nobody has sent.
UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
DELETE FROM _sync_outbox
WHERE migration = :migration
  AND owner = :owner
  AND state <> 'claimed';
UPDATE _sync_outbox
SET fresh = 2
WHERE fresh = 1
  AND entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND entry_id < (SELECT entry_id FROM _sync_last_entry);

-- name: take_back_puts
-- Entries that name rows which are gone: there is nothing to send for them.
UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
DELETE FROM _sync_outbox
WHERE collection = :collection
  AND fresh IS NULL
  AND (:owner IS NULL OR owner = :owner)
  AND (:row_key IS NULL OR row_key = :row_key)
  AND kind = 'put'
  AND set_json IS NULL
  AND state <> 'claimed';
UPDATE _sync_outbox
SET fresh = 2
WHERE fresh = 1
  AND entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND entry_id < (SELECT entry_id FROM _sync_last_entry);

-- name: rows_at_cloud
-- How many rows of a user the cloud has confirmed.
SELECT count(*)
FROM _sync_row
WHERE collection = :collection
  AND owner = :owner;

-- name: set_aside
-- The present form of a row that the way back has no room for.
INSERT INTO _sync_quarantine (
  origin, migration, owner, collection, row_key, body, error_code, error_text, field, shape_version, created_at
)
VALUES (
  'restore', :migration, :owner, :collection, :row_key, :body, :error_code, :error_text, :field, :shape_version, :now
);

-- name: open_rows
-- One page of the rows that a migration could not convert.
SELECT item_id, owner, row_key, body
FROM _sync_quarantine
WHERE origin = 'migration'
  AND migration = :migration
  AND collection = :collection
  AND resolution IS NULL
  AND item_id > :after
  AND item_id <= :until
ORDER BY item_id
LIMIT 100;

-- name: newest_item
-- A number that no older item has passed.
SELECT coalesce(max(item_id), 0)
FROM _sync_quarantine;

-- name: forget_items
-- What a migration that was only done again to compare has set aside a second time.
DELETE FROM _sync_quarantine
WHERE item_id > :after;

-- name: resolve
-- The row is in its table again.
UPDATE _sync_quarantine
SET resolution = 'restored',
    resolved_at = :now
WHERE item_id = :item_id;

-- name: resolve_rows
-- What a migration could not convert is in the old table.
UPDATE _sync_quarantine
SET resolution = 'restored',
    resolved_at = :now
WHERE origin = 'migration'
  AND migration = :migration
  AND collection = :collection
  AND resolution IS NULL
  AND item_id <= :until;

-- name: resolve_import
-- What an import could not convert lies in its source as before.
UPDATE _sync_quarantine
SET resolution = 'restored',
    resolved_at = :now
WHERE origin = 'migration'
  AND migration = :migration
  AND owner = :owner
  AND created_at >= :since
  AND resolution IS NULL;

-- name: forget_source
-- The legacy store may be imported again.
DELETE FROM _sync_source
WHERE migration = :migration
  AND imported_by = :owner;

-- name: forget_collection
-- The collection has no table any more.
DELETE FROM _sync_collection
WHERE name = :name;

-- name: hold
-- Somebody asked for this rollback: the same code does not run again by itself.
UPDATE _sync_run
SET code_hash = :code_hash,
    note = :note
WHERE run_id = :run_id;

-- name: originals
-- Values of one column as they were before a repair rule changed them.
SELECT owner, row_key, value
FROM _sync_archive
WHERE collection = :collection
  AND migration = :migration
  AND field = :field;

-- name: forget_originals
-- They are in their column again, or were edited since.
DELETE FROM _sync_archive
WHERE collection = :collection
  AND migration = :migration
  AND field = :field;
