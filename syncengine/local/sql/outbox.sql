-- The outbox: what must still reach the cloud, in the order in which it was written.

-- name: advance_groups
-- Raise the group counter, so that what follows is another group; the counter after it.
INSERT INTO _sync_state (name, value)
VALUES ('group_counter', :count)
ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + :count AS TEXT)
RETURNING CAST(value AS INTEGER);

-- name: cut_into_groups
-- Give the entries that one transaction wrote to as many groups as their number needs.
UPDATE _sync_outbox
SET group_id = group_id + (entry_id - :after - 1) / :entries_max
WHERE entry_id > :after;

-- name: collection
-- Where the key and the owner of a synced collection stand, and the shape of its rows.
SELECT key_column, owner_column, shape_version
FROM _sync_collection
WHERE name = :collection
  AND owner_column IS NOT NULL;

-- name: synced_collections
-- Every collection whose rows are sent.
SELECT name, key_column, owner_column
FROM _sync_collection
WHERE owner_column IS NOT NULL
ORDER BY name;

-- name: append_barrier
-- Queue one step of an online migration, behind everything that is queued.
INSERT INTO _sync_outbox (
  owner, kind, collection, row_key, shape_version, group_id, migration, barrier_json, created_at
)
VALUES (
  :owner, 'migration', '', '',
  coalesce((SELECT schema_version FROM _sync_version WHERE scope = 'store'), '0.0.0'),
  :group_id, :migration, :barrier_json, :now
);

-- name: entry
-- One entry by its local id.
SELECT
  entry_id, owner, sequence, epoch, kind, collection, row_key, set_json, before_json, base_version,
  shape_version, original_json, group_id, migration, barrier_json, state, held_by, attempts, last_error, created_at
FROM _sync_outbox
WHERE entry_id = :entry_id;

-- name: entries
-- The oldest entries of one queue, or of all, for people to look at.
SELECT
  entry_id, owner, sequence, epoch, kind, collection, row_key, set_json, before_json, base_version,
  shape_version, original_json, group_id, migration, barrier_json, state, held_by, attempts, last_error, created_at
FROM _sync_outbox
WHERE :owner IS NULL
   OR owner = :owner
ORDER BY entry_id
LIMIT :entries_max;

-- name: claimed
-- The oldest entries that have a number: they may or may not be at the cloud.
SELECT
  entry_id, owner, sequence, epoch, kind, collection, row_key, set_json, before_json, base_version,
  shape_version, original_json, group_id, migration, barrier_json, state, held_by, attempts, last_error, created_at
FROM _sync_outbox
WHERE owner = :owner
  AND state = 'claimed'
  AND sequence > :after
ORDER BY sequence
LIMIT :entries_max;

-- name: waiting
-- One page of what has no number yet, in the order of writing.
SELECT
  entry_id, owner, sequence, epoch, kind, collection, row_key, set_json, before_json, base_version,
  shape_version, original_json, group_id, migration, barrier_json, state, held_by, attempts, last_error, created_at
FROM _sync_outbox
WHERE owner = :owner
  AND state = 'waiting'
  AND entry_id > :after
ORDER BY entry_id
LIMIT :entries_max;

-- name: waiting_keys
-- The keys of one page of what has no number yet.
SELECT entry_id, row_key
FROM _sync_outbox
WHERE owner = :owner
  AND state = 'waiting'
  AND entry_id > :after
ORDER BY entry_id
LIMIT :entries_max;

-- name: waiting_keys_as_bytes
-- The same where a key is not UTF-8, which cannot be read as text.
SELECT entry_id, CAST(row_key AS BLOB)
FROM _sync_outbox
WHERE owner = :owner
  AND state = 'waiting'
  AND entry_id > :after
ORDER BY entry_id
LIMIT :entries_max;

-- name: rename_key
-- Give an entry that goes to quarantine a key that can be read.
UPDATE _sync_outbox
SET row_key = :row_key
WHERE entry_id = :entry_id;

-- name: barriers
-- The steps of online migrations that are queued, oldest first; found by the index on rows, for they name none.
SELECT entry_id, state, barrier_json
FROM _sync_outbox
WHERE collection = ''
  AND owner = :owner
  AND kind = 'migration'
ORDER BY entry_id;

-- name: number
-- Give an entry its number and freeze what will be sent under it.
UPDATE _sync_outbox
SET sequence = :sequence,
    epoch = :epoch,
    state = :state,
    kind = :kind,
    set_json = :set_json,
    barrier_json = :barrier_json
