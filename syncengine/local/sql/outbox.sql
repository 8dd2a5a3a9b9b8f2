-- The outbox: what must still reach the cloud, in the order in which it was written.

-- name: advance_groups
-- Numbers for groups that the engine makes itself; the last of them.
-- They begin at 2^52, above every entry's number: a group that triggers have written has that of its first entry.
INSERT INTO _sync_state (name, value)
VALUES ('group_counter', :count)
ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + :count AS TEXT)
RETURNING 4503599627370496 + CAST(value AS INTEGER);

-- name: close_group
-- What triggers write from now on is another group.
UPDATE _sync_outbox
SET fresh = 2
WHERE entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND fresh = 1;

-- name: written_since
-- The newest entry, and whether what came behind an entry is in the indexes, at least in part.
SELECT entry_id, coalesce((SELECT CAST(value AS INTEGER) FROM _sync_state WHERE name = 'filed_to'), 0) > :after
FROM _sync_newest_entry;

-- name: bytes_since
-- How much of JSON is to be sent of what came behind an entry.
SELECT coalesce(sum(length(CAST(set_json AS BLOB))), 0)
FROM _sync_outbox
WHERE entry_id > :after;

-- name: part_from_older
-- What one transaction wrote is no part of the group of what was written before.
UPDATE _sync_outbox
SET fresh = 2
WHERE entry_id = :after
  AND fresh = 1;

-- name: name_group
-- What one transaction wrote is one group, where some of it has entered the indexes already.
UPDATE _sync_outbox
SET group_id = :after + 1
WHERE entry_id > :after;

-- name: cut_into_groups
-- Give the entries that one transaction wrote to as many groups as their number needs.
UPDATE _sync_outbox
SET group_id = :after + 1 + (entry_id - :after - 1) / :entries_max * :entries_max
WHERE entry_id > :after;

-- name: cut_group
-- Cut a group from an entry on, up to where another group begins; each part has the number of its first place.
UPDATE _sync_outbox
SET group_id = :first + (entry_id - :first) / :entries_max * :entries_max
WHERE entry_id >= :first
  AND entry_id < coalesce(
    (
      SELECT next.entry_id
      FROM _sync_outbox AS next
      WHERE next.entry_id > :first
        AND next.owner = :owner
        AND next.state = 'waiting'
        AND coalesce(
          next.group_id,
          CASE
            WHEN NOT EXISTS (SELECT 1 FROM _sync_outbox AS p WHERE p.entry_id = next.entry_id - 1 AND p.fresh = 1)
              THEN next.entry_id
          END
        ) <> :group_id
      ORDER BY next.entry_id
      LIMIT 1
    ),
    9223372036854775807
  )
  AND owner = :owner
  AND state = 'waiting'
  AND (group_id IS NULL OR group_id = :group_id);

-- name: filed_to
-- Up to which entry all are in the indexes; the oldest entry behind it, and the newest.
SELECT filed_to,
       coalesce((SELECT min(entry_id) FROM _sync_outbox WHERE entry_id > filed_to), filed_to),
       coalesce((SELECT max(entry_id) FROM _sync_outbox), 0)
FROM (SELECT coalesce((SELECT CAST(value AS INTEGER) FROM _sync_state WHERE name = 'filed_to'), 0) AS filed_to);

-- name: file
-- Enter what triggers have written behind an entry into the indexes, and name its groups as _sync_group does.
UPDATE _sync_outbox
SET fresh = NULL,
    group_id = coalesce(group_id, begun.with_entry)
FROM (
  SELECT entry_id AS of_entry, max(CASE WHEN begins THEN entry_id END) OVER (ORDER BY entry_id) AS with_entry
  FROM (
    SELECT
      entry_id,
      NOT EXISTS (SELECT 1 FROM _sync_outbox AS p WHERE p.entry_id = o.entry_id - 1 AND p.fresh = 1) AS begins
    FROM _sync_outbox AS o
    WHERE entry_id > :after
  )
) AS begun
WHERE entry_id = begun.of_entry
  AND fresh IS NOT NULL;

-- name: note_filed
-- Up to this entry all are in the indexes. No later one may have its number, even if somebody else emptied the queue.
UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
INSERT INTO _sync_state (name, value)
VALUES ('filed_to', :entry_id)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

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

