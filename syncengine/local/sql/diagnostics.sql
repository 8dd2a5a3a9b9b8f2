-- What a report about a store tells: counts, names and times. No statement here reads the contents of a row.

-- name: facts
-- Small facts that name nobody.
SELECT name, value
FROM _sync_state
WHERE name IN ('app', 'engine_schema', 'upgraded_at', 'probe_verdict', 'probe_reason', 'probe_at', 'schema_cookie');

-- name: scopes
-- The version table.
SELECT scope, schema_version, cloud_version, app_version, updated_at
FROM _sync_version
ORDER BY scope;

-- name: collections
-- How each collection is known.
SELECT name, key_column, owner_column, shape_version, fingerprint, merge_policy
FROM _sync_collection
ORDER BY name;

-- name: schema
-- Everything that was made, as it was said.
SELECT type, name, tbl_name, sql
FROM sqlite_schema
ORDER BY type, name;

-- name: tables
-- The tables whose rows are counted.
SELECT name
FROM sqlite_schema
WHERE type = 'table'
ORDER BY name;

-- name: history
-- The newest runs.
SELECT
  run_id, migration, scope, from_version, to_version, state, method, restore_point_id, probe_verdict,
  rows_read, rows_written, rows_merged, rows_dropped, rows_quarantined, batches, batches_undone,
  started_at, ended_at, duration_ms, error_code, error_text, json_array_length(warnings) AS warnings
FROM _sync_run
ORDER BY run_id DESC
LIMIT :rows_max;

-- name: quarantine
-- What was set aside, without what it is.
SELECT
  item_id, origin, migration, owner, collection, row_key, length(body) AS characters, error_code, error_text, field,
  attempts, resolution, created_at, resolved_at
FROM _sync_quarantine
ORDER BY item_id DESC
LIMIT :rows_max;

-- name: outbox
-- How much waits, by whose it is and what it is.
SELECT
  owner, collection, kind, migration, state, shape_version, count(*) AS entries, max(attempts) AS attempts,
  count(last_error) AS with_error,
  strftime('%Y-%m-%dT%H:%M:%fZ', min(created_ms) / 1000.0, 'unixepoch') AS oldest_at
FROM _sync_outbox
GROUP BY owner, collection, kind, migration, state, shape_version
ORDER BY min(entry_id)
LIMIT :rows_max;

-- name: sending
-- How each user's queue gets on.
SELECT
  owner, epoch, next_sequence, confirmed_sequence, confirmed_count, batch_entries_max, attempts, next_try_at,
  last_success_at, last_error
FROM _sync_drain
ORDER BY owner;

-- name: restore_points
-- The sealed copies.
SELECT restore_point_id, path, size_bytes, schema_version, rows, reason, made_at, verified_at, keep_until, gone_at
FROM _sync_restore_point
ORDER BY restore_point_id;

-- name: shadows
-- Collections that are being rewritten in many transactions.
SELECT
  collection, migration, scope, state, asked, rows_total, rows_read, rows_written, rows_dropped, batch_rows, batches,
  batches_undone, restore_point_id, started_at, updated_at
FROM _sync_shadow
ORDER BY collection;

-- name: kept_tables
-- Old tables that stay for a while.
SELECT table_name, collection, migration, kept_at, keep_until
FROM _sync_kept_table
ORDER BY table_name;

-- name: leases
-- Who has which right.
SELECT name, holder <> '' AS is_held, pid, fence
FROM _sync_lease
ORDER BY name;
