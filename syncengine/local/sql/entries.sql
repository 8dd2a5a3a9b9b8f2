-- Queued entries on their way through a change of shape: read by rows, written in their new form.

-- name: any
-- Has a collection entries, open items, or rows that the cloud knows?
SELECT EXISTS (SELECT 1 FROM _sync_outbox WHERE collection = :collection AND fresh IS NULL)
    OR EXISTS (SELECT 1 FROM _sync_row WHERE collection = :collection)
    OR EXISTS (
      SELECT 1
      FROM _sync_quarantine
      WHERE collection = :collection
        AND origin = 'outbox'
        AND resolution IS NULL
    );

-- name: count
-- How many entries and open items of a collection there are.
-- The body of a void entry is counted with its item, and a squashed entry with the one that it travels in.
SELECT
  (
    SELECT count(*)
    FROM _sync_outbox
    WHERE collection = :collection
      AND fresh IS NULL
      AND kind NOT IN ('lift', 'migration', 'void')
      AND state <> 'squashed'
  ) + (
    SELECT count(*)
    FROM _sync_quarantine
    WHERE collection = :collection
      AND origin = 'outbox'
      AND resolution IS NULL
  );

-- name: count_converted
-- How many of those that were there before are in the new shape now.
SELECT
  (
    SELECT count(*)
    FROM _sync_outbox
    WHERE collection = :collection
      AND fresh IS NULL
      AND kind NOT IN ('lift', 'migration', 'void')
      AND state <> 'squashed'
      AND shape_version = :shape_version
      AND entry_id <= :newest
  ) + (
    SELECT count(*)
    FROM _sync_quarantine
    WHERE collection = :collection
      AND origin = 'outbox'
      AND resolution IS NULL
      AND shape_version = :shape_version
  );

-- name: count_set_aside
-- How many open items of a collection are not in the new shape.
SELECT count(*)
FROM _sync_quarantine
WHERE collection = :collection
  AND origin = 'outbox'
  AND resolution IS NULL
  AND shape_version IS NOT :shape_version;

-- name: newest_entry
-- The highest number that an entry has had.
SELECT entry_id
FROM _sync_newest_entry;

-- name: rows_page
-- The next rows that have entries which are neither converted nor staged, by owner and key.
SELECT DISTINCT owner, row_key
FROM _sync_outbox
WHERE collection = :collection
  AND fresh IS NULL
  AND kind NOT IN ('lift', 'migration', 'void')
  AND shape_version <> :shape_version
  AND entry_id NOT IN (SELECT entry_id FROM _sync_entry_staged)
  AND (owner, row_key) > (:owner, :row_key)
ORDER BY owner, row_key
LIMIT :rows_max;

-- name: of_rows
-- The entries of these rows that are not converted yet, oldest first in each.
SELECT
  entry_id, owner, row_key, kind, CAST(set_json AS BLOB), CAST(before_json AS BLOB), shape_version, state
FROM _sync_outbox
WHERE collection = :collection
  AND fresh IS NULL
  AND (owner, row_key) > (:owner, :row_key)
  AND (owner, row_key) <= (:last_owner, :last_key)
  AND kind NOT IN ('lift', 'migration', 'void')
  AND shape_version <> :shape_version
ORDER BY owner, row_key, entry_id;

-- name: of_owner
-- All entries of one owner's rows, in the order of writing.
SELECT
  entry_id, owner, row_key, kind, CAST(set_json AS BLOB), CAST(before_json AS BLOB), shape_version, state
FROM _sync_outbox
WHERE collection = :collection
  AND fresh IS NULL
  AND owner = :owner
  AND kind NOT IN ('lift', 'migration', 'void')
ORDER BY entry_id;

-- name: of_several_rows
-- Entries that change several rows each, and are not converted yet.
SELECT
  entry_id, owner, row_key, kind, CAST(set_json AS BLOB), CAST(before_json AS BLOB), shape_version, state
FROM _sync_outbox
WHERE collection = :collection
  AND fresh IS NULL
  AND kind = 'changes'
  AND shape_version <> :shape_version
ORDER BY entry_id;

-- name: with_body
-- What of a collection says more than the name of its row, and in which shape.
SELECT entry_id, shape_version
FROM _sync_outbox
WHERE collection = :collection
  AND fresh IS NULL
  AND kind NOT IN ('lift', 'migration', 'void')
  AND state <> 'squashed'
  AND NOT (kind = 'put' AND set_json IS NULL)
ORDER BY entry_id;

