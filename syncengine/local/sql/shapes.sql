-- What the tables of the app's collections look like. No statement here reads a row.

-- name: collections
-- How each collection is known.
SELECT name, key_column, owner_column, shape_version
FROM _sync_collection
ORDER BY name;

-- name: lost_parents
-- Which table refers to one that is not there: SQLite refuses every write to it.
SELECT DISTINCT s.name, f."table"
FROM sqlite_schema AS s
JOIN pragma_foreign_key_list(s.name) AS f
WHERE s.type = 'table'
  AND NOT EXISTS (SELECT 1 FROM sqlite_schema AS p WHERE p.type = 'table' AND p.name = f."table" COLLATE NOCASE)
ORDER BY 1, 2;

-- name: table_sql
-- The table as it was made, with its comments.
SELECT sql
FROM sqlite_schema
WHERE type = 'table'
  AND name = :name;

-- name: columns
-- Its columns in order, generated ones, too.
SELECT name, type, "notnull", dflt_value, pk
FROM pragma_table_xinfo(:name)
WHERE hidden <> 1
ORDER BY cid;

-- name: indexes
-- Its indexes, but those that SQLite made itself.
SELECT sql
FROM sqlite_schema
WHERE type = 'index'
  AND tbl_name = :name
  AND sql IS NOT NULL
ORDER BY name;