WHERE entry_id = :entry_id;

-- name: put_back
-- An entry without a number waits again, with this barrier state.
UPDATE _sync_outbox
SET sequence = NULL,
    epoch = NULL,
    state = :state,
    barrier_json = :barrier_json
WHERE entry_id = :entry_id;

-- name: by_sequence
-- The claimed entry that was sent under a number, if it is still here.
SELECT
  entry_id, owner, sequence, epoch, kind, collection, row_key, set_json, before_json, base_version,
  shape_version, original_json, group_id, migration, barrier_json, state, held_by, attempts, last_error, created_at
FROM _sync_outbox
WHERE owner = :owner
  AND epoch = :epoch
  AND sequence = :sequence
  AND state = 'claimed';

-- name: delete
-- The entry has left the outbox: it is at the cloud, or whole in quarantine.
DELETE FROM _sync_outbox
WHERE entry_id = :entry_id;

-- name: make_void
-- Keep the number of an entry whose body went to quarantine: the server expects every number.
UPDATE _sync_outbox
SET kind = 'void',
    set_json = NULL,
    before_json = NULL,
    original_json = NULL,
    barrier_json = NULL
WHERE entry_id = :entry_id;

-- name: count_attempt
-- The backend could not take this entry when it was sent alone.
UPDATE _sync_outbox
SET attempts = attempts + 1,
    last_error = :error_code
WHERE entry_id = :entry_id;

-- name: unnumber
-- Claimed entries of an ended epoch wait again; their bodies stay as they were frozen.
UPDATE _sync_outbox
SET sequence = NULL,
    epoch = NULL,
    state = :state
WHERE owner = :owner
  AND state = 'claimed'
  AND kind <> 'void';

-- name: drop_voids
-- In a new epoch there is no number to keep.
DELETE FROM _sync_outbox
WHERE owner = :owner
  AND kind = 'void';

-- name: remember_version
-- The version that the server gave to a row of ours.
INSERT INTO _sync_row (collection, owner, row_key, version, shape_version)
VALUES (:collection, :owner, :row_key, :version, :shape_version)
ON CONFLICT (collection, owner, row_key) DO UPDATE SET
  version = excluded.version,
  shape_version = excluded.shape_version
WHERE excluded.version > version;

-- name: forget_version
-- The row is deleted at the server.
DELETE FROM _sync_row
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key;

-- name: hold_row
-- Entries of a row that were written after a quarantined or held one wait behind it; their groups, and which they are.
UPDATE _sync_outbox
SET state = :state,
    held_by = :item_id
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND entry_id > :after
  AND state = 'waiting'
RETURNING entry_id, kind, collection, row_key, group_id, json_extract(barrier_json, '$.collections');

-- name: hold_group
-- The other members of a group wait too: a local transaction arrives whole.
UPDATE _sync_outbox
SET state = :state,
    held_by = :item_id
WHERE owner = :owner
  AND group_id = :group_id
  AND state = 'waiting'
RETURNING entry_id, kind, collection, row_key, group_id, json_extract(barrier_json, '$.collections');

-- name: hold_behind_barrier
-- What an online migration held back, and all later ones, wait for the person who looks at its quarantine item.
UPDATE _sync_outbox
SET state = :state,
    held_by = :item_id
WHERE owner = :owner
  AND entry_id > :after
  AND state = 'waiting'
  AND (
    kind = 'migration'
    OR collection IN (SELECT value FROM json_each(:collections))
  )
RETURNING entry_id, kind, collection, row_key, group_id, json_extract(barrier_json, '$.collections');

-- name: release
-- What waited behind a quarantine item waits for its turn again.
UPDATE _sync_outbox
SET state = :state,
    held_by = NULL
WHERE held_by = :item_id;

-- name: counts
-- How many entries of one queue, or of all, are in each state.
SELECT state, count(*)
FROM _sync_outbox
WHERE :owner IS NULL
   OR owner = :owner
GROUP BY state;

-- name: sendable
-- How many entries of one queue wait for nothing but the cloud.
SELECT count(*)
FROM _sync_outbox
WHERE owner = :owner
  AND state IN ('waiting', 'claimed');

-- name: oldest_at
-- Since when the oldest entry waits.
SELECT min(created_at)
FROM _sync_outbox
WHERE :owner IS NULL
   OR owner = :owner;

-- name: newest
-- A number that grows with every entry that is written.
SELECT coalesce(max(seq), 0)
FROM sqlite_sequence
WHERE name = '_sync_outbox';
