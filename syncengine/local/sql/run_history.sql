-- What the run history says to settings pages, and before a migration.

-- name: agreed
-- 1 when the user has agreed to a migration as its code is now, and nothing was taken back since.
SELECT EXISTS (
  SELECT 1
  FROM
    _sync_state AS s,
    json_each(CASE WHEN json_valid(s.value) THEN s.value ELSE '{}' END, '$.migrations') AS shown
  WHERE s.name = :name
    AND shown.key = :migration
    AND shown.value IS :code_hash
    AND json_extract(s.value, '$.at') > coalesce(
      (SELECT max(ended_at) FROM _sync_run WHERE state IN ('rolled_back', 'restored') AND scope IN ('store', :scope)),
      ''
    )
);

-- name: speed
-- How many rows migrations of this store have read, and in how many milliseconds.
SELECT coalesce(sum(rows_read), 0), coalesce(sum(duration_ms), 0)
FROM _sync_run
WHERE state = 'completed'
  AND rows_read > 0;

-- name: lines
-- Every attempt of these scopes, oldest first.
SELECT
  run_id, migration, scope, from_version, to_version, state, method,
  rows_read, rows_written, rows_merged, rows_dropped, rows_quarantined,
  started_at, ended_at, duration_ms, error_code, error_text, warnings
FROM _sync_run
WHERE scope IN ('store', :scope)
ORDER BY run_id;

-- name: last_states
-- How the last run of each of the store's migrations ended, and why.
SELECT migration, state, coalesce(error_text, error_code)
FROM _sync_run AS r
WHERE scope = 'store'
  AND run_id = (
    SELECT max(run_id)
    FROM _sync_run AS later
    WHERE later.migration = r.migration
      AND later.scope = r.scope
  );

-- name: failed
-- What failed when it ran last, of the store and of a user, or of all: migration, scope, why.
SELECT migration, scope, coalesce(error_text, error_code, 'for a reason that was not written down')
FROM _sync_run AS r
WHERE state = 'failed'
  AND (:scope IS NULL OR scope IN ('store', :scope))
  AND run_id = (
    SELECT max(run_id)
    FROM _sync_run AS later
    WHERE later.migration = r.migration
      AND later.scope = r.scope
  )
ORDER BY run_id;