-- name: loose_collections
-- Those in whose table no rule says that owner and key name one row.
SELECT name, owner_column
FROM _sync_collection AS c
WHERE owner_column IS NOT NULL
  AND NOT EXISTS (
    SELECT 1
    FROM pragma_index_list(c.name) AS i
    WHERE i."unique"
      AND NOT i.partial
      AND NOT EXISTS (
        SELECT 1
        FROM pragma_index_info(i.name) AS part
        WHERE part.name IS NULL
          OR lower(part.name) NOT IN (lower(c.key_column), lower(c.owner_column))
      )
  )
  AND NOT EXISTS (
    -- An INTEGER PRIMARY KEY has no index of its own.
    SELECT 1
    FROM pragma_table_info(c.name) AS t
    WHERE t.pk = 1
      AND lower(t.name) = lower(c.key_column)
      AND (SELECT max(pk) FROM pragma_table_info(c.name)) = 1
  )
ORDER BY name;

-- name: waits_in
-- Something of a collection that has no number yet.
SELECT entry_id
FROM _sync_outbox
WHERE owner = :owner
  AND collection = :collection
  AND state = 'waiting'
  AND fresh IS NULL
LIMIT 1;

-- name: first_waiting_of
-- The oldest that waits of each of these rows.
SELECT min(entry_id)
FROM _sync_outbox
WHERE collection = :collection
  AND owner = :owner
  AND row_key IN (SELECT value FROM json_each(:keys))
  AND state = 'waiting'
  AND kind IN ('put', 'patch', 'delete')
  AND fresh IS NULL
GROUP BY row_key
ORDER BY 1;

-- name: last_is_delete
-- Rows that are deleted as far as is queued: the entry, and the key as it lies in the file.
SELECT entry_id, CAST(row_key AS BLOB)
FROM _sync_outbox AS last
WHERE collection = :collection
  AND owner = :owner
  AND state = 'waiting'
  AND kind = 'delete'
  AND fresh IS NULL
  AND entry_id = (
    SELECT max(entry_id)
    FROM _sync_outbox AS o
    WHERE o.collection = :collection
      AND o.owner = :owner
      AND o.row_key = last.row_key
      AND o.fresh IS NULL
  );

-- name: tell_row_instead
-- The row is sent as it is when its turn comes.
UPDATE _sync_outbox
SET
  kind = 'put',
  set_json = NULL,
  before_json = NULL
WHERE entry_id IN (SELECT value FROM json_each(:entries));

-- name: append_barrier
-- Queue one step of an online migration, behind everything that is queued.
INSERT INTO _sync_outbox (
  entry_id, owner, kind, collection, row_key, shape_version, group_id, migration, barrier_json, created_ms
)
VALUES (
  (SELECT entry_id + 1 FROM _sync_newest_entry),
  :owner, 'migration', '', '',
  coalesce((SELECT schema_version FROM _sync_version WHERE scope = 'store'), '0.0.0'),
  :group_id, :migration, :barrier_json, :now_ms
);

-- name: entry
-- One entry by its local id.
SELECT
  entry_id, owner, sequence, epoch, kind, collection, row_key, set_json, before_json, base_version,
  shape_version, original_json, (SELECT g.group_id FROM _sync_group AS g WHERE g.entry_id = _sync_outbox.entry_id),
  migration, barrier_json, state, held_by, attempts, last_error, created_ms,
  claim_token
FROM _sync_outbox
WHERE entry_id = :entry_id;

-- name: entries
-- The oldest entries of one queue, or of all, for people to look at.
SELECT
  entry_id, owner, sequence, epoch, kind, collection, row_key, set_json, before_json, base_version,
  shape_version, original_json, (SELECT g.group_id FROM _sync_group AS g WHERE g.entry_id = _sync_outbox.entry_id),
  migration, barrier_json, state, held_by, attempts, last_error, created_ms,
  claim_token
FROM _sync_outbox
WHERE :owner IS NULL
   OR owner = :owner
ORDER BY entry_id
LIMIT :entries_max;

