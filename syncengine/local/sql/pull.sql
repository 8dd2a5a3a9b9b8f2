-- What came from the cloud: where reading stands, which version each row has, what is parked, what was in conflict.

-- name: cursor
-- Where one user's reading stands.
SELECT cursor, server_epoch, at_head, resync, resync_reason
FROM _sync_cursor
WHERE owner = :owner;

-- name: move_cursor
-- A page has been applied: in the same transaction the next one begins behind it.
INSERT INTO _sync_cursor (owner, cursor, server_epoch, at_head, resync, resync_reason, updated_at)
VALUES (:owner, :cursor, :server_epoch, :at_head, :resync, :resync_reason, :now)
ON CONFLICT (owner) DO UPDATE SET
  cursor = excluded.cursor,
  server_epoch = excluded.server_epoch,
  at_head = excluded.at_head,
  resync = excluded.resync,
  resync_reason = excluded.resync_reason,
  updated_at = excluded.updated_at;

-- name: knows_other_life
-- 1 when a row's version was given by another life of the cloud's database.
SELECT EXISTS (
  SELECT 1
  FROM _sync_row
  WHERE owner = :owner
    AND server_epoch NOT IN (0, :server_epoch)
);

-- name: claimed
-- 1 when something that was numbered may be at the cloud or not.
SELECT EXISTS (
  SELECT 1
  FROM _sync_outbox
  WHERE owner = :owner
    AND epoch > 0
    AND sequence IS NOT NULL
    AND state = 'claimed'
    AND kind <> 'migration'
);

-- name: collections
-- The synced collections with what their rows are read and written by.
SELECT name, key_column, owner_column, shape_version, merge_policy
FROM _sync_collection
WHERE owner_column IS NOT NULL;

-- name: write_policy
-- How conflicts in a collection are decided, as the app says now.
UPDATE _sync_collection
SET merge_policy = :merge_policy
WHERE name = :collection;

-- name: app_triggers
-- The triggers that the app has on a table.
SELECT name
FROM sqlite_schema
WHERE type = 'trigger'
  AND tbl_name = :collection COLLATE NOCASE
  AND name NOT GLOB '_sync_*'
ORDER BY name;

-- name: remember_row
-- The version that the cloud has of a row. A reading below 0 is none: which one brought it stays as it is known.
INSERT INTO _sync_row (
  row_set_id, collection, owner, row_key, version, shape_version, server_epoch, deleted, resync, extra
)
SELECT
  row_set_id, collection, owner, :row_key, :version, :shape_version, :server_epoch, :deleted, :resync, :extra
FROM _sync_row_set
WHERE owner = :owner
  AND collection = :collection
ON CONFLICT (row_key, row_set_id) DO UPDATE SET
  version = excluded.version,
  shape_version = excluded.shape_version,
  server_epoch = CASE WHEN excluded.resync < 0 THEN server_epoch ELSE excluded.server_epoch END,
  deleted = excluded.deleted,
  resync = CASE WHEN excluded.resync < 0 THEN resync ELSE excluded.resync END,
  extra = excluded.extra;

-- name: remember_rows
-- The same for rows of one collection that are all of one shape: their versions by their keys, as a JSON object.
INSERT INTO _sync_row (
  row_set_id, collection, owner, row_key, version, shape_version, server_epoch, deleted, resync
)
SELECT s.row_set_id, s.collection, s.owner, v.key, v.value, :shape_version, :server_epoch, 0, :resync
FROM _sync_row_set AS s
CROSS JOIN json_each(:versions) AS v
WHERE s.owner = :owner
  AND s.collection = :collection
ON CONFLICT (row_key, row_set_id) DO UPDATE SET
  version = excluded.version,
  shape_version = excluded.shape_version,
  server_epoch = CASE WHEN excluded.resync < 0 THEN server_epoch ELSE excluded.server_epoch END,
  deleted = 0,
  resync = CASE WHEN excluded.resync < 0 THEN resync ELSE excluded.resync END,
  extra = NULL;

-- name: saw_row
-- A row that is not taken now: its version is known, and the fields that were sent back with it stay.
INSERT INTO _sync_row (
  row_set_id, collection, owner, row_key, version, shape_version, server_epoch, deleted, resync
)
SELECT row_set_id, collection, owner, :row_key, :version, :shape_version, :server_epoch, :deleted, :resync
FROM _sync_row_set
WHERE owner = :owner
  AND collection = :collection