-- name: of_row
-- The entries of one row that are not converted yet, oldest first.
SELECT
  entry_id, owner, row_key, kind, CAST(set_json AS BLOB), CAST(before_json AS BLOB), shape_version, state
FROM _sync_outbox
WHERE collection = :collection
  AND fresh IS NULL
  AND owner = :owner
  AND row_key = :row_key
  AND shape_version <> :shape_version
  AND kind NOT IN ('lift', 'migration', 'void')
ORDER BY entry_id;

-- name: items
-- Open quarantine items that came from the outbox: they are members of their rows' chains.
SELECT
  json_extract(body, '$.entry_id'), owner, row_key, json_extract(body, '$.kind'),
  CAST(json_extract(body, '$.set') AS BLOB), CAST(json_extract(body, '$.before') AS BLOB), shape_version,
  'quarantined', item_id
FROM _sync_quarantine
WHERE collection = :collection
  AND origin = 'outbox'
  AND resolution IS NULL
ORDER BY json_extract(body, '$.entry_id');

-- name: owners
-- Whose rows of a collection have entries or open items.
SELECT owner
FROM _sync_outbox
WHERE collection = :collection
  AND fresh IS NULL
  AND kind NOT IN ('lift', 'migration', 'void')
UNION
SELECT owner
FROM _sync_quarantine
WHERE collection = :collection
  AND origin = 'outbox'
  AND resolution IS NULL;

-- name: rewrite
-- An entry in its new form; as it was first written, or sent, is kept until the cloud has it, or it is that again.
UPDATE _sync_outbox
SET original_json = CASE
      WHEN original_json = json_object(
        'kind', :kind,
        'row_key', :row_key,
        'set', json(:set_json),
        'before', json(:before_json),
        'shape_version', :shape_version
      ) THEN NULL
      WHEN original_json IS NOT NULL THEN original_json
      ELSE json_object(
        'kind', kind,
        'row_key', row_key,
        'set', json(set_json),
        'before', json(before_json),
        'shape_version', shape_version
      )
    END,
    kind = :kind,
    row_key = :row_key,
    set_json = :set_json,
    before_json = :before_json,
    shape_version = :shape_version
WHERE entry_id = :entry_id;

-- name: make_readable
-- Text that is not UTF-8 stands as a blob in an entry's JSON from now on.
UPDATE _sync_outbox
SET set_json = :set_json,
    before_json = :before_json,
    original_json = :original_json
WHERE entry_id = :entry_id;

-- name: as_bytes
-- The JSON of an entry, whatever its text is.
SELECT CAST(set_json AS BLOB), CAST(before_json AS BLOB), CAST(original_json AS BLOB)
FROM _sync_outbox
WHERE entry_id = :entry_id;

-- name: set_aside_by_migration
-- Which migration could not convert an entry; one of an online migration keeps that one's name.
UPDATE _sync_quarantine
SET migration = coalesce(migration, :migration)
WHERE item_id = :item_id;

-- name: set_aside_by
-- What a migration could not convert, in the order of writing.
SELECT item_id
FROM _sync_quarantine
WHERE origin = 'outbox'
  AND migration = :migration
  AND collection = :collection
  AND shape_version = :shape_version
  AND resolution IS NULL
ORDER BY json_extract(body, '$.entry_id');

-- name: set_aside_with_row
-- Entries that could not be converted because their row could not.
SELECT item_id
FROM _sync_quarantine
WHERE origin = 'outbox'
  AND error_code = 'row_set_aside'
  AND collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND resolution IS NULL
ORDER BY item_id;

-- name: relabel
-- An entry that says the same in the new shape: it names only its row, or it travels in another one.
UPDATE _sync_outbox
SET shape_version = :shape_version
WHERE entry_id = :entry_id;

-- name: relabel_all
-- The same for all entries of a collection, whose columns have not changed.
UPDATE _sync_outbox
SET shape_version = :shape_version
WHERE collection = :collection
  AND fresh IS NULL
  AND kind NOT IN ('lift', 'migration', 'void');

-- name: relabel_items
-- And for its open items.
UPDATE _sync_quarantine
SET shape_version = :shape_version,
    body = json_set(body, '$.shape_version', :shape_version)
WHERE collection = :collection
  AND origin = 'outbox'
  AND resolution IS NULL;

-- name: relabel_key_only
-- Entries that name only their row are sent as the row is then.
UPDATE _sync_outbox
SET shape_version = :shape_version
WHERE collection = :collection
  AND fresh IS NULL
  AND kind = 'put'
  AND set_json IS NULL;