-- name: claimed
-- The oldest entries that have a number: they may or may not be at the cloud.
SELECT
  entry_id, owner, sequence, epoch, kind, collection, row_key, set_json, before_json, base_version,
  shape_version, original_json, group_id, migration, barrier_json, state, held_by, attempts, last_error, created_ms,
  claim_token
FROM _sync_outbox
WHERE owner = :owner
  AND epoch = :epoch
  AND sequence > :after
  AND state = 'claimed'
ORDER BY sequence
LIMIT :entries_max;

-- name: waiting
-- One page of what has no number yet, in the order of writing, with what is known of its rows at the cloud.
-- The last column: whether there may be nothing special to an entry. By the index, up to where all entries are in it.
SELECT
  o.entry_id, o.owner, o.sequence, o.epoch, o.kind, o.collection, o.row_key, o.set_json, o.before_json,
  CASE WHEN o.kind IN ('put', 'patch', 'delete', 'changes') THEN r.version ELSE o.base_version END,
  o.shape_version, o.original_json, o.group_id, o.migration, o.barrier_json, o.state, o.held_by, o.attempts,
  o.last_error, o.created_ms, o.claim_token,
  CASE WHEN r.deleted = 0 THEN r.extra END,
  o.last_error = 'conflict' AND o.base_version IS r.version,
  o.set_json IS NOT NULL
    AND (o.kind = 'put' OR (o.kind = 'patch' AND r.version IS NOT NULL))
    AND r.extra IS NULL
    AND o.last_error IS NOT 'conflict'
FROM _sync_outbox AS o
LEFT JOIN _sync_row AS r
  ON r.collection = o.collection
  AND r.owner = o.owner
  AND r.row_key = o.row_key
WHERE o.owner = :owner
  AND o.state = 'waiting'
  AND o.fresh IS NULL
  AND o.entry_id > :after
  AND o.entry_id <= :until
ORDER BY o.entry_id
LIMIT :entries_max;

-- name: waiting_behind
-- The same behind that, one entry after the other. The group is NULL where it is that of the entry before.
SELECT
  o.entry_id, o.owner, o.sequence, o.epoch, o.kind, o.collection, o.row_key, o.set_json, o.before_json,
  CASE WHEN o.kind IN ('put', 'patch', 'delete', 'changes') THEN r.version ELSE o.base_version END,
  o.shape_version, o.original_json,
  coalesce(
    o.group_id,
    CASE
      WHEN NOT EXISTS (SELECT 1 FROM _sync_outbox AS p WHERE p.entry_id = o.entry_id - 1 AND p.fresh = 1) THEN o.entry_id
    END
  ),
  o.migration, o.barrier_json, o.state, o.held_by, o.attempts,
  o.last_error, o.created_ms, o.claim_token,
  CASE WHEN r.deleted = 0 THEN r.extra END,
  o.last_error = 'conflict' AND o.base_version IS r.version,
  o.set_json IS NOT NULL
    AND (o.kind = 'put' OR (o.kind = 'patch' AND r.version IS NOT NULL))
    AND r.extra IS NULL
    AND o.last_error IS NOT 'conflict'
FROM _sync_outbox AS o
LEFT JOIN _sync_row AS r
  ON r.collection = o.collection
  AND r.owner = o.owner
  AND r.row_key = o.row_key
WHERE o.entry_id > :after
  AND o.entry_id <= :until
  AND o.owner = :owner
  AND o.state = 'waiting'
ORDER BY o.entry_id
LIMIT :entries_max;

-- name: begin_of_group
-- The entry with which the group of one begins, if it stands behind another one.
SELECT max(entry_id)
FROM (
  SELECT entry_id
  FROM _sync_outbox AS o
  WHERE entry_id > :after
    AND entry_id <= :entry_id
    AND NOT EXISTS (SELECT 1 FROM _sync_outbox AS p WHERE p.entry_id = o.entry_id - 1 AND p.fresh = 1)
  ORDER BY entry_id DESC
  LIMIT 1
);

-- name: refusing_collections
-- Whose entries the cloud shall not apply on a row that has changed: somebody decides first.
SELECT name
FROM _sync_collection
WHERE merge_policy IN ('server_wins', 'function')
  AND owner_column IS NOT NULL;

