-- What the cloud asks of PostgreSQL. Every statement names the user first, and row-level security does so again.
-- Only what Citus, YugabyteDB and CockroachDB know as well; a list `:names::type[]` stands for many rows at once. Rows
-- that are named are looked up one by one (LATERAL … LIMIT): whatever the planner believes of how much a user has, it
-- cannot read all of it to find a few.

-- name: make_edition_count
-- Before everything else: which edition of the tables is there, as a row that can be locked.
CREATE TABLE IF NOT EXISTS cloud_edition (
  only_row BIGINT NOT NULL PRIMARY KEY
    CONSTRAINT one_edition_only CHECK (only_row = 1),
  edition  BIGINT NOT NULL
);

-- name: begin_edition_count
-- No edition yet, unless somebody was here before.
INSERT INTO cloud_edition (only_row, edition)
VALUES (1, 0)
ON CONFLICT (only_row) DO NOTHING;

-- name: present_edition
-- Which edition is there, for a look.
SELECT edition
FROM cloud_edition
WHERE only_row = 1;

-- name: wait_for_work
-- Changes nothing: it waits for every transaction that has read the edition, and whoever begins one waits for us.
ALTER TABLE cloud_edition ALTER COLUMN edition SET NOT NULL;

-- name: edition
-- Which edition is there; whoever else wants to raise it waits.
SELECT edition
FROM cloud_edition
WHERE only_row = 1
FOR UPDATE;

-- name: write_edition
-- So many editions are there now.
UPDATE cloud_edition
SET edition = :edition
WHERE only_row = 1;

-- name: role
-- Whether row-level security holds for whoever has signed in here.
SELECT rolsuper OR rolbypassrls
FROM pg_roles
WHERE rolname = current_user;

-- name: surroundings
-- How texts are kept, whether policies are obeyed, whether nothing can be written, and where a new table would be made.
SELECT
  current_setting('server_encoding'),
  current_setting('row_security'),
  current_setting('transaction_read_only'),
  current_schema();

-- name: schemas_with_tables
-- Where tables of ours are, of the schemas that are looked into.
SELECT schemaname
FROM pg_tables
WHERE tablename = 'cloud_edition' AND schemaname = ANY (current_schemas(false))
ORDER BY schemaname;

-- name: be_in_schema
-- Until this transaction ends, tables are looked for and made here; if this server is frozen, it ends soon.
SELECT
  set_config('search_path', :schema, true),
  set_config('idle_in_transaction_session_timeout', :idle_in_transaction_session_timeout, true);

-- name: write_state
-- Once, when the database is made.
INSERT INTO cloud_state (only_row, cursor_key)
VALUES (1, :cursor_key)
ON CONFLICT (only_row) DO NOTHING;

-- name: cursor_key
-- What signs cursors, whether nothing can be written, and which edition of the tables is there.
SELECT
  cursor_key,
  current_setting('transaction_read_only') = 'on',
  (SELECT edition FROM cloud_edition WHERE only_row = 1)
FROM cloud_state
WHERE only_row = 1;

-- name: begin_work
-- Until this transaction ends: the schema, how long it may hold up others, whose rows are there, and which token.
SELECT
  set_config('search_path', :schema, true),
  set_config('lock_timeout', :lock_timeout, true),
  set_config('statement_timeout', :statement_timeout, true),
  set_config('idle_in_transaction_session_timeout', :idle_in_transaction_session_timeout, true),
  set_config('app.tenant', :tenant, true),
  set_config('app.token_hash', :token_hash, true);

-- name: list_users
-- Until this transaction ends, the users' own rows are there, and nothing else of theirs.
SELECT set_config('app.upkeep', 'lists users', true);

-- name: add_tenant
-- A user, if new.
INSERT INTO tenant (tenant, row_version, server_epoch, epoch_head, floor, cloud_version, stored_rows, stored_bytes)
VALUES (:tenant, 0, :server_epoch, 0, 0, NULL, 0, 0)
ON CONFLICT (tenant) DO NOTHING;