-- name: rename_shape
-- One and the same shape under another version, for entries.
UPDATE _sync_outbox
SET shape_version = :shape_version
WHERE collection = :collection
  AND fresh IS NULL
  AND shape_version = :known_as;

-- name: rename_shape_of_items
-- And for open items.
UPDATE _sync_quarantine
SET shape_version = :shape_version,
    body = json_set(body, '$.shape_version', :shape_version)
WHERE collection = :collection
  AND origin = 'outbox'
  AND resolution IS NULL
  AND shape_version = :known_as;

-- name: restore_originals
-- Entries that were converted once, from this shape, are what they were.
UPDATE _sync_outbox
SET kind = json_extract(original_json, '$.kind'),
    row_key = json_extract(original_json, '$.row_key'),
    set_json = json_extract(original_json, '$.set'),
    before_json = json_extract(original_json, '$.before'),
    shape_version = :shape_version,
    original_json = NULL
WHERE collection = :collection
  AND fresh IS NULL
  AND kind NOT IN ('lift', 'migration', 'void')
  AND json_extract(original_json, '$.shape_version') = :shape_version;

-- name: leave
-- Nothing of an entry is left in the new shape, nor of what travels in it.
UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
DELETE FROM _sync_outbox
WHERE owner = (SELECT owner FROM _sync_outbox WHERE entry_id = :entry_id)
  AND epoch IS NULL
  AND sequence IS NULL
  AND squashed_into IS NOT NULL
  AND ifnull(squashed_into, 0) = :entry_id;
DELETE FROM _sync_outbox
WHERE entry_id = :entry_id;
UPDATE _sync_outbox
SET fresh = 2
WHERE fresh = 1
  AND entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND entry_id < (SELECT entry_id FROM _sync_last_entry);

-- name: relabel_item
-- An open item that says the same in the new shape.
UPDATE _sync_quarantine
SET shape_version = :shape_version,
    body = json_set(body, '$.shape_version', :shape_version)
WHERE item_id = :item_id;

-- name: rewrite_item
-- An open item in its new form.
UPDATE _sync_quarantine
SET body = json_set(
      body,
      '$.original', json(
        coalesce(
          json_extract(body, '$.original'),
          json_object(
            'kind', json_extract(body, '$.kind'),
            'row_key', row_key,
            'set', json_extract(body, '$.set'),
            'before', json_extract(body, '$.before'),
            'shape_version', shape_version
          )
        )
      ),
      '$.kind', :kind,
      '$.set', json(:set_json),
      '$.before', json(:before_json),
      '$.shape_version', :shape_version
    ),
    row_key = :row_key,
    shape_version = :shape_version
WHERE item_id = :item_id;

-- name: queue
-- A change that follows from new keys, behind all that is queued.
INSERT INTO _sync_outbox (
  entry_id, owner, kind, collection, row_key, set_json, shape_version, group_id, created_ms
)
VALUES (
  (SELECT entry_id + 1 FROM _sync_newest_entry),
  :owner, 'changes', :collection, :row_key, :set_json, :shape_version, :group_id, :now_ms
);

-- name: cloud_has
-- Is a row at the cloud, as far as this device has heard?
SELECT EXISTS (
  SELECT 1
  FROM _sync_row
  WHERE collection = :collection
    AND owner = :owner
    AND row_key = :row_key
    AND NOT deleted
);

-- name: known_page
-- The next rows that the cloud has.
SELECT owner, row_key
FROM _sync_row
WHERE collection = :collection
  AND NOT deleted
  AND (row_key, owner) > (:row_key, :owner)
ORDER BY row_key, owner
LIMIT :rows_max;

-- name: unheard_page
-- The next rows that it may have, or will get whole, and has said nothing of.
SELECT DISTINCT owner, row_key
FROM _sync_outbox AS o
WHERE collection = :collection
  AND fresh IS NULL
  AND entry_id <= :newest
  AND kind NOT IN ('lift', 'migration', 'void')
  AND (state = 'claimed' OR kind = 'put' AND set_json IS NULL)
  AND (owner, row_key) > (:owner, :row_key)
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_row AS r
    WHERE r.collection = o.collection
      AND r.owner = o.owner
      AND r.row_key = o.row_key
      AND NOT r.deleted
  )
ORDER BY owner, row_key
LIMIT :rows_max;

-- name: with_extra
-- Rows with fields that this app did not know so far.
SELECT owner, row_key, extra
FROM _sync_row
WHERE collection = :collection
  AND extra IS NOT NULL