-- name: edits_after
-- What was written later to a row and is not sent yet, with the old values.
SELECT kind, before_json
FROM _sync_outbox
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND fresh IS NULL
  AND entry_id > :entry_id
  AND state IN ('waiting', 'held')
ORDER BY entry_id;

-- name: has_earlier
-- Something that was written before this and makes a row at the cloud.
SELECT entry_id
FROM _sync_outbox
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND fresh IS NULL
  AND entry_id < :entry_id
  AND kind IN ('put', 'changes', 'lift')
LIMIT 1;

-- name: waiting_keys
-- The keys of one page of what has no number yet.
SELECT entry_id, row_key
FROM _sync_outbox
WHERE owner = :owner
  AND state = 'waiting'
  AND fresh IS NULL
  AND entry_id > :after
ORDER BY entry_id
LIMIT :entries_max;

-- name: waiting_keys_as_bytes
-- The same where a key is not UTF-8, which cannot be read as text.
SELECT entry_id, CAST(row_key AS BLOB)
FROM _sync_outbox
WHERE owner = :owner
  AND state = 'waiting'
  AND fresh IS NULL
  AND entry_id > :after
ORDER BY entry_id
LIMIT :entries_max;

-- name: waiting_texts_as_bytes
-- What is to be written, and the old values, as bytes: they may not be UTF-8.
SELECT entry_id, CAST(set_json AS BLOB), CAST(before_json AS BLOB)
FROM _sync_outbox
WHERE owner = :owner
  AND state = 'waiting'
  AND fresh IS NULL
  AND entry_id > :after
ORDER BY entry_id
LIMIT :entries_max;

-- name: texts_as_bytes
-- The same of one entry.
SELECT CAST(set_json AS BLOB), CAST(before_json AS BLOB)
FROM _sync_outbox
WHERE entry_id = :entry_id;

-- name: rewrite_texts
-- Give an entry that goes to quarantine texts that can be read.
UPDATE _sync_outbox
SET set_json = :set_json,
    before_json = :before_json
WHERE entry_id = :entry_id;

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
  AND fresh IS NULL
ORDER BY entry_id;

-- name: number
-- Give an entry its number and freeze what will be sent under it.
UPDATE _sync_outbox
SET sequence = :sequence,
    epoch = :epoch,
    state = :state,
    kind = :kind,
    set_json = :set_json,
    before_json = :before_json,
    base_version = :base_version,
    barrier_json = :barrier_json,
    claim_token = :claim_token,
    group_id = coalesce(group_id, :group_id),
    last_error = nullif(last_error, 'conflict')
WHERE entry_id = :entry_id;

-- name: number_run
-- Give entries that follow each other their numbers; what will be sent under them stands there already.
-- Those without the name of a group are of this one, or each of its own where it is NULL.
UPDATE _sync_outbox
SET sequence = entry_id - :shift,
    epoch = :epoch,
    state = :state,
    base_version = (
      SELECT r.version
      FROM _sync_row AS r
      WHERE r.collection = _sync_outbox.collection
        AND r.owner = _sync_outbox.owner
        AND r.row_key = _sync_outbox.row_key
    ),
    claim_token = :token,
    group_id = coalesce(group_id, :group_id, entry_id),
    last_error = nullif(last_error, 'conflict')
WHERE entry_id BETWEEN :first AND :last;

-- name: number_new_run
-- The same for entries of rows that the cloud is not known to have.
UPDATE _sync_outbox
SET sequence = entry_id - :shift,
    epoch = :epoch,
    state = :state,
    base_version = NULL,
    claim_token = :token,
    group_id = coalesce(group_id, :group_id, entry_id),
    last_error = nullif(last_error, 'conflict')
WHERE entry_id BETWEEN :first AND :last;

-- name: squash
-- A later edit of a row travels in the one that is claimed.
UPDATE _sync_outbox
SET state = :state,
    squashed_into = :into,
    group_id = coalesce(group_id, (SELECT g.group_id FROM _sync_group AS g WHERE g.entry_id = _sync_outbox.entry_id))
WHERE entry_id = :entry_id;

-- name: squash_again
-- What travels in an entry that travels in another one now goes along.
UPDATE _sync_outbox
SET squashed_into = :into
WHERE owner = (SELECT owner FROM _sync_outbox WHERE entry_id = :entry_id)
  AND epoch IS NULL
  AND sequence IS NULL
  AND squashed_into IS NOT NULL
  AND ifnull(squashed_into, 0) = :entry_id;