-- name: add_token
-- One more token of a user; the same one again changes nothing.
INSERT INTO token (tenant, token_hash, created_at)
VALUES (:tenant, :token_hash, :created_at)
ON CONFLICT (tenant, token_hash) DO NOTHING;

-- name: tenant_of_token
-- Whose token it is.
SELECT tenant
FROM token
WHERE token_hash = :token_hash;

-- name: lock_tenant
-- Whoever else writes for this user waits until this transaction ends: the order of versions is that of commits.
-- And which edition of the tables is there, which stays so until then: who raises it waits for whoever has read it.
SELECT row_version, (SELECT edition FROM cloud_edition WHERE only_row = 1)
FROM tenant
WHERE tenant = :tenant
FOR UPDATE;

-- name: tenant
-- Where a user's rows stand.
SELECT server_epoch, epoch_head, row_version, floor, cloud_version, stored_rows, stored_bytes
FROM tenant
WHERE tenant = :tenant;

-- name: raise_epoch
-- The user's rows begin another life.
UPDATE tenant
SET server_epoch = greatest(server_epoch + 1, :server_epoch),
    epoch_head = row_version
WHERE tenant = :tenant;

-- name: write_tenant
-- How far a push has brought the user's rows, and how many more they are.
UPDATE tenant
SET row_version = :row_version,
    cloud_version = :cloud_version,
    stored_rows = stored_rows + :rows_more,
    stored_bytes = stored_bytes + :bytes_more
WHERE tenant = :tenant;

-- name: rows_at
-- Rows of one collection by their keys, living or tombstone; large bodies are left where they are.
SELECT d.key, d.version, d.shape_version, d.body_bytes, d.patches, d.writer, d.stood_on,
  CASE WHEN d.body_bytes <= :body_bytes_max THEN d.body END
FROM unnest(:keys::text[]) AS asked (key)
CROSS JOIN LATERAL (
  SELECT key, version, shape_version, body_bytes, patches, writer, stood_on, body
  FROM document
  WHERE tenant = :tenant
    AND collection = :collection
    AND key = asked.key
  LIMIT 1
) AS d;

-- name: patches_at
-- What lies beside rows, in the order in which it came.
SELECT p.collection, p.key, p.patch, p.kind, p.shape_version, p.body
FROM unnest(:collections::text[], :keys::text[]) AS asked (collection, key)
CROSS JOIN LATERAL (
  SELECT collection, key, patch, kind, shape_version, body
  FROM patch_beside
  WHERE tenant = :tenant
    AND collection = asked.collection
    AND key = asked.key
  LIMIT 1000000
) AS p
ORDER BY p.collection, p.key, p.patch;

-- name: bytes_of
-- How large living rows are, with what lies beside them.
SELECT d.collection, d.key, d.body_bytes
FROM unnest(:collections::text[], :keys::text[]) AS asked (collection, key)
CROSS JOIN LATERAL (
  SELECT collection, key, body_bytes
  FROM document
  WHERE tenant = :tenant
    AND collection = asked.collection
    AND key = asked.key
    AND body IS NOT NULL
  LIMIT 1
) AS d;

-- name: body
-- What one row holds.
SELECT body
FROM document
WHERE tenant = :tenant
  AND collection = :collection
  AND key = :key;

-- name: write_documents
-- Rows as they are now; body NULL makes one a tombstone.
INSERT INTO document
  (tenant, collection, key, version, group_version, shape_version, body_bytes, patches, writer, stood_on, changed_at,
   body)
SELECT :tenant, made.collection, made.key, made.version, made.group_version, made.shape_version, made.body_bytes,
  made.patches, made.writer, made.stood_on, :changed_at, made.body
