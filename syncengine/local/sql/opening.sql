-- What a start looks at, before it writes anything and after.

-- name: facts
-- Whose store it is, in which edition, and the schema that was last found right.
SELECT name, value
FROM _sync_state
WHERE name IN ('engine_schema', 'app', 'schema_cookie');

-- name: versions
-- The version that each scope has reached.
SELECT scope, schema_version
FROM _sync_version;
