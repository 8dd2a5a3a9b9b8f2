-- What was set aside for a person, whole and with its reason.

-- name: set_aside
-- Copy an outbox entry into quarantine; the item's id.
INSERT INTO _sync_quarantine (
  origin, migration, owner, collection, row_key, body, error_code, error_text, attempts, shape_version, created_at
)
SELECT
  'outbox', migration, owner, collection, row_key,
  json_object(
    'entry_id', entry_id,
    'sequence', sequence,
    'epoch', epoch,
    'kind', kind,
    'set', json(set_json),
    'before', json(before_json),
    'original', json(original_json),
    'barrier', json(barrier_json),
    'base_version', base_version,
    'shape_version', shape_version,
    'group_id', (SELECT g.group_id FROM _sync_group AS g WHERE g.entry_id = _sync_outbox.entry_id),
    'created_at', strftime('%Y-%m-%dT%H:%M:%fZ', created_ms / 1000.0, 'unixepoch')
  ),
  :error_code, :error_text, max(attempts, 1), shape_version, :now
FROM _sync_outbox
WHERE entry_id = :entry_id
RETURNING item_id;

-- name: open_item
-- An item of the outbox that nobody has resolved.
SELECT
  item_id, owner, json_extract(body, '$.entry_id'), json_extract(body, '$.kind'), collection, row_key,
  json_extract(body, '$.group_id'), json_extract(body, '$.barrier.collections')
FROM _sync_quarantine
WHERE item_id = :item_id
  AND origin = 'outbox'
  AND resolution IS NULL;

-- name: suppose_row
-- The cloud may have a row whose edit was set aside as the store went back in time: a reading without it deletes it.
INSERT INTO _sync_row (row_set_id, collection, owner, row_key, version, shape_version)
SELECT
  (SELECT row_set_id FROM _sync_row_set WHERE collection = :collection AND owner = :owner),
  :collection, :owner, :row_key, 0, coalesce(shape_version, '')
FROM _sync_quarantine
WHERE item_id = :item_id
  AND error_code = 'restored_over'
  AND json_extract(body, '$.kind') IN ('put', 'patch', 'delete', 'changes')
ON CONFLICT (row_key, row_set_id) DO UPDATE SET
  deleted = 0;

-- name: read_again
-- Whoever has read something begins from the start: what is not met was deleted.
UPDATE _sync_cursor
SET cursor = NULL,
    at_head = 0,
    resync = resync + 1,
    resync_reason = CASE resync_reason WHEN 'other_epoch' THEN 'other_epoch' ELSE 'below_floor' END,
    updated_at = :now
WHERE owner = :owner;

-- name: open_items
-- Unresolved items of one queue: what is written behind them is held.
SELECT
  item_id, owner, json_extract(body, '$.entry_id'), json_extract(body, '$.kind'), collection, row_key,
  json_extract(body, '$.group_id'), json_extract(body, '$.barrier.collections')
FROM _sync_quarantine
WHERE origin = 'outbox'
  AND resolution IS NULL
  AND owner = :owner
ORDER BY item_id;

-- name: row_is_set_aside
-- 1 when something of this row lies open in quarantine.
SELECT EXISTS (
  SELECT 1
  FROM _sync_quarantine
  WHERE collection = :collection
    AND owner = :owner
    AND row_key = :row_key
    AND resolution IS NULL
);

-- name: item_of_entry
-- The open item that holds the body of a void entry.
SELECT item_id
FROM _sync_quarantine
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND resolution IS NULL
  AND origin = 'outbox'
  AND json_extract(body, '$.entry_id') = :entry_id;

-- name: group_of_item
-- The open items that were one group with this one: they are retried together.
SELECT mate.item_id
FROM _sync_quarantine AS item
JOIN _sync_quarantine AS mate
  ON mate.origin = 'outbox'
  AND mate.resolution IS NULL
  AND mate.owner = item.owner
  AND json_extract(mate.body, '$.group_id') = json_extract(item.body, '$.group_id')
WHERE item.item_id = :item_id
  AND item.origin = 'outbox'
  AND item.resolution IS NULL
ORDER BY json_extract(mate.body, '$.entry_id');

-- name: queue_again
-- A new entry with the body of an item, at its old place in the order and in its old group, without a number.
INSERT INTO _sync_outbox (
  entry_id, owner, kind, collection, row_key, set_json, before_json, base_version, shape_version,
  original_json, group_id, migration, barrier_json, created_ms
)
SELECT
  json_extract(body, '$.entry_id'), owner, json_extract(body, '$.kind'), collection, row_key,
  json_extract(body, '$.set'), json_extract(body, '$.before'), json_extract(body, '$.base_version'),
  json_extract(body, '$.shape_version'), json_extract(body, '$.original'), json_extract(body, '$.group_id'), migration,
  json_remove(json_extract(body, '$.barrier'), '$.page', '$.again'), :now_ms
FROM _sync_quarantine
WHERE item_id = :item_id;

-- name: resolve
-- Close an item.
UPDATE _sync_quarantine
SET resolution = :resolution,
    resolved_at = :now
WHERE item_id = :item_id
  AND resolution IS NULL;