FROM unnest(
  :collections::text[], :keys::text[], :versions::bigint[], :group_versions::bigint[], :shape_versions::text[],
  :body_bytes::bigint[], :patches::bigint[], :writers::text[], :stood_on::bigint[], :bodies::text[]
) AS made (
  collection, key, version, group_version, shape_version, body_bytes, patches, writer, stood_on, body
)
ON CONFLICT (tenant, collection, key) DO UPDATE
SET version = excluded.version,
    group_version = excluded.group_version,
    shape_version = excluded.shape_version,
    body_bytes = excluded.body_bytes,
    patches = excluded.patches,
    writer = excluded.writer,
    stood_on = excluded.stood_on,
    changed_at = excluded.changed_at,
    body = excluded.body;

-- name: add_documents
-- Rows of one writer, but none that is there, nor of which a tombstone is.
INSERT INTO document
  (tenant, collection, key, version, group_version, shape_version, body_bytes, patches, writer, stood_on, changed_at,
   body)
SELECT :tenant, made.collection, made.key, made.version, made.group_version, made.shape_version, made.body_bytes,
  0, :writer, 0, :changed_at, made.body
FROM unnest(
  :collections::text[], :keys::text[], :versions::bigint[], :group_versions::bigint[], :shape_versions::text[],
  :body_bytes::bigint[], :bodies::text[]
) AS made (collection, key, version, group_version, shape_version, body_bytes, body)
ON CONFLICT (tenant, collection, key) DO NOTHING;

-- name: take_back_documents
-- What this transaction has added; all of it has versions above those that there were.
DELETE FROM document
WHERE tenant = :tenant
  AND group_version > :head;

-- name: delete_patches
-- Nothing lies beside these rows any more.
DELETE FROM patch_beside
WHERE tenant = :tenant
  AND (collection, key) IN (
    SELECT gone.collection, gone.key
    FROM unnest(:collections::text[], :keys::text[]) AS gone (collection, key)
  );

-- name: write_patches
-- Writes beside rows.
INSERT INTO patch_beside (tenant, collection, key, patch, kind, shape_version, body)
SELECT :tenant, made.collection, made.key, made.patch, made.kind, made.shape_version, made.body
FROM unnest(
  :collections::text[], :keys::text[], :patches::bigint[], :kinds::text[], :shape_versions::text[], :bodies::text[]
) AS made (collection, key, patch, kind, shape_version, body);

-- name: write_mark
-- A commit, so that a copy of the database that counts on from an older state is recognised.
INSERT INTO commit_mark (tenant, last_version, mark)
VALUES (:tenant, :last_version, :mark);

-- name: mark_at
-- The mark of the commit that gave a version.
SELECT mark
FROM commit_mark
WHERE tenant = :tenant
  AND last_version >= :version
ORDER BY last_version
LIMIT 1;

-- name: changes_after
-- Rows as they are now in the order of their last commit, tombstones too: so many, or so many bytes of them.
SELECT collection, key, version, group_version, shape_version, body_bytes, patches, body
FROM (
  SELECT collection, key, version, group_version, shape_version, body_bytes, patches, body,
    sum(body_bytes) OVER (ORDER BY group_version, version ROWS UNBOUNDED PRECEDING) - body_bytes AS bytes_before
  FROM (
    SELECT collection, key, version, group_version, shape_version, body_bytes, patches, body
    FROM document
    WHERE tenant = :tenant
      AND (group_version, version) > (:group_version, :version)
    ORDER BY group_version, version
    LIMIT :rows_max
  ) AS ahead
) AS counted
WHERE bytes_before < :bytes_max
ORDER BY group_version, version;

-- name: patches_between
-- What lies beside the rows of a page, in the order in which it came.
SELECT p.collection, p.key, p.patch, p.kind, p.shape_version, p.body
FROM document AS d
JOIN patch_beside AS p
  ON p.tenant = d.tenant
  AND p.collection = d.collection
  AND p.key = d.key
WHERE d.tenant = :tenant
  AND (d.group_version, d.version) > (:group_version, :version)
  AND (d.group_version, d.version) <= (:last_group_version, :last_version)
  AND d.patches > 0