ORDER BY owner, row_key;

-- name: keep_extra
-- What is still not known of a row.
UPDATE _sync_row
SET extra = :extra
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key;

-- name: rows_set_aside
-- The rows that a migration itself has put into quarantine.
SELECT owner, row_key
FROM _sync_quarantine
WHERE origin IN ('migration', 'restore')
  AND migration = :migration
  AND collection = :collection
  AND resolution IS NULL;

-- name: version_at_cloud
-- The server's version of a row that this device has last heard of.
SELECT version
FROM _sync_row
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key;

-- name: is_queued
-- 1 when an edit of this row waits, or is on its way.
SELECT EXISTS (
  SELECT 1
  FROM _sync_outbox
  WHERE collection = :collection
    AND fresh IS NULL
    AND owner = :owner
    AND row_key = :row_key
    AND entry_id <= :newest
);

-- name: goes_whole
-- 1 when a waiting entry names only this row: its body is read when it is claimed.
SELECT EXISTS (
  SELECT 1
  FROM _sync_outbox
  WHERE collection = :collection
    AND fresh IS NULL
    AND owner = :owner
    AND row_key = :row_key
    AND entry_id <= :newest
    AND kind = 'put'
    AND set_json IS NULL
    AND state = 'waiting'
);

-- name: is_heard_of
-- 1 when the cloud has rows of a collection from this user, or will get some.
SELECT EXISTS (SELECT 1 FROM _sync_row WHERE collection = :collection AND owner = :owner AND NOT deleted)
    OR EXISTS (SELECT 1 FROM _sync_outbox WHERE collection = :collection AND owner = :owner AND fresh IS NULL);

-- name: stage
-- What an entry will be, beside what it is.
INSERT OR REPLACE INTO _sync_entry_staged (
  entry_id, collection, owner, was_key, was_kind, was_set, was_before, kind, row_key, set_json, before_json,
  shape_version
)
SELECT
  entry_id, collection, owner, row_key, kind, set_json, before_json, :kind, :row_key, :set_json, :before_json,
  :shape_version
FROM _sync_outbox
WHERE entry_id = :entry_id
  AND collection = :collection;

-- name: unstage
-- A row was written since, or is not in the new table: its entries are converted in the swap.
DELETE FROM _sync_entry_staged
WHERE collection = :collection
  AND owner = :owner
  AND was_key = :row_key;

-- name: unstage_changed
-- Entries that are not what they were.
DELETE FROM _sync_entry_staged
WHERE collection = :collection
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_outbox AS o
    WHERE o.entry_id = _sync_entry_staged.entry_id
      AND o.state <> 'squashed'
      AND o.kind = was_kind
      AND o.row_key = was_key
      AND o.set_json IS was_set
      AND o.before_json IS was_before
  );

-- name: unstage_rows_in_part
-- Rows with an entry that is not staged: all of a row is converted together.
DELETE FROM _sync_entry_staged
WHERE collection = :collection
  AND EXISTS (
    SELECT 1
    FROM _sync_outbox AS o
    WHERE o.collection = _sync_entry_staged.collection
      AND o.fresh IS NULL
      AND o.owner = _sync_entry_staged.owner
      AND o.row_key = _sync_entry_staged.was_key
      AND o.kind NOT IN ('lift', 'migration', 'void')
      AND o.entry_id NOT IN (SELECT entry_id FROM _sync_entry_staged)
  );

-- name: take_staged
-- Entries become what was staged for them.
UPDATE _sync_outbox AS o
SET original_json = coalesce(
      o.original_json,
      json_object(
        'kind', o.kind,
        'row_key', o.row_key,
        'set', json(o.set_json),
        'before', json(o.before_json),
        'shape_version', o.shape_version
      )
    ),
    kind = s.kind,
    row_key = s.row_key,
    set_json = s.set_json,
    before_json = s.before_json,
    shape_version = s.shape_version
FROM _sync_entry_staged AS s
WHERE s.entry_id = o.entry_id
  AND s.collection = :collection;

-- name: forget_all_staged
-- They are taken.
DELETE FROM _sync_entry_staged
WHERE collection = :collection;

-- name: forget_staged
-- The same of a rewriting that is over, some at a time.
DELETE FROM _sync_entry_staged
WHERE entry_id IN (
  SELECT entry_id
  FROM _sync_entry_staged
  WHERE collection = :collection
  LIMIT :rows_max
);
