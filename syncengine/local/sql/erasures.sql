-- What migrations have erased, and what of it may still lie in the store's files.

-- name: note
-- Something was erased, in the transaction that erased it; what is queued or set aside and was not converted is as before.
INSERT INTO _sync_erasure (migration, scope, collections, entries, items, erased_at, cleared_at)
VALUES (
  :migration, :scope, :collections,
  (
    SELECT json_group_array(entry_id)
    FROM _sync_outbox
    WHERE set_json IS NOT NULL
      AND shape_version <> :converted
      AND collection IN (SELECT value FROM json_each(:collections))
  ),
  (
    SELECT json_group_array(item_id)
    FROM _sync_quarantine
    WHERE resolution IS NULL
      AND shape_version IS NOT :converted
      AND collection IN (SELECT value FROM json_each(:collections))
  ),
  :now, :cleared_at
);

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
-- A whole row that has no number yet, and was not converted, is read anew when it is sent: in its new shape.
UPDATE _sync_outbox
SET set_json = NULL,
    shape_version = :shape_version
WHERE shape_version <> :converted
  AND collection IN (SELECT value FROM json_each(:collections))
  AND kind = 'put'
  AND state IN ('waiting', 'held')
  AND sequence IS NULL;

-- name: forget_before
-- What entries remember of the time before they were converted, or before their edit where they were not.
UPDATE _sync_outbox
SET original_json = NULL,
    before_json = CASE shape_version WHEN :converted THEN before_json END
WHERE collection IN (SELECT value FROM json_each(:collections))
  AND (before_json IS NOT NULL OR original_json IS NOT NULL);

-- name: forget_originals
-- The same of open items that were converted.
UPDATE _sync_quarantine
SET body = json_set(body, '$.original', NULL),
    body_original = NULL
WHERE origin = 'outbox'
  AND resolution IS NULL
  AND shape_version = :converted
  AND collection IN (SELECT value FROM json_each(:collections));

-- name: forget_conflicts
-- Which values lost against which; that there was a conflict stays.
UPDATE _sync_conflict
SET local_json = 'null',
    server_json = 'null'
WHERE collection IN (SELECT value FROM json_each(:collections));

-- name: blank_resolved
-- What was decided about, before or since, needs its old body no longer.
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
        OR (
          q.origin = 'outbox'
          AND CASE WHEN json_valid(q.body) THEN json_extract(q.body, '$.entry_id') END
            IN (SELECT value FROM json_each(e.entries))
        )
      )
  );

-- name: unfinished
-- What may still be in the files, oldest first.
SELECT erasure_id, cleared_at
FROM _sync_erasure
WHERE finished_at IS NULL
ORDER BY erasure_id;

-- name: on_their_way
-- How many of the entries that had old values are still in the outbox.
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
-- The file was written anew, after the last entry with old values had left.
UPDATE _sync_erasure
SET cleared_at = :now
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
SELECT q.item_id
FROM _sync_quarantine AS q
WHERE q.resolution IS NULL
  AND EXISTS (
    SELECT 1
    FROM _sync_erasure AS e
    JOIN json_each(e.collections) AS c
    WHERE c.value = q.collection
      AND e.scope = 'store'
      AND (
        q.item_id IN (SELECT value FROM json_each(e.items))
        OR q.shape_version IS NULL
        OR (
          q.origin = 'outbox'
          AND CASE WHEN json_valid(q.body) THEN json_extract(q.body, '$.entry_id') END
            IN (SELECT value FROM json_each(e.entries))
        )
      )
  )
ORDER BY q.item_id;

-- name: open_items
-- How many items of these collections wait in quarantine.
SELECT count(*)
FROM _sync_quarantine
WHERE resolution IS NULL
  AND collection IN (SELECT value FROM json_each(:collections));
