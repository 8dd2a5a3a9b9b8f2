-- Large collections that are rewritten beside the live table, and the old tables that stay for a while.

-- name: all
-- Every collection that is being rewritten, with its migration.
SELECT collection, migration
FROM _sync_shadow
ORDER BY collection;

-- name: get
-- One of them, as its last committed batch left it.
SELECT
  collection, migration, scope, code_hash, state, asked, cursor, rows_total, rows_written, rows_dropped,
  batch_rows, batches, batches_undone, restore_point_id, facts, started_at,
  (SELECT count(*) FROM _sync_shadow_aside AS aside WHERE aside.collection = shadow.collection)
FROM _sync_shadow AS shadow
WHERE collection = :collection;

-- name: save
-- Its state after a batch, in the transaction of the batch. What a person has asked for stays.
INSERT INTO _sync_shadow (
  collection, migration, scope, code_hash, state, cursor, rows_total, rows_read, rows_written, rows_dropped,
  batch_rows, batches, batches_undone, restore_point_id, facts, started_at, updated_at
)
VALUES (
  :collection, :migration, :scope, :code_hash, :state, :cursor, :rows_total, :rows_read, :rows_written, :rows_dropped,
  :batch_rows, :batches, :batches_undone, :restore_point_id, :facts, :started_at, :now
)
ON CONFLICT (collection) DO UPDATE SET
  state = excluded.state,
  cursor = excluded.cursor,
  rows_read = excluded.rows_read,
  rows_written = excluded.rows_written,
  rows_dropped = excluded.rows_dropped,
  batch_rows = excluded.batch_rows,
  batches = excluded.batches,
  batches_undone = excluded.batches_undone,
  restore_point_id = excluded.restore_point_id,
  facts = excluded.facts,
  updated_at = excluded.updated_at;

-- name: asked
-- What a person wants of the process that runs it.
SELECT asked
FROM _sync_shadow
WHERE collection = :collection;

-- name: ask
-- Tell the process that runs it to pause or to cancel.
UPDATE _sync_shadow
SET asked = :asked
WHERE collection = :collection;

-- name: progress
-- How far it is, for a process that waits.
SELECT state, rows_read, rows_total, updated_at
FROM _sync_shadow
WHERE collection = :collection;

-- name: remove
-- It is over; nothing is remembered of it.
DELETE FROM _sync_shadow
WHERE collection = :collection;

-- name: touched
-- Rows that somebody wrote meanwhile, oldest first.
SELECT touch_id, owner, row_key
FROM _sync_shadow_touched
WHERE collection = :collection
ORDER BY touch_id
LIMIT :rows_max;

-- name: touched_count
-- How many rows somebody wrote meanwhile, counted no further than needed.
SELECT count(*)
FROM (
  SELECT 1
  FROM _sync_shadow_touched
  WHERE collection = :collection
  LIMIT :rows_max
);

-- name: touch
-- This row has to be converted again, behind those that wait already.
INSERT INTO _sync_shadow_touched (collection, owner, row_key)
VALUES (:collection, :owner, :row_key);

-- name: is_touched
-- Does this row still wait, and was it not written once more since?
SELECT 1
FROM _sync_shadow_touched
WHERE touch_id = :touch_id;

-- name: untouch
-- It was converted as it is now; one that was written once more since has another number and stays.
DELETE FROM _sync_shadow_touched
WHERE touch_id = :touch_id;

-- name: made_count
-- How many rows of the new table a row became, where that is not one row of the same key.
SELECT count(*), count(made_key)
FROM _sync_shadow_made
WHERE collection = :collection
  AND owner IS :owner
  AND row_key IS :row_key;

-- name: made
-- The keys of those rows.
SELECT made_owner, made_key
FROM _sync_shadow_made
WHERE collection = :collection
  AND owner IS :owner
  AND row_key IS :row_key
  AND made_key IS NOT NULL;

-- name: made_by_another
-- Did another row become the row of this key?
SELECT 1
FROM _sync_shadow_made
WHERE collection = :collection
  AND made_owner IS :owner
  AND made_key IS :row_key