-- name: set_row_aside
-- A row or a legacy element that could not be converted, whole, with its reason.
INSERT INTO _sync_quarantine (
  origin, migration, owner, collection, row_key, body, error_code, error_text, field, shape_version, code_hash,
  created_at
)
VALUES (
  'migration', :migration, :owner, :collection, :row_key, :body, :error_code, :error_text, :field, :shape_version,
  :code_hash, :now
);

-- name: keep_value
-- A value as it was before a repair rule changed it.
INSERT INTO _sync_archive (collection, owner, row_key, field, value, migration, archived_at)
VALUES (:collection, :owner, :row_key, :field, :value, :migration, :now)
ON CONFLICT (collection, owner, row_key, field, migration) DO UPDATE SET
  value = excluded.value,
  archived_at = excluded.archived_at;

-- name: items
-- What was set aside, whole; of one user and of nobody, or of all.
SELECT
  item_id, origin, migration, owner, collection, row_key, body, body_original IS NOT NULL, error_code, error_text,
  field, attempts, shape_version, code_hash, note, resolution, created_at, resolved_at
FROM _sync_quarantine
WHERE (:resolved OR resolution IS NULL)
  AND (:user IS NULL OR owner IS NULL OR owner = :user)
  AND (:item_id IS NULL OR item_id = :item_id)
ORDER BY item_id;

-- name: refused_by
-- Open items that a migration set aside, and the code that refused each last.
SELECT item_id, migration, code_hash
FROM _sync_quarantine
WHERE origin = 'migration'
  AND resolution IS NULL
  AND migration IS NOT NULL
  AND (:user IS NULL OR owner IS NULL OR owner = :user)
ORDER BY item_id;

-- name: refuse_again
-- An item was tried once more, in vain.
UPDATE _sync_quarantine
SET error_code = :error_code,
    error_text = :error_text,
    field = :field,
    code_hash = :code_hash,
    attempts = attempts + 1
WHERE item_id = :item_id;

-- name: edit
-- Another body; the first one is kept.
UPDATE _sync_quarantine
SET body = :body,
    body_original = coalesce(body_original, body)
WHERE item_id = :item_id
  AND resolution IS NULL;

-- name: note
-- Why a person has decided so.
UPDATE _sync_quarantine
SET note = :note
WHERE item_id = :item_id;

-- name: waits_for_row
-- The open item of an upload that found its row set aside.
SELECT item_id
FROM _sync_quarantine
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND resolution IS NULL
  AND origin = 'outbox'
  AND error_code = 'row_in_quarantine';

-- name: queue_row_in_its_groups
-- A put that names only its row, in the place of the first of its edits that were set aside with it.
-- One in each group that has other rows still, for it arrives with them or not at all.
INSERT INTO _sync_outbox (entry_id, owner, kind, collection, row_key, shape_version, group_id, created_ms)
SELECT
  min(json_extract(body, '$.entry_id')), owner, 'put', collection, row_key, :shape_version,
  json_extract(body, '$.group_id'), :now_ms
FROM _sync_quarantine AS item
WHERE origin = 'outbox'
  AND error_code = 'row_set_aside'
  AND collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND resolution IS NULL
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_outbox AS void
    WHERE void.entry_id = json_extract(item.body, '$.entry_id')
  )
  AND (
    EXISTS (
      SELECT 1
      FROM _sync_outbox AS mate
      WHERE mate.owner = item.owner
        AND mate.group_id = json_extract(item.body, '$.group_id')
        AND mate.fresh IS NULL
        AND mate.state IN ('waiting', 'held')
        AND (mate.collection <> item.collection OR mate.row_key <> item.row_key)
    )
    OR EXISTS (
      SELECT 1
      FROM _sync_quarantine AS mate
      WHERE mate.origin = 'outbox'
        AND mate.resolution IS NULL
        AND mate.owner = item.owner
        AND json_extract(mate.body, '$.group_id') = json_extract(item.body, '$.group_id')
        AND (mate.collection <> item.collection OR mate.row_key <> item.row_key)
    )
  )
GROUP BY json_extract(body, '$.group_id');

-- name: queue_row
-- One put that names only its row, unless one waits already.
INSERT INTO _sync_outbox (entry_id, owner, kind, collection, row_key, shape_version, group_id, created_ms)
SELECT
  (SELECT entry_id + 1 FROM _sync_newest_entry),
  :owner, 'put', :collection, :row_key, :shape_version, :group_id, :now_ms
WHERE NOT EXISTS (
  SELECT 1
  FROM _sync_outbox
  WHERE collection = :collection
    AND owner = :owner
    AND row_key = :row_key
    AND fresh IS NULL
    AND kind = 'put'
    AND state = 'waiting'
    AND set_json IS NULL
);

-- name: prune
-- What was resolved long ago goes for good.
DELETE FROM _sync_quarantine
WHERE resolved_at < :before;

-- name: needs_a_look
-- Is an item of a migration open that may be tried again, and was one resolved long ago?
SELECT
  EXISTS (SELECT 1 FROM _sync_quarantine WHERE :retry AND origin = 'migration' AND resolution IS NULL),
  EXISTS (SELECT 1 FROM _sync_quarantine WHERE resolved_at < :before);
