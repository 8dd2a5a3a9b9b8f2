-- How far each user's queue has got, and when to try again.

-- name: begin
-- Make sure that a user has a drain state, in an epoch that nobody who was wiped off this device has counted in.
INSERT INTO _sync_drain (owner, epoch, ended_epoch, batch_entries_max)
VALUES (:owner, :wiped_epoch + 1, :wiped_epoch, :entries_max)
ON CONFLICT (owner) DO NOTHING;

-- name: wiped_epoch
-- The highest epoch of all users who were wiped off this device; their names are forgotten.
SELECT CAST(value AS INTEGER)
FROM _sync_state
WHERE name = 'wiped_epoch';

-- name: get
-- One user's drain state.
SELECT epoch, next_sequence, confirmed_sequence, confirmed_count, batch_entries_max, attempts, next_try_at,
       last_success_at, last_error, ended_epoch, doubtful_to
FROM _sync_drain
WHERE owner = :owner;

-- name: take_sequences
-- Move the next number past those that were given out.
UPDATE _sync_drain
SET next_sequence = :next_sequence
WHERE owner = :owner;

-- name: confirm
-- Count what took effect; all below the first number that is still out is at the server for good.
UPDATE _sync_drain
SET confirmed_count = confirmed_count + :applied,
    confirmed_sequence = max(
      confirmed_sequence,
      coalesce(
        (SELECT min(o.sequence)
         FROM _sync_outbox AS o
         WHERE o.owner = _sync_drain.owner
           AND o.epoch = _sync_drain.epoch
           AND o.sequence IS NOT NULL),
        next_sequence
      ) - 1
    )
WHERE owner = :owner;

-- name: begin_epoch
-- Count from 1 again under a new epoch.
UPDATE _sync_drain
SET epoch = epoch + :step,
    next_sequence = 1,
    confirmed_sequence = 0
WHERE owner = :owner;

-- name: doubt
-- All that is queued by now may have been sent by another copy of this store.
UPDATE _sync_drain
SET doubtful_to = (SELECT entry_id FROM _sync_newest_entry)
WHERE owner = :owner;

-- name: has_doubtful
-- 1 while something is queued that another copy of this store may have sent.
SELECT EXISTS (
  SELECT 1
  FROM _sync_outbox AS o
  WHERE o.owner = :owner
    AND o.entry_id <= (SELECT d.doubtful_to FROM _sync_drain AS d WHERE d.owner = :owner)
);

-- name: end_epoch
-- What was numbered is destroyed: where it is on its way, it must have no effect any more.
UPDATE _sync_drain
SET ended_epoch = epoch
WHERE owner = :owner;

-- name: failed
-- Remember a failure and when to try again.
UPDATE _sync_drain
SET attempts = attempts + 1,
    next_try_at = :next_try_at,
    last_error = :error_code
WHERE owner = :owner;

-- name: answered
-- The cloud took something: no wait, no failures.
UPDATE _sync_drain
SET attempts = 0,
    next_try_at = NULL,
    last_error = NULL
WHERE owner = :owner;

-- name: succeeded
-- A round has done all that it could: no wait, no failures.
UPDATE _sync_drain
SET attempts = 0,
    next_try_at = NULL,
    last_error = NULL,
    last_success_at = :now
WHERE owner = :owner;

-- name: resize
-- How many entries the next batches hold.
UPDATE _sync_drain
SET batch_entries_max = :entries_max
WHERE owner = :owner;

-- name: cursor
-- Where a user's reading stands.
SELECT cursor
FROM _sync_cursor
WHERE owner = :owner;