LIMIT 1;

-- name: remember_made
-- A row became this one; NULL: it was left out by rule.
INSERT INTO _sync_shadow_made (collection, owner, row_key, made_owner, made_key)
VALUES (:collection, :owner, :row_key, :made_owner, :made_key);

-- name: forget_made
-- What a row became is made anew.
DELETE FROM _sync_shadow_made
WHERE collection = :collection
  AND owner IS :owner
  AND row_key IS :row_key;

-- name: set_aside
-- A row that cannot be converted, whole, with its reason.
INSERT INTO _sync_shadow_aside (collection, owner, row_key, body, error_code, error_text, field)
VALUES (:collection, :owner, :row_key, :body, :error_code, :error_text, :field);

-- name: forget_aside
-- A row that was set aside is tried again.
DELETE FROM _sync_shadow_aside
WHERE collection = :collection
  AND owner IS :owner
  AND row_key IS :row_key;

-- name: aside
-- The rows that were set aside, in the order of their keys, for quarantine.
SELECT owner, row_key, body, error_code, error_text, field
FROM _sync_shadow_aside
WHERE collection = :collection
ORDER BY owner, row_key;

-- name: first_aside
-- Some of them, to be named.
SELECT row_key, error_text, field
FROM _sync_shadow_aside
WHERE collection = :collection
ORDER BY owner, row_key
LIMIT :most;

-- name: forget_touches
-- A part of what is left of a rewriting that is over: the keys that were written meanwhile.
DELETE FROM _sync_shadow_touched
WHERE touch_id IN (
  SELECT touch_id
  FROM _sync_shadow_touched
  WHERE collection = :collection
  LIMIT :rows_max
);

-- name: forget_results
-- A part of what is left of it: what the rows became.
DELETE FROM _sync_shadow_made
WHERE rowid IN (
  SELECT rowid
  FROM _sync_shadow_made
  WHERE collection = :collection
  LIMIT :rows_max
);

-- name: forget_asides
-- A part of what is left of it: the rows that were set aside.
DELETE FROM _sync_shadow_aside
WHERE aside_id IN (
  SELECT aside_id
  FROM _sync_shadow_aside
  WHERE collection = :collection
  LIMIT :rows_max
);

-- name: keep_table
-- An old table stays until then; the past means that it goes at once.
INSERT INTO _sync_kept_table (table_name, collection, migration, ddl, kept_at, keep_until)
VALUES (:table_name, :collection, :migration, :ddl, :now, :keep_until);

-- name: kept_table
-- The table that a migration replaced, if it is still there.
SELECT table_name
FROM _sync_kept_table
WHERE collection = :collection
  AND migration = :migration
  AND keep_until > :now
ORDER BY kept_at DESC
LIMIT 1;

-- name: kept_ddl
-- The SQL of a kept table, its indexes and triggers, as they were.
SELECT ddl
FROM _sync_kept_table
WHERE table_name = :table_name;

-- name: kept_too_long
-- Old tables whose time is over.
SELECT table_name
FROM _sync_kept_table
WHERE keep_until <= :now
ORDER BY table_name;

-- name: forget_kept_table
-- It is gone.
DELETE FROM _sync_kept_table
WHERE table_name = :table_name;

-- name: forget_originals
-- What was kept of a row for the way back is kept anew.
DELETE FROM _sync_archive
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND migration = :migration;

-- name: forget_shape_before
-- The shape before a migration that did not come to its end.
DELETE FROM _sync_shape_before
WHERE collection = :collection
  AND migration = :migration;

-- name: forget_all_originals
-- A part of what was kept for the way back of a rewriting that did not come to its end.
DELETE FROM _sync_archive
WHERE (collection, owner, row_key, field, migration) IN (
  SELECT collection, owner, row_key, field, migration
  FROM _sync_archive
  WHERE collection = :collection
    AND migration = :migration
  LIMIT :rows_max
);