ORDER BY p.collection, p.key, p.patch;

-- name: page
-- Living rows of one collection after a key, in byte order: so many, or so many bytes of them.
SELECT key, version, shape_version, body
FROM (
  SELECT key, version, shape_version, body,
    sum(body_bytes) OVER (ORDER BY key ROWS UNBOUNDED PRECEDING) - body_bytes AS bytes_before
  FROM (
    SELECT key, version, shape_version, body_bytes, body
    FROM document
    WHERE tenant = :tenant
      AND collection = :collection
      AND key > :after
      AND body IS NOT NULL
    ORDER BY key
    LIMIT :rows_max
  ) AS ahead
) AS counted
WHERE bytes_before < :bytes_max
ORDER BY key;

-- name: device_sequence
-- The highest sequence that this device has used up; the sum never passes 64 bit, also where all are.
SELECT coalesce(
  (
    SELECT 9223372036854775807
    FROM ended_epoch
    WHERE tenant = :tenant
      AND device = :device
      AND epoch >= :epoch
  ),
  (
    SELECT sequence + (entries - 1)
    FROM receipt
    WHERE tenant = :tenant
      AND device = :device
      AND epoch = :epoch
    ORDER BY sequence DESC
    LIMIT 1
  ),
  0
);

-- name: end_epochs
-- All numbers of this epoch of a device, and of lower ones, are used up. What says nothing new writes nothing.
INSERT INTO ended_epoch (tenant, device, epoch)
VALUES (:tenant, :device, :epoch)
ON CONFLICT (tenant, device) DO UPDATE SET epoch = excluded.epoch
WHERE excluded.epoch > ended_epoch.epoch;

-- name: receipts
-- What was answered to a range of sequences.
SELECT sequence, outcome, token, version, code, message, skipped, entries, overwrote
FROM receipt
WHERE tenant = :tenant
  AND device = :device
  AND epoch = :epoch
  AND sequence <= :last
  AND sequence >= coalesce(
    (
      SELECT max(one.sequence)
      FROM receipt AS one
      WHERE one.tenant = :tenant
        AND one.device = :device
        AND one.epoch = :epoch
        AND one.sequence <= :first
    ),
    :first
  )
ORDER BY sequence;

-- name: write_receipts
-- The answers to sequences, or to runs of them, for good.
INSERT INTO receipt
  (
    tenant, device, epoch, sequence, entries, outcome, token, version, code, message, skipped, overwrote, received_at
  )
SELECT :tenant, :device, :epoch, said.sequence, said.entries, said.outcome, said.token, said.version, said.code,
  said.message, said.skipped, said.overwrote, :received_at
FROM unnest(
  :sequences::bigint[], :entries::bigint[], :outcomes::text[], :tokens::text[], :versions::bigint[], :codes::text[],
  :messages::text[], :skipped::text[], :overwrote::text[]
) AS said (sequence, entries, outcome, token, version, code, message, skipped, overwrote);

-- name: old_tombstones
-- Rows that were deleted before a moment, some of them.
SELECT collection, key, group_version
FROM document
WHERE tenant = :tenant
  AND body IS NULL
  AND changed_at < :before
ORDER BY changed_at
LIMIT :rows_max;

-- name: forget_tombstones
-- Nothing tells any more that there were these rows.
DELETE FROM document
WHERE tenant = :tenant
  AND body IS NULL
  AND (collection, key) IN (
    SELECT gone.collection, gone.key
    FROM unnest(:collections::text[], :keys::text[]) AS gone (collection, key)
  );

-- name: raise_floor
-- Who stands below has to read from the start.
UPDATE tenant
SET floor = greatest(floor, :floor)
WHERE tenant = :tenant;

-- name: forget_marks
-- No cursor that is still good tells of these commits.
DELETE FROM commit_mark
WHERE tenant = :tenant
  AND last_version < :floor;

-- name: tenants
-- All users.
SELECT tenant
FROM tenant
ORDER BY tenant;