ON CONFLICT (row_key, row_set_id) DO UPDATE SET
  version = excluded.version,
  shape_version = excluded.shape_version,
  server_epoch = CASE WHEN excluded.resync < 0 THEN server_epoch ELSE excluded.server_epoch END,
  deleted = excluded.deleted,
  resync = CASE WHEN excluded.resync < 0 THEN resync ELSE excluded.resync END;

-- name: known_rows
-- What is known of the rows of one page.
SELECT r.collection, r.row_key, r.version, r.server_epoch, r.deleted
FROM json_each(:keys) AS k
JOIN _sync_row AS r
  ON r.collection = json_extract(k.value, '$[0]')
  AND r.owner = :owner
  AND r.row_key = json_extract(k.value, '$[1]');

-- name: any_queued
-- 1 when anything at all is in the outbox.
SELECT EXISTS (SELECT 1 FROM _sync_outbox);

-- name: has_entries
-- 1 when anything of a user's rows waits to be sent.
SELECT EXISTS (
  SELECT 1
  FROM _sync_outbox
  WHERE owner = :owner
    AND fresh IS NULL
    AND collection <> ''
);

-- name: pending
-- The entries for the rows of one page, in the order of writing.
-- A migration's upload of a row that the cloud has had is no edit of it: it sends the row as it is then.
SELECT o.entry_id, o.collection, o.row_key, o.kind, o.set_json, o.before_json, o.state
FROM json_each(:keys) AS k
CROSS JOIN _sync_outbox AS o
  ON o.collection = json_extract(k.value, '$[0]')
  AND o.owner = :owner
  AND o.row_key = json_extract(k.value, '$[1]')
  AND o.fresh IS NULL
WHERE o.state <> 'squashed'
  AND o.kind IN ('put', 'patch', 'delete', 'changes', 'lift')
  AND NOT (
    o.migration IS NOT NULL
    AND o.kind = 'put'
    AND o.set_json IS NULL
    AND EXISTS (
      SELECT 1
      FROM _sync_row AS r
      WHERE r.owner = o.owner
        AND r.collection = o.collection
        AND r.row_key = o.row_key
    )
  )
ORDER BY o.entry_id;

-- name: refused_as_gone
-- Edits of a row that the cloud did not take because another device had deleted it; a person need not decide yet.
SELECT item_id, json_extract(body, '$.entry_id'), json_extract(body, '$.set'), json_extract(body, '$.before')
FROM _sync_quarantine
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND resolution IS NULL
  AND origin = 'outbox'
  AND error_code = 'gone'
  AND json_extract(body, '$.kind') = 'patch'
ORDER BY item_id;

-- name: rewrite_entry
-- An entry that has no number yet stands on the cloud's row now.
UPDATE _sync_outbox
SET kind = :kind,
    set_json = :set_json,
    before_json = :before_json
WHERE entry_id = :entry_id
  AND state <> 'claimed';

-- name: drop_entry
-- An entry without a number has nothing left to do; those that travelled in it neither.
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
WHERE entry_id = :entry_id
  AND state <> 'claimed';
UPDATE _sync_outbox
SET fresh = 2
WHERE fresh = 1
  AND entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND entry_id < (SELECT entry_id FROM _sync_last_entry);

-- name: queue_put
-- Send a row as it is when its turn comes.
INSERT INTO _sync_outbox (entry_id, owner, kind, collection, row_key, shape_version, group_id, created_ms)
VALUES (
  (SELECT entry_id + 1 FROM _sync_newest_entry),
  :owner, 'put', :collection, :row_key, :shape_version, :group_id, :now_ms
);

-- name: queue_delete
-- Tell the cloud again that a row is deleted.
INSERT INTO _sync_outbox (entry_id, owner, kind, collection, row_key, shape_version, group_id, created_ms)
VALUES (
  (SELECT entry_id + 1 FROM _sync_newest_entry),
  :owner, 'delete', :collection, :row_key, :shape_version, :group_id, :now_ms
);

