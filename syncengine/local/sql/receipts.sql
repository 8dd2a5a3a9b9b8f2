-- Where a queued change is, and why a row is not at the cloud.

-- name: note_end
-- An entry, with those that travel in it, leaves the outbox by what came from the cloud.
INSERT INTO _sync_receipt (entry_id, owner, collection, row_key, ended, ended_at)
SELECT entry_id, owner, collection, row_key, :ended, :now
FROM _sync_outbox
WHERE (entry_id = :entry_id AND state <> 'claimed')
   OR (
     owner = (SELECT owner FROM _sync_outbox WHERE entry_id = :entry_id)
     AND epoch IS NULL
     AND sequence IS NULL
     AND squashed_into IS NOT NULL
     AND ifnull(squashed_into, 0) = :entry_id
   )
ON CONFLICT (entry_id) DO UPDATE SET
  ended = excluded.ended,
  ended_at = excluded.ended_at;

-- name: note_restored
-- The cloud was restored from an older copy: what it had confirmed by now, it may have lost. What is queued, it has not.
INSERT INTO _sync_receipt (entry_id, owner, collection, row_key, ended, ended_at)
SELECT entry_id, owner, collection, row_key, 'queued', :now
FROM _sync_outbox
WHERE true
ON CONFLICT (entry_id) DO NOTHING;
INSERT INTO _sync_state (name, value)
VALUES ('confirmed_before_restore', (SELECT CAST(entry_id AS TEXT) FROM _sync_newest_entry))
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: prune
-- What ended long ago.
DELETE FROM _sync_receipt
WHERE ended_at < :before;

-- name: entry
-- One entry of the outbox.
SELECT entry_id, owner, kind, collection, row_key, state, sequence, squashed_into, held_by, last_error, attempts,
       migration, strftime('%Y-%m-%dT%H:%M:%fZ', created_ms / 1000.0, 'unixepoch')
FROM _sync_outbox
WHERE entry_id = :entry_id;

-- name: item_of_entry
-- The newest quarantine item that holds an entry.
SELECT item_id, owner, collection, row_key, error_text, resolution, created_at
FROM _sync_quarantine
WHERE origin = 'outbox'
  AND CASE WHEN json_valid(body) THEN json_extract(body, '$.entry_id') END = :entry_id
ORDER BY item_id DESC
LIMIT 1;

-- name: end_of_entry
-- How an entry left the outbox by what came from the cloud, and the quarantine item that its row went to.
SELECT r.ended, r.owner, r.collection, r.row_key, r.ended_at, q.item_id, q.error_text, q.resolution
FROM _sync_receipt AS r
LEFT JOIN _sync_quarantine AS q
  ON r.ended = 'set_aside'
  AND q.origin = 'pull'
  AND q.owner = r.owner
  AND q.collection = r.collection
  AND q.row_key = r.row_key
WHERE r.entry_id = :entry_id
ORDER BY q.item_id DESC
LIMIT 1;

-- name: newest
-- The number of the newest entry, up to where nothing is known of those gone, and up to where the cloud may have lost them.
SELECT
  (SELECT entry_id FROM _sync_newest_entry),
  coalesce((SELECT CAST(value AS INTEGER) FROM _sync_state WHERE name = 'receipts_end'), 0),
  coalesce((SELECT CAST(value AS INTEGER) FROM _sync_state WHERE name = 'confirmed_before_restore'), 0);

-- name: collection
-- How a collection is recorded.
SELECT key_column, owner_column, shape_version
FROM _sync_collection
WHERE name = :collection;

-- name: entries_of_row
-- What is queued of a row, in order; what is in no index yet is looked through.
SELECT entry_id
FROM _sync_outbox
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND fresh IS NULL
UNION ALL
SELECT entry_id
FROM _sync_outbox
WHERE entry_id > coalesce((SELECT CAST(value AS INTEGER) FROM _sync_state WHERE name = 'filed_to'), 0)
  AND +collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND fresh IS NOT NULL
ORDER BY entry_id;

-- name: items_of_row
-- What of a row waits in quarantine.
SELECT item_id, origin, error_code, error_text
FROM _sync_quarantine
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND resolution IS NULL
ORDER BY item_id;

-- name: parked_of_row
-- What came of a row and cannot be read here yet.
SELECT reason, shape_version, parked_at
FROM _sync_parked
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key;

-- name: conflicts_of_row
-- Fields of a row that both sides changed, and who won.
SELECT field, winner, policy, created_at
FROM _sync_conflict
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key
ORDER BY conflict_id;

-- name: at_cloud
-- What the cloud is known to have of a row.
SELECT version, deleted
FROM _sync_row
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key;

-- name: barrier_before
-- The first step of an online migration that holds an entry back.
SELECT o.migration
FROM _sync_outbox AS o
WHERE o.owner = :owner
  AND o.collection = ''
  AND o.kind = 'migration'
  AND o.fresh IS NULL
  AND o.entry_id < :entry_id
  AND EXISTS (
    SELECT 1
    FROM json_each(o.barrier_json, '$.collections') AS c
    WHERE c.value = :collection
  )
ORDER BY o.entry_id
LIMIT 1;

-- name: ahead
-- How many entries of a queue go before this one.
SELECT
  (
    SELECT count(*)
    FROM _sync_outbox
    WHERE owner = :owner
      AND state IN ('waiting', 'claimed')
      AND fresh IS NULL
      AND entry_id < :entry_id
  ) + (
    SELECT count(*)
    FROM _sync_outbox
    WHERE entry_id > coalesce((SELECT CAST(value AS INTEGER) FROM _sync_state WHERE name = 'filed_to'), 0)
      AND entry_id < :entry_id
      AND owner = :owner
      AND state IN ('waiting', 'claimed')
      AND fresh IS NOT NULL
  );

-- name: waits_of_queue
-- Whether a user's queue rests after failures, until when, if that is not over, and why.
SELECT attempts, CASE WHEN next_try_at > :now THEN next_try_at END, last_error
FROM _sync_drain
WHERE owner = :owner;

-- name: collections
-- Every collection, whether it is synced, and its shape.
SELECT name, owner_column IS NOT NULL, shape_version
FROM _sync_collection
ORDER BY name;

-- name: cursors
-- Where each user's reading stands.
SELECT owner, cursor, resync, updated_at
FROM _sync_cursor
ORDER BY owner;

-- name: written_since
-- Of which collections entries are queued that were written since one, and how many.
SELECT collection, count(*)
FROM _sync_outbox
WHERE entry_id > :after
GROUP BY collection;
