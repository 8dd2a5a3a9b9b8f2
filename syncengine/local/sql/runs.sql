-- The run history of migrations, and which legacy stores were taken in.

-- name: record
-- One attempt, when it ends.
INSERT INTO _sync_run (
  migration, scope, from_version, to_version, code_hash, state, method, restore_point_id, probe_verdict,
  rows_read, rows_written, rows_merged, rows_dropped, rows_quarantined,
  entries_read, entries_converted, entries_quarantined, batches, batches_undone,
  started_at, ended_at, duration_ms, error_code, error_text, warnings
)
VALUES (
  :migration, :scope, :from_version, :to_version, :code_hash, :state, :method, :restore_point_id, :probe_verdict,
  :rows_read, :rows_written, :rows_merged, :rows_dropped, :rows_quarantined,
  :entries_read, :entries_converted, :entries_quarantined, :batches, :batches_undone,
  :started_at, :ended_at, :duration_ms, :error_code, :error_text, :warnings
);

-- name: in_state
-- The runs of one scope that ended in one state, oldest first; none that was rolled back since.
SELECT migration, rows_read, started_at
FROM _sync_run AS r
WHERE scope = :scope
  AND state = :state
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_run AS undone
    WHERE undone.migration = r.migration
      AND undone.scope = r.scope
      AND undone.state = 'rolled_back'
      AND undone.run_id > r.run_id
  )
ORDER BY run_id;

-- name: history
-- Every attempt, oldest first.
SELECT
  scope, migration, state, ended_at,
  rows_read, rows_written, rows_merged, rows_dropped, rows_quarantined, duration_ms
FROM _sync_run
ORDER BY run_id;

-- name: source_taken_by
-- Who has imported this legacy store with this migration.
SELECT imported_by
FROM _sync_source
WHERE source = :source
  AND migration = :migration;

-- name: take_source
-- Record that a legacy store was imported, and for whom.
INSERT INTO _sync_source (source, migration, imported_by, imported_at)
VALUES (:source, :migration, :imported_by, :now)
ON CONFLICT (source, migration) DO NOTHING;

-- name: collections
-- What is known of each collection.
SELECT name, key_column, owner_column, shape_version, fingerprint
FROM _sync_collection;

-- name: write_collection
-- A collection's shape has moved; its table as it is now is what later starts compare with.
INSERT INTO _sync_collection (name, key_column, owner_column, shape_version, fingerprint, ddl)
SELECT
  :name, :key_column, :owner_column, :shape_version, :fingerprint,
  json_group_array(json_array(part.kind, part.name, part.said))
FROM (
  SELECT type AS kind, name, sql AS said
  FROM sqlite_schema
  WHERE tbl_name = :name
    AND sql IS NOT NULL
    AND name NOT GLOB '_sync_*'
  UNION ALL
  SELECT 'column', name, printf('%s %d %s %d %d', type, "notnull", ifnull(dflt_value, ''), pk, hidden)
  FROM pragma_table_xinfo(:name)
) AS part
WHERE true
ON CONFLICT (name) DO UPDATE SET
  key_column = excluded.key_column,
  owner_column = excluded.owner_column,
  shape_version = excluded.shape_version,
  fingerprint = excluded.fingerprint,
  ddl = excluded.ddl;

-- name: shape_version
-- The version that last changed a collection's shape.
SELECT shape_version
FROM _sync_collection
WHERE name = :name;

-- name: has_unconfirmed
-- 1 while an entry of an online migration has not been confirmed. Those that have no number come first in the index.
SELECT EXISTS (
  SELECT 1
  FROM _sync_outbox
  WHERE owner = :owner
    AND migration = :migration
);

-- name: entries_refused
-- How many entries of an online migration lie open in quarantine.
SELECT count(*)
FROM _sync_quarantine
WHERE origin = 'outbox'
  AND migration = :migration
  AND owner = :owner
  AND resolution IS NULL;

-- name: read_so_far
-- How often an import has run to its end, and how many rows it has read in all.
SELECT count(*), coalesce(sum(rows_read), 0)
FROM _sync_run
WHERE migration = :migration
  AND scope = :scope
  AND state = 'completed';
