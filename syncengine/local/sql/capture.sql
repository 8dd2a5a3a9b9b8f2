-- The triggers that capture edits, and what they are made from.

-- name: synced
-- Every collection whose rows are sent and whose table is there.
SELECT name
FROM _sync_collection
WHERE owner_column IS NOT NULL
  AND name IN (SELECT name FROM sqlite_schema WHERE type = 'table')
ORDER BY name;

-- name: columns
-- The columns of a table that a statement can write, in order.
SELECT name, type
FROM pragma_table_xinfo(:collection)
WHERE hidden = 0
ORDER BY cid;

-- name: is_strict
-- 1 for a table that keeps to its types.
SELECT strict
FROM pragma_table_list(:collection)
WHERE schema = 'main';

-- name: triggers
-- The triggers of capture that are there.
SELECT name, sql
FROM sqlite_schema
WHERE type = 'trigger'
  AND name GLOB :pattern;

-- name: all_triggers
-- Every trigger of the store.
SELECT name
FROM sqlite_schema
WHERE type = 'trigger';

-- name: may_fire
-- Whether writing rows of these collections, or foreign keys for them, may fire other triggers than these, or the app's.
SELECT
  coalesce(max(t.name NOT IN (SELECT value FROM json_each(:own))), 0),
  coalesce(max(t.name NOT GLOB '_sync_*'), 0)
FROM sqlite_schema AS t
WHERE t.type = 'trigger'
  AND (
    EXISTS (SELECT 1 FROM json_each(:collections) AS c WHERE c.value = t.tbl_name COLLATE NOCASE)
    OR EXISTS (
      SELECT 1
      FROM pragma_foreign_key_list(t.tbl_name)
      WHERE on_update NOT IN ('NO ACTION', 'RESTRICT')
         OR on_delete NOT IN ('NO ACTION', 'RESTRICT')
    )
  );

-- name: schema_is_known
-- 1 when the schema is the one that was last found right.
SELECT EXISTS (
  SELECT 1
  FROM _sync_state
  WHERE name = 'schema_cookie'
    AND value = (SELECT CAST(schema_version AS TEXT) FROM pragma_schema_version)
);

-- name: know_schema
-- What has changed in the schema was the engine's own doing.
UPDATE _sync_state
SET value = (SELECT CAST(schema_version AS TEXT) FROM pragma_schema_version)
WHERE name = 'schema_cookie';

-- name: fires_late
-- Collections with a trigger of somebody else that is newer than capture's: SQLite fires the newest first.
SELECT DISTINCT c.name
FROM _sync_collection AS c
JOIN sqlite_schema AS own ON own.tbl_name = c.name COLLATE NOCASE
JOIN sqlite_schema AS other ON other.tbl_name = c.name COLLATE NOCASE
WHERE own.type = 'trigger'
  AND own.name GLOB '_sync_capture_*'
  AND other.type = 'trigger'
  AND other.name NOT GLOB '_sync_*'
  AND other.rowid > own.rowid
ORDER BY c.name;

-- name: edited_again
-- The newest entry of each row that one transaction has edited more than once, where nothing of it was sent yet.
SELECT max(entry_id)
FROM _sync_outbox AS o
WHERE collection = :collection
  AND fresh IS NULL
  AND state IN ('waiting', 'held')
  AND NOT EXISTS (
    SELECT 1
    FROM _sync_quarantine AS q
    WHERE q.collection = o.collection
      AND q.owner = o.owner
      AND q.row_key = o.row_key
      AND q.resolution IS NULL
  )
GROUP BY owner, row_key, group_id
HAVING count(*) > 1;

-- name: edits_of_row
-- What waits of the same row as an entry.
SELECT o.entry_id, o.kind, o.set_json, o.before_json
FROM _sync_outbox AS e
JOIN _sync_outbox AS o
  ON o.collection = e.collection
  AND o.owner = e.owner
  AND o.row_key = e.row_key
WHERE e.entry_id = :entry_id
  AND o.fresh IS NULL
  AND o.state IN ('waiting', 'held')
ORDER BY o.entry_id;

-- name: rewrite
-- Give an entry that is not sent yet another edit of its row.
UPDATE _sync_outbox
SET kind = :kind,
    set_json = :set_json,
    before_json = :before_json
WHERE entry_id = :entry_id;

-- name: owners_since
-- Whose entries were queued after this one.
SELECT DISTINCT owner
FROM _sync_outbox
WHERE entry_id > :after;

-- name: is_at_cloud
-- 1 where the cloud has this row, as far as this device knows.
SELECT EXISTS (
  SELECT 1
  FROM _sync_row
  WHERE collection = :collection
    AND owner = :owner
    AND row_key = :row_key
    AND NOT deleted
);