-- name: queue_patch
-- Tell the cloud some columns of a row, and what it had in them.
INSERT INTO _sync_outbox (
  entry_id, owner, kind, collection, row_key, set_json, before_json, shape_version, group_id, created_ms
)
VALUES (
  (SELECT entry_id + 1 FROM _sync_newest_entry),
  :owner, 'patch', :collection, :row_key, :set_json, :before_json, :shape_version, :group_id, :now_ms
);

-- name: captured_since
-- What triggers have written behind an entry, with what was in the rows before; as bytes, for they may be no UTF-8.
SELECT entry_id, owner, kind, collection, CAST(row_key AS BLOB), CAST(before_json AS BLOB), shape_version
FROM _sync_outbox
WHERE entry_id > :after
  AND fresh IS NOT NULL
ORDER BY entry_id;

-- name: drop_captured
-- Edits that nobody made: what triggers wrote of rows that came from the cloud. A JSON list of their numbers.
UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
DELETE FROM _sync_outbox
WHERE entry_id IN (SELECT value FROM json_each(:entries));
UPDATE _sync_outbox
SET fresh = 2
WHERE fresh = 1
  AND entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND entry_id < (SELECT entry_id FROM _sync_last_entry);

-- name: part_captured
-- Each of these, by a JSON list of their numbers, is a group of its own: it can be sent, and refused, without the others.
UPDATE _sync_outbox
SET group_id = entry_id
WHERE entry_id IN (SELECT value FROM json_each(:entries));

-- name: queue_lift
-- Hand a document with the patches that lay beside it back to the cloud, in one shape.
INSERT INTO _sync_outbox (
  entry_id, owner, kind, collection, row_key, set_json, before_json, base_version, shape_version, group_id,
  created_ms
)
VALUES (
  (SELECT entry_id + 1 FROM _sync_newest_entry),
  :owner, 'lift', :collection, :row_key, :set_json, :lifts, :base_version, :shape_version, :group_id, :now_ms
);

-- name: queue_changes
-- Hand the rows that one document became back to the cloud, all at once.
INSERT INTO _sync_outbox (
  entry_id, owner, kind, collection, row_key, set_json, base_version, shape_version, group_id, created_ms
)
VALUES (
  (SELECT entry_id + 1 FROM _sync_newest_entry),
  :owner, 'changes', :collection, :row_key, :set_json, :base_version, :shape_version, :group_id, :now_ms
);

-- name: drop_lifts
-- What was to be handed back of a row is out of date.
UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
DELETE FROM _sync_outbox
WHERE owner = :owner
  AND collection = :collection
  AND row_key = :row_key
  AND fresh IS NULL
  AND kind = 'lift'
  AND state IN ('waiting', 'held');
UPDATE _sync_outbox
SET fresh = 2
WHERE fresh = 1
  AND entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND entry_id < (SELECT entry_id FROM _sync_last_entry);

-- name: record_conflict
-- Both sides changed a field.
INSERT INTO _sync_conflict (
  owner, collection, row_key, field, local_json, server_json, winner, policy, version, created_at
)
VALUES (
  :owner, :collection, :row_key, :field, :local_json, :server_json, :winner, :policy, :version, :now
);

-- name: prune_conflicts
-- Conflicts of long ago are forgotten.
DELETE FROM _sync_conflict
WHERE created_at < :before;

-- name: park
-- Keep what cannot be read here yet, as it came; the newest of each row.
INSERT INTO _sync_parked (owner, collection, row_key, version, shape_version, reason, body, parked_at)
VALUES (:owner, :collection, :row_key, :version, :shape_version, :reason, :body, :now)
ON CONFLICT (owner, collection, row_key) DO UPDATE SET
  version = excluded.version,
  shape_version = excluded.shape_version,
  reason = excluded.reason,
  body = excluded.body,
  parked_at = excluded.parked_at;

-- name: unpark
-- A row came in after all, or again.
DELETE FROM _sync_parked
WHERE owner = :owner
  AND collection = :collection
  AND row_key = :row_key;

-- name: any_parked
-- 1 when anything of a user is parked.
SELECT EXISTS (
  SELECT 1
  FROM _sync_parked
  WHERE owner = :owner
);

-- name: anything_parked
-- 1 when anything at all is parked.
SELECT EXISTS (SELECT 1 FROM _sync_parked);

