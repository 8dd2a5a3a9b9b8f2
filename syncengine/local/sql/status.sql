-- What status() reads of the cloud; what it counts is in looks.sql.

-- name: network
-- The last verdict of the connectivity probe, as one user sees it; what the cloud has said to another is left out.
SELECT
  name,
  CASE
    WHEN value IN ('auth_required', 'rate_limited')
      AND :owner IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM _sync_drain AS d WHERE d.owner = :owner AND d.last_error = _sync_state.value)
      THEN CASE name WHEN 'probe_verdict' THEN 'online' ELSE 'backend_answered' END
    ELSE value
  END
FROM _sync_state
WHERE name IN ('probe_verdict', 'probe_reason', 'probe_at');

-- name: drain
-- How a user's queue gets on.
SELECT attempts, last_success_at, next_try_at, last_error
FROM _sync_drain
WHERE owner = :owner;
