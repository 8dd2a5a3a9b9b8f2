-- What status() reads.

-- name: outbox
-- How many entries are in each state, and since when.
SELECT state, count(*), strftime('%Y-%m-%dT%H:%M:%fZ', min(created_ms) / 1000.0, 'unixepoch')
FROM _sync_outbox
GROUP BY state;

-- name: confirmed
-- How many entries of this device took effect at the cloud.
SELECT coalesce(sum(confirmed_count), 0)
FROM _sync_drain;

-- name: quarantined
-- How many items nobody has resolved.
SELECT count(*)
FROM _sync_quarantine
WHERE resolution IS NULL;

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

-- name: reading
-- Whether a user's rows were read to the end, and when a page came last.
SELECT at_head, updated_at
FROM _sync_cursor
WHERE owner = :owner;

-- name: parked
-- How many rows from the cloud cannot be taken yet.
SELECT count(*)
FROM _sync_parked;

-- name: conflicts
-- How many fields are remembered as changed on both sides.
SELECT count(*)
FROM _sync_conflict;