-- name: delete_squashed
-- What travelled in an entry leaves together with it.
UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
DELETE FROM _sync_outbox
WHERE owner = (SELECT owner FROM _sync_outbox WHERE entry_id = :entry_id)
  AND epoch IS NULL
  AND sequence IS NULL
  AND squashed_into IS NOT NULL
  AND ifnull(squashed_into, 0) = :entry_id;
UPDATE _sync_outbox
SET fresh = 2
WHERE fresh = 1
  AND entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND entry_id < (SELECT entry_id FROM _sync_last_entry);

-- name: delete_squashed_of
-- The same for all entries of a batch that have left.
UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
DELETE FROM _sync_outbox
WHERE owner = :owner
  AND epoch IS NULL
  AND sequence IS NULL
  AND squashed_into IS NOT NULL
  AND ifnull(squashed_into, 0) BETWEEN :first AND :last
  AND NOT EXISTS (SELECT 1 FROM _sync_outbox AS survivor WHERE survivor.entry_id = _sync_outbox.squashed_into);

-- name: put_back
-- An entry without a number waits again, with this barrier state.
UPDATE _sync_outbox
SET sequence = NULL,
    epoch = NULL,
    claim_token = NULL,
    state = :state,
    barrier_json = :barrier_json
WHERE entry_id = :entry_id;

-- name: still_claimed
-- Which entries of a batch are still here under their numbers, and as what.
SELECT sequence, entry_id, kind
FROM _sync_outbox
WHERE owner = :owner
  AND epoch = :epoch
  AND sequence BETWEEN :first AND :last
  AND state = 'claimed';

-- name: still_as_sent
-- How many edits of one row each, of those with these numbers, are still here, and in which shapes.
SELECT count(*), min(shape_version), max(shape_version)
FROM _sync_outbox
WHERE owner = :owner
  AND epoch = :epoch
  AND sequence BETWEEN :first AND :last
  AND state = 'claimed'
  AND kind IN ('put', 'patch', 'delete');

-- name: set_back
-- An entry that the cloud did not apply, as it had asked, waits for what the cloud has; its number is used up.
UPDATE _sync_outbox
SET sequence = NULL,
    epoch = NULL,
    claim_token = NULL,
    state = :state,
    last_error = :last_error
WHERE entry_id = :entry_id;

-- name: end_conflicts
-- The cloud was read up to its end: what it had refused waits for nothing, unless its row came and is readable later.
UPDATE _sync_outbox
SET last_error = NULL
WHERE owner = :owner
  AND state = 'waiting'
  AND fresh IS NULL
  AND last_error = 'conflict'
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_parked AS p
    WHERE p.owner = _sync_outbox.owner
      AND p.collection = _sync_outbox.collection
      AND p.row_key = _sync_outbox.row_key
  );

-- name: delete
-- The entry has left the outbox: it is at the cloud, or whole in quarantine.
UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
DELETE FROM _sync_outbox
WHERE entry_id = :entry_id;
UPDATE _sync_outbox
SET fresh = 2
WHERE fresh = 1
  AND entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND entry_id < (SELECT entry_id FROM _sync_last_entry);

-- name: delete_run
-- Entries with these numbers have left the outbox: they are at the cloud.
UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
DELETE FROM _sync_outbox
WHERE owner = :owner
  AND epoch = :epoch
  AND sequence BETWEEN :first AND :last;

-- name: close_behind
-- What is written behind an entry that has left is no part of the group before it, and gets no number twice.
UPDATE _sync_outbox
SET fresh = 2
WHERE fresh = 1
  AND entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND entry_id < (SELECT entry_id FROM _sync_last_entry);

-- name: delete_after
-- Forget all that was written since an entry.
UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
DELETE FROM _sync_outbox
WHERE entry_id > :after;
UPDATE _sync_outbox
SET fresh = 2
WHERE fresh = 1
  AND entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND entry_id < (SELECT entry_id FROM _sync_last_entry);

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
    claim_token = NULL,
    state = :state
