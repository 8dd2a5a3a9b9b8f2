-- What the `syncengine` command and status() read when they only look; mostly the store's own views.

-- name: queue
-- How full the outbox of a user is, or of all, and what the others have not sent.
SELECT
  count(*) FILTER (WHERE mine AND state = 'waiting'),
  count(*) FILTER (WHERE mine AND state = 'claimed'),
  count(*) FILTER (WHERE mine AND state = 'held'),
  strftime('%Y-%m-%dT%H:%M:%fZ', min(created_ms) FILTER (WHERE mine) / 1000.0, 'unixepoch'),
  count(*) FILTER (WHERE NOT mine AND state IN ('waiting', 'claimed', 'held'))
FROM (SELECT state, created_ms, :user IS NULL OR owner = :user AS mine FROM _sync_outbox);

-- name: drain
-- How sending gets on.
SELECT
  coalesce(sum(confirmed_count), 0), coalesce(max(attempts), 0), max(last_success_at), min(next_try_at),
  max(last_error)
FROM _sync_drain
WHERE :user IS NULL OR owner = :user;

-- name: quarantined
-- How many items nobody has resolved; those of nobody are everybody's.
SELECT count(*)
FROM _sync_quarantine
WHERE resolution IS NULL
  AND (:user IS NULL OR owner IS NULL OR owner = :user);

-- name: history
-- The newest runs, newest first; their warnings as a JSON list.
SELECT
  h.run, h.migration, h.scope, h.hop, h.state, h."read", h.written, h.merged, h.dropped, h.quarantined,
  r.warnings, h.ms, h.ended_at, h.error, r.error_text
FROM migration_history AS h
JOIN _sync_run AS r ON r.run_id = h.run
WHERE :user IS NULL OR h.scope IN ('store', 'user:' || :user)
ORDER BY h.run DESC
LIMIT :rows_max;

-- name: outbox
-- What waits, in order, and why.
SELECT entry, owner, kind, what, "key", state, sequence, shape, since, waits
FROM sync_outbox
WHERE :user IS NULL OR owner = :user
ORDER BY entry
LIMIT :rows_max;

-- name: reading
-- Whether the rows of a user, or of all, were read to the end, and what of them needs a look.
SELECT
  (SELECT min(at_head) FROM _sync_cursor WHERE :user IS NULL OR owner = :user),
  (SELECT max(updated_at) FROM _sync_cursor WHERE :user IS NULL OR owner = :user),
  (SELECT count(*) FROM _sync_parked WHERE :user IS NULL OR owner = :user),
  (SELECT count(*) FROM _sync_conflict WHERE :user IS NULL OR owner = :user);

-- name: conflicts
-- Fields that were changed on both sides, newest first, without their values.
SELECT conflict, owner, collection, "key", field, winner, policy, since
FROM sync_conflicts
WHERE :user IS NULL OR owner = :user
ORDER BY conflict DESC
LIMIT :rows_max;

-- name: parked
-- What came from the cloud and cannot be taken yet.
SELECT parked, owner, collection, "key", shape, reason, since
FROM sync_parked
WHERE :user IS NULL OR owner = :user
ORDER BY parked
LIMIT :rows_max;

-- name: quarantine
-- What was set aside, without the rows themselves; what waits for a person first.
SELECT item, origin, migration, owner, collection, "key", field, error, since, resolution, reason
FROM sync_quarantine
WHERE (:resolved OR resolution IS NULL)
  AND (:user IS NULL OR owner IS NULL OR owner = :user)
ORDER BY resolution IS NOT NULL, item
LIMIT :rows_max;

-- name: item
-- One item, whole.
SELECT
  item_id, origin, migration, owner, collection, row_key, field, error_code, error_text, shape_version, attempts,
  resolution, created_at, resolved_at, note, body
FROM _sync_quarantine
WHERE item_id = :item;

-- name: under_way
-- Large collections that are being rewritten.
SELECT collection, state, rows_read, rows_total
FROM _sync_shadow
ORDER BY collection;

-- name: kept_tables
-- Old tables that stay for a while, and until when.
SELECT table_name, keep_until
FROM _sync_kept_table
ORDER BY table_name;

-- name: collections
-- What is declared to have a table.
SELECT name
FROM _sync_collection
ORDER BY name;

-- name: loose_tables
-- The app's tables that no collection has, and no migration keeps or fills.
SELECT t.name
FROM pragma_table_list AS t
WHERE t.schema = 'main'
  AND t.type IN ('table', 'virtual')
  AND t.name NOT GLOB '_sync_*'
  AND t.name NOT GLOB 'sqlite_*'
  AND NOT EXISTS (SELECT 1 FROM _sync_collection AS c WHERE c.name = t.name COLLATE NOCASE)
  AND NOT EXISTS (SELECT 1 FROM _sync_kept_table AS k WHERE k.table_name = t.name COLLATE NOCASE)
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_collection AS c
    WHERE t.name IN (c.name || '_new_', c.name || '_late_', c.name || '_live_')
  )
ORDER BY t.name;
