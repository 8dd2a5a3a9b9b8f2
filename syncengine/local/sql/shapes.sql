-- What the tables of the app's collections look like. No statement here reads a row.

-- name: collections
-- How each collection is known.
SELECT name, key_column, owner_column, shape_version
FROM _sync_collection
ORDER BY name;

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