WHERE owner = :owner
  AND epoch > 0
  AND sequence IS NOT NULL
  AND state = 'claimed'
  AND kind <> 'void';

-- name: drop_voids
-- In a new epoch there is no number to keep, and nothing of what travelled in it.
UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
DELETE FROM _sync_outbox
WHERE owner = :owner
  AND epoch IS NULL
  AND sequence IS NULL
  AND squashed_into IS NOT NULL
  AND ifnull(squashed_into, 0) IN (
    SELECT entry_id
    FROM _sync_outbox
    WHERE owner = :owner
      AND epoch > 0
      AND sequence IS NOT NULL
      AND kind = 'void'
  );
DELETE FROM _sync_outbox
WHERE owner = :owner
  AND epoch > 0
  AND sequence IS NOT NULL
  AND kind = 'void';
UPDATE _sync_outbox
SET fresh = 2
WHERE fresh = 1
  AND entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND entry_id < (SELECT entry_id FROM _sync_last_entry);

-- name: know_row_set
-- Rows of one collection and owner may be known of from now on.
INSERT INTO _sync_row_set (owner, collection)
VALUES (:owner, :collection)
ON CONFLICT DO NOTHING;

-- name: remember_version
-- The version that the server gave to a row of ours, also to one that is deleted.
INSERT INTO _sync_row (row_set_id, collection, owner, row_key, version, server_epoch, shape_version, deleted)
VALUES (
  (SELECT row_set_id FROM _sync_row_set WHERE collection = :collection AND owner = :owner),
  :collection, :owner, :row_key, :version, :server_epoch, :shape_version, :deleted
)
ON CONFLICT (row_key, row_set_id) DO UPDATE SET
  version = excluded.version,
  server_epoch = excluded.server_epoch,
  shape_version = excluded.shape_version,
  deleted = excluded.deleted,
  extra = CASE WHEN excluded.deleted THEN NULL ELSE extra END
WHERE excluded.server_epoch <> server_epoch
   OR excluded.version > version;

-- name: remember_versions
-- The same for entries whose versions follow each other as their numbers do.
INSERT INTO _sync_row (row_set_id, collection, owner, row_key, version, server_epoch, shape_version, deleted)
SELECT
  (SELECT s.row_set_id FROM _sync_row_set AS s WHERE s.collection = o.collection AND s.owner = o.owner),
  collection, owner, row_key, sequence + :shift, :server_epoch, shape_version, kind = 'delete'
FROM _sync_outbox AS o
WHERE owner = :owner
  AND epoch = :epoch
  AND sequence BETWEEN :first AND :last
ON CONFLICT (row_key, row_set_id) DO UPDATE SET
  version = excluded.version,
  server_epoch = excluded.server_epoch,
  shape_version = excluded.shape_version,
  deleted = excluded.deleted,
  extra = CASE WHEN excluded.deleted THEN NULL ELSE extra END
WHERE excluded.server_epoch <> server_epoch
   OR excluded.version > version;

-- name: held_behind
-- What waits behind an item already: what was written since builds on it, too.
SELECT entry_id, kind, collection, row_key, group_id, json_extract(barrier_json, '$.collections')
FROM _sync_outbox
WHERE owner = :owner
  AND state = :state
  AND fresh IS NULL
  AND held_by = :item_id;

-- name: hold_row
-- Entries of a row that were written after a quarantined or held one wait behind it; their groups, and which they are.
UPDATE _sync_outbox
SET state = :state,
    held_by = :item_id
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND fresh IS NULL
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
  AND fresh IS NULL
RETURNING entry_id, kind, collection, row_key, group_id, json_extract(barrier_json, '$.collections');

-- name: hold_behind_barrier
-- What an online migration held back, and all later ones, wait for the person who looks at its quarantine item.
UPDATE _sync_outbox
SET state = :state,
    held_by = :item_id
WHERE owner = :owner
  AND entry_id > :after
  AND state = 'waiting'
  AND fresh IS NULL
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

-- name: held
-- How many entries of one queue wait behind each quarantine item.
SELECT held_by, count(*)
FROM _sync_outbox
WHERE owner = :owner
  AND state = 'held'
  AND fresh IS NULL
GROUP BY held_by
ORDER BY held_by;

