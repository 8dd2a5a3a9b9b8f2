-- One user of several on a device: what of theirs has not been sent, and what leaves when they do.

-- name: unsent_entries
-- How many changes of a user the cloud does not have for good, and since when. Not the engine's own steps.
SELECT count(*), strftime('%Y-%m-%dT%H:%M:%fZ', min(created_ms) / 1000.0, 'unixepoch')
FROM _sync_outbox
WHERE owner = :owner
  AND state <> 'squashed'
  AND kind IN ('put', 'patch', 'delete', 'changes');

-- name: unsent_items
-- How many things of a user wait in quarantine, and since when.
SELECT count(*), min(created_at)
FROM _sync_quarantine
WHERE owner = :owner
  AND resolution IS NULL;

-- name: changes
-- Each change of a user that was not sent; texts as bytes, for they may be no UTF-8.
-- The group is NULL where it is that of the entry before.
SELECT
  entry_id, kind, collection, CAST(row_key AS BLOB), CAST(set_json AS BLOB), CAST(before_json AS BLOB),
  CAST(original_json AS BLOB), shape_version,
  coalesce(
    group_id,
    CASE
      WHEN NOT EXISTS (SELECT 1 FROM _sync_outbox AS p WHERE p.entry_id = _sync_outbox.entry_id - 1 AND p.fresh = 1)
        THEN entry_id
    END
  ),
  state,
  strftime('%Y-%m-%dT%H:%M:%fZ', created_ms / 1000.0, 'unixepoch')
FROM _sync_outbox
WHERE owner = :owner
  AND state <> 'squashed'
  AND kind IN ('put', 'patch', 'delete', 'changes')
  AND entry_id > :after
ORDER BY entry_id
LIMIT :rows_max;

-- name: items
-- Each thing of a user that waits in quarantine, whole.
SELECT
  item_id, origin, migration, collection, CAST(row_key AS BLOB), CAST(body AS BLOB), CAST(body_original AS BLOB),
  shape_version, error_code, error_text, created_at
FROM _sync_quarantine
WHERE owner = :owner
  AND resolution IS NULL
  AND item_id > :after
ORDER BY item_id
LIMIT :rows_max;

-- name: parked
-- Each row of a user that came from the cloud and cannot be read here yet.
SELECT parked_id, collection, CAST(row_key AS BLOB), CAST(body AS BLOB), shape_version, version, reason, parked_at
FROM _sync_parked
WHERE owner = :owner
  AND parked_id > :after
ORDER BY parked_id
LIMIT :rows_max;

-- name: end_receipts
-- What is gone of the entries so far has left the queue without the cloud's answer.
INSERT INTO _sync_state (name, value)
VALUES ('receipts_end', (SELECT CAST(entry_id AS TEXT) FROM _sync_newest_entry))
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: forget_entries
-- The queue of a user.
UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
DELETE FROM _sync_outbox
WHERE owner = :owner;
UPDATE _sync_outbox
SET fresh = 2
WHERE fresh = 1
  AND entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND entry_id < (SELECT entry_id FROM _sync_last_entry);

-- name: forget_items
-- What of a user was set aside, decided about or not.
DELETE FROM _sync_quarantine
WHERE owner = :owner;

-- name: forget_receipts
-- What became of entries of a user.
DELETE FROM _sync_receipt
WHERE owner = :owner;

-- name: forget_rows
-- What the cloud is known to have of a user.
DELETE FROM _sync_row
WHERE owner = :owner;
DELETE FROM _sync_row_set
WHERE owner = :owner;

-- name: forget_cursor
-- Where the reading of a user's rows stands: the next sign-in reads from the start.
DELETE FROM _sync_cursor
WHERE owner = :owner;

-- name: forget_conflicts
-- What a user's devices disagreed about.
DELETE FROM _sync_conflict
WHERE owner = :owner;

-- name: forget_parked
-- What came for a user and cannot be read yet.
DELETE FROM _sync_parked
WHERE owner = :owner;

-- name: forget_archive
-- Values of a user that migrations took away and kept.
DELETE FROM _sync_archive
WHERE owner = :owner;

-- name: forget_made
-- What rows of a user became in large migrations.
DELETE FROM _sync_shadow_made
WHERE owner = :owner
   OR made_owner = :owner;

-- name: keep_epoch
-- A user's epoch without their name: whoever comes new to this device counts in a higher one.
INSERT INTO _sync_state (name, value)
SELECT 'wiped_epoch', CAST(epoch AS TEXT)
FROM _sync_drain
WHERE owner = :owner
ON CONFLICT (name) DO UPDATE SET value = excluded.value
WHERE CAST(excluded.value AS INTEGER) > CAST(_sync_state.value AS INTEGER);

-- name: forget_drain
-- How far a user's queue has got.
DELETE FROM _sync_drain
WHERE owner = :owner;

-- name: forget_version
-- Where a user's migrations stand.
DELETE FROM _sync_version
WHERE scope = :scope;

-- name: forget_runs
-- The history of a user's own migrations.
DELETE FROM _sync_run
WHERE scope = :scope;

-- name: blank_texts
-- What the history says in sentences may name keys of a user's rows.
UPDATE _sync_run
SET warnings = '[]',
    error_text = NULL,
    note = NULL
WHERE warnings <> '[]'
   OR error_text IS NOT NULL
   OR note IS NOT NULL;

-- name: stay
-- Since when a user is on this device, as the number of those who had been taken out by then; how many it is now.
SELECT
  (SELECT value FROM _sync_state WHERE name = 'stay of ' || :owner),
  coalesce((SELECT CAST(value AS INTEGER) FROM _sync_state WHERE name = 'takeouts'), 0);

-- name: begin_stay
-- Somebody works for a user from now on.
INSERT INTO _sync_state (name, value)
VALUES ('stay of ' || :owner, :takeouts)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: end_stay
-- A user is taken out; who works for them in another process has to hear of it.
DELETE FROM _sync_state
WHERE name = 'stay of ' || :owner;

-- name: count_takeout
-- One more was taken out.
INSERT INTO _sync_state (name, value)
VALUES ('takeouts', '1')
ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT);

-- name: forget_states
-- What a user has agreed to, and which code refused their rows.
DELETE FROM _sync_state
WHERE name = 'quarantine_code of ' || :owner
   OR (
     name LIKE 'agreed to %'
     AND substr(name, -length(' for ' || :scope)) = ' for ' || :scope
   );

-- name: disown_sources
-- A legacy store that was taken in for a user stays taken, so that nobody else gets it.
UPDATE _sync_source
SET imported_by = ''
WHERE imported_by = :owner;

-- name: disown_erasures
-- That something was erased for a user, without whom.
UPDATE _sync_erasure
SET scope = 'user:'
WHERE scope = :scope;

-- name: kept_tables
-- Old tables that are kept as a way back.
SELECT table_name, collection
FROM _sync_kept_table
ORDER BY table_name;

-- name: end_kept_table
-- Its rows have no owner that could be told apart, so it goes as a whole.
UPDATE _sync_kept_table
SET keep_until = '1970-01-01T00:00:00.000Z'
WHERE table_name = :table_name;

-- name: spare_restore_points
-- Restore points that hold nothing of a user have gone through the erasure that takes the others.
UPDATE _sync_restore_point
SET newest_erasure = :newest
WHERE newest_erasure = :before
  AND gone_at IS NULL
  AND restore_point_id IN (SELECT value FROM json_each(:spared));
