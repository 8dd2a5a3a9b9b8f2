-- What migrations have erased, and what of it may still lie in the store's files.

-- name: note
-- Something was erased, in the transaction that erased it; the entries that are on their way with old values.
INSERT INTO _sync_erasure (migration, scope, collections, entries, erased_at, cleared_at)
SELECT :migration, :scope, :collections, json_group_array(entry_id), :now, :cleared_at
FROM _sync_outbox
WHERE set_json IS NOT NULL
  AND collection IN (SELECT value FROM json_each(:collections));

-- name: begin
-- The next start looks for what is left.
INSERT INTO _sync_state (name, value)
VALUES ('erasing', '1')
ON CONFLICT (name) DO NOTHING;

-- name: forget_archive
-- Values that migrations took away and kept; of one user, or of one row, where one is named.
DELETE FROM _sync_archive
WHERE collection IN (SELECT value FROM json_each(:collections))
  AND (:owner IS NULL OR owner = :owner)
  AND (:row_key IS NULL OR row_key = :row_key);

-- name: end_kept_tables
-- Old tables of these collections go at once.
UPDATE _sync_kept_table
SET keep_until = :past
WHERE collection IN (SELECT value FROM json_each(:collections));

-- name: unfreeze_puts
-- A whole row that has no number yet is read anew when it is sent: in its new shape.
UPDATE _sync_outbox
SET set_json = NULL,
    shape_version = :shape_version
WHERE collection IN (SELECT value FROM json_each(:collections))
  AND kind = 'put'
  AND state IN ('waiting', 'held')
  AND sequence IS NULL;

-- name: forget_before
-- What entries remember of the time before their edit, or before they were converted.
UPDATE _sync_outbox
SET before_json = NULL,
    original_json = NULL
WHERE collection IN (SELECT value FROM json_each(:collections))
  AND (before_json IS NOT NULL OR original_json IS NOT NULL);

-- name: forget_conflicts
-- Which values lost against which; that there was a conflict stays.
UPDATE _sync_conflict
SET local_json = 'null',
    server_json = 'null'
WHERE collection IN (SELECT value FROM json_each(:collections));

-- name: blank_resolved
-- What was decided about before, or since, needs its old body no longer.
UPDATE _sync_quarantine AS q
SET body = '',
    body_original = NULL
WHERE q.resolution IS NOT NULL
  AND q.body <> ''
  AND EXISTS (
    SELECT 1
    FROM _sync_erasure AS e
    JOIN json_each(e.collections) AS c
    WHERE c.value = q.collection
      AND e.scope = 'store'
      AND (
        q.created_at <= e.erased_at
        OR q.shape_version IS NULL
        OR CASE WHEN q.origin = 'outbox' THEN json_extract(q.body, '$.created_at') <= e.erased_at END
      )
  );

-- name: unfinished
-- What may still be in the files, oldest first.
SELECT erasure_id, cleared_at, entries
FROM _sync_erasure
WHERE finished_at IS NULL
ORDER BY erasure_id;

-- name: on_their_way
-- How many of the entries that held old values have not arrived.
SELECT count(*)
FROM _sync_outbox
WHERE set_json IS NOT NULL
  AND entry_id IN (
    SELECT entry.value
    FROM _sync_erasure AS e
    JOIN json_each(e.entries) AS entry
    WHERE e.finished_at IS NULL
  );

-- name: cleared
-- The file was written anew. Entries that are on their way will leave old bytes once more.
UPDATE _sync_erasure
SET cleared_at = :now,
    entries = CASE WHEN :are_on_their_way THEN entries ELSE '[]' END
WHERE finished_at IS NULL
  AND erasure_id <= :newest;

-- name: finished
-- Nothing is left in the files.
UPDATE _sync_erasure
SET finished_at = :now
WHERE finished_at IS NULL
  AND erasure_id <= :newest;

-- name: end
-- Starts need not look any more.
DELETE FROM _sync_state
WHERE name = 'erasing'
  AND NOT EXISTS (SELECT 1 FROM _sync_erasure WHERE finished_at IS NULL);

-- name: is_erasing
-- 1 while something that was erased may lie in the files.
SELECT EXISTS (SELECT 1 FROM _sync_state WHERE name = 'erasing');

-- name: outstanding
-- The migrations whose erasure is not finished.
SELECT DISTINCT migration
FROM _sync_erasure
WHERE finished_at IS NULL
ORDER BY migration;

-- name: with_old_values
-- Open quarantine items that hold values from before an erasure.
SELECT q.item_id, q.collection
FROM _sync_quarantine AS q
WHERE q.resolution IS NULL
  AND EXISTS (
    SELECT 1
    FROM _sync_erasure AS e
    JOIN json_each(e.collections) AS c
    WHERE c.value = q.collection
      AND e.scope = 'store'
      AND (
        q.created_at <= e.erased_at
        OR q.shape_version IS NULL
        OR CASE WHEN q.origin = 'outbox' THEN json_extract(q.body, '$.created_at') <= e.erased_at END
      )
  )
ORDER BY q.item_id;

-- name: open_items
-- How many items of these collections wait in quarantine.
SELECT count(*)
FROM _sync_quarantine
WHERE resolution IS NULL
  AND collection IN (SELECT value FROM json_each(:collections));