-- name: sendable
-- How many entries of one queue wait for nothing but the cloud.
SELECT
  (
    SELECT count(*)
    FROM _sync_outbox
    WHERE owner = :owner
      AND state IN ('waiting', 'claimed')
      AND fresh IS NULL
  ) + (
    SELECT count(*)
    FROM _sync_outbox
    WHERE entry_id > coalesce((SELECT CAST(value AS INTEGER) FROM _sync_state WHERE name = 'filed_to'), 0)
      AND owner = :owner
      AND state IN ('waiting', 'claimed')
      AND fresh IS NOT NULL
  );

-- name: oldest_at
-- Since when the oldest entry waits.
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', min(created_ms) / 1000.0, 'unixepoch')
FROM _sync_outbox
WHERE :owner IS NULL
   OR owner = :owner;

-- name: newest
-- A number that grows with every entry that is written.
SELECT entry_id
FROM _sync_newest_entry;

-- name: record_overwritten
-- An entry took the place of what another device had written and this one had not seen; or fell away for it.
INSERT INTO _sync_conflict (
  owner, collection, row_key, field, local_json, server_json, winner, policy, version, created_at
)
VALUES (
  :owner, :collection, :row_key, :field, :local_json, :server_json, :winner,
  coalesce((SELECT merge_policy FROM _sync_collection WHERE name = :collection), 'merge'), :version, :now
);

-- name: any_row_aside
-- Whether a row of this user lies in quarantine as it came from the cloud.
SELECT EXISTS (
  SELECT 1
  FROM _sync_quarantine
  WHERE origin = 'pull'
    AND owner = :owner
    AND resolution IS NULL
    AND error_code NOT IN ('deleted_at_cloud', 'parent_deleted')
);

-- name: row_aside
-- The row in quarantine as the cloud has it, where a change that made this version came after it.
SELECT q.item_id, coalesce(q.body_original, q.body), q.shape_version, c.owner_column
FROM _sync_quarantine AS q
LEFT JOIN _sync_collection AS c
  ON c.name = q.collection
LEFT JOIN _sync_row AS r
  ON r.collection = q.collection
  AND r.owner = q.owner
  AND r.row_key = q.row_key
WHERE q.collection = :collection
  AND q.owner = :owner
  AND q.row_key = :row_key
  AND q.resolution IS NULL
  AND q.origin = 'pull'
  AND q.error_code NOT IN ('deleted_at_cloud', 'parent_deleted')
  AND (:version IS NULL OR r.version IS NULL OR r.version < :version)
ORDER BY q.item_id DESC
LIMIT 1;

-- name: row_aside_is_now
-- The cloud has taken a change of the row; what a person has made of the item stays beside it.
UPDATE _sync_quarantine
SET body = CASE WHEN body_original IS NULL THEN :body ELSE body END,
    body_original = CASE WHEN body_original IS NULL THEN NULL ELSE :body END
WHERE item_id = :item_id;

-- name: deletions_of_group
-- What was deleted in the group of an entry. Its members stand near it, however long the queue is.
SELECT d.collection, d.row_key, d.before_json
FROM _sync_outbox AS e
CROSS JOIN _sync_outbox AS d
WHERE e.entry_id = :entry_id
  AND d.entry_id BETWEEN e.entry_id - :entries_max AND e.entry_id + :entries_max
  AND d.group_id = e.group_id
  AND d.owner = e.owner
  AND d.kind = 'delete';

-- name: column_default
-- What a column holds where an insert does not name it, as an expression.
SELECT dflt_value
FROM pragma_table_info(:collection)
WHERE name = :column COLLATE NOCASE;

-- name: tables
-- The tables of the store.
SELECT name
FROM sqlite_schema
WHERE type = 'table';

-- name: foreign_keys
-- Every foreign key, column by column, with what it says of a parent that changes or goes.
SELECT t.name, f.id, f."table", f."from", f."to", f.on_update, f.on_delete
FROM sqlite_schema AS t
JOIN pragma_foreign_key_list(t.name) AS f
WHERE t.type = 'table'
ORDER BY t.name, f.id, f.seq;

-- name: primary_key
-- The columns of a table's primary key, in order.
SELECT name
FROM pragma_table_info(:collection)
WHERE pk > 0
ORDER BY pk;