-- name: parked_for
-- A page of what is parked for one of some reasons, oldest first.
SELECT parked_id, reason, body
FROM _sync_parked
WHERE owner = :owner
  AND parked_id > :after
  AND reason IN (SELECT value FROM json_each(:reasons))
ORDER BY parked_id
LIMIT :rows_max;

-- name: parked_shapes
-- Which owners have something parked, of which collections and shapes.
SELECT DISTINCT owner, collection, shape_version, reason
FROM _sync_parked;

-- name: set_pulled_aside
-- A row of the cloud that no rule of its table takes, whole; a newer one of the same row takes its place.
INSERT INTO _sync_quarantine (
  origin, owner, collection, row_key, body, error_code, error_text, field, shape_version, created_at
)
VALUES (
  'pull', :owner, :collection, :row_key, :body, :error_code, :error_text, :field, :shape_version, :now
)
RETURNING item_id;

-- name: set_pulled_aside_again
-- The same row was set aside before, and nobody has decided: it is as the cloud has it now.
UPDATE _sync_quarantine
SET body = :body,
    error_code = :error_code,
    error_text = :error_text,
    field = :field,
    shape_version = :shape_version,
    attempts = attempts + 1
WHERE item_id = (
  SELECT max(item_id)
  FROM _sync_quarantine
  WHERE collection = :collection
    AND owner = :owner
    AND row_key = :row_key
    AND resolution IS NULL
    AND origin = 'pull'
    AND error_code NOT IN ('deleted_at_cloud', 'parent_deleted')
)
RETURNING item_id;

-- name: any_left_behind
-- Whether rows of this user wait: from the cloud parked, from the cloud in quarantine, of a migration in quarantine.
SELECT
  EXISTS (SELECT 1 FROM _sync_parked WHERE owner = :owner),
  EXISTS (
    SELECT 1
    FROM _sync_quarantine
    WHERE origin = 'pull'
      AND owner = :owner
      AND resolution IS NULL
      AND error_code NOT IN ('deleted_at_cloud', 'parent_deleted')
  ),
  EXISTS (
    SELECT 1
    FROM _sync_quarantine
    WHERE origin = 'migration'
      AND owner = :owner
      AND shape_version IS NOT NULL
      AND resolution IS NULL
  );

-- name: resolve_pulled
-- The row came in later: nobody has to decide about what had come before.
UPDATE _sync_quarantine
SET resolution = 'retried',
    resolved_at = :now
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND resolution IS NULL
  AND origin = 'pull'
  AND error_code NOT IN ('deleted_at_cloud', 'parent_deleted');

-- name: resolve_mended
-- A newer version of a row comes in whole that a migration had set aside here: it was mended elsewhere.
-- Where an edit of it waits or lies in quarantine, or values of it were erased, or nobody has sent it, a person decides.
UPDATE _sync_quarantine
SET resolution = 'retried',
    resolved_at = :now,
    note = :note
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key
  AND resolution IS NULL
  AND origin = 'migration'
  AND shape_version IS NOT NULL
  AND body_original IS NULL
  AND EXISTS (
    SELECT 1
    FROM _sync_row AS known
    WHERE known.collection = :collection
      AND known.owner = :owner
      AND known.row_key = :row_key
      AND NOT known.deleted
      AND known.version < :version
  )
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_quarantine AS edit
    WHERE edit.collection = :collection
      AND edit.owner = :owner
      AND edit.row_key = :row_key
      AND edit.resolution IS NULL
      AND edit.origin <> 'migration'
  )
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_outbox AS waiting
    WHERE waiting.collection = :collection
      AND waiting.owner = :owner
      AND waiting.row_key = :row_key
      AND waiting.fresh IS NULL
  )
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_erasure AS e, json_each(e.collections) AS erased
    WHERE erased.value = :collection
  );

-- name: unseen_rows
-- A page of rows that the cloud had, and that a reading from the start did not meet.
SELECT collection, row_key, version, shape_version, deleted, row_set_id
FROM _sync_row
WHERE owner = :owner
  AND resync <> :resync
  AND (row_key, row_set_id) > (:row_key, :row_set_id)
ORDER BY row_key, row_set_id
LIMIT :rows_max;

-- name: forget_row
-- Nothing is known of this row at the cloud any more.
DELETE FROM _sync_row
WHERE collection = :collection
  AND owner = :owner
  AND row_key = :row_key;
