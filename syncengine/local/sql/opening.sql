-- What a start looks at, before it writes anything and after.

-- name: facts
-- Whose store it is, in which edition, the schema that was last found right, and whether an erasure is unfinished.
SELECT name, value
FROM _sync_state
WHERE name IN ('engine_schema', 'app', 'schema_cookie', 'erasing');

-- name: versions
-- The version that each scope has reached.
SELECT scope, schema_version
FROM _sync_version;

-- name: has_collections
-- 1 when any table is recorded.
SELECT EXISTS (SELECT 1 FROM _sync_collection);

-- name: cookie
-- SQLite's count of changes to this file's schema.
SELECT schema_version
FROM pragma_schema_version;

-- name: parts
-- All that is in the schema, to find what is not.
SELECT type, name
FROM sqlite_schema;

-- name: shapes
-- How each collection was recorded, and how it is: one moment of it all.
SELECT name AS collection, 'record' AS kind, '' AS name, ddl AS said
FROM _sync_collection
UNION ALL
SELECT '', 'cookie', '', schema_version
FROM pragma_schema_version
UNION ALL
SELECT c.name, s.type, s.name, s.sql
FROM _sync_collection AS c
JOIN sqlite_schema AS s ON s.tbl_name = c.name
WHERE s.sql IS NOT NULL
  AND s.name NOT GLOB '_sync_*'
UNION ALL
SELECT c.name, 'column', x.name, printf('%s %d %s %d %d', x.type, x."notnull", ifnull(x.dflt_value, ''), x.pk, x.hidden)
FROM _sync_collection AS c
JOIN pragma_table_xinfo(c.name) AS x;

-- name: torn
-- Tables that a run makes under other names and no run owns now; 1: under this one it has the collection's own rows.
SELECT s.name, s.name = c.name || '_live_'
FROM _sync_collection AS c
JOIN sqlite_schema AS s ON s.name IN (c.name || '_new_', c.name || '_late_', c.name || '_live_')
WHERE s.type = 'table'
  AND NOT EXISTS (SELECT 1 FROM _sync_shadow AS w WHERE w.collection = c.name);

-- name: leases
-- Who has a right that takes many transactions.
SELECT name, holder, pid, boot_id, fence
FROM _sync_lease
WHERE holder <> '';

-- name: end_lease
-- Give back what a process that has ended had.
UPDATE _sync_lease
SET holder = ''
WHERE name = :name
  AND fence = :fence;
