-- What the cloud asks of its database. Every statement names the user first.

-- name: write_state
-- Once, when the database is made.
INSERT INTO cloud_state (only_row, cursor_key)
VALUES (1, :cursor_key);

-- name: cursor_key
-- What signs cursors.
SELECT cursor_key
FROM cloud_state;

-- name: add_tenant
-- A user, if new.
INSERT INTO tenant (tenant, row_version, server_epoch, epoch_head, floor, cloud_version)
VALUES (:tenant, 0, :server_epoch, 0, 0, NULL)
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

-- name: edition_of_known
-- Which edition of the tables is there, if there is such a user.
SELECT (SELECT user_version FROM pragma_user_version)
FROM tenant
WHERE tenant = :tenant;

-- name: tenant
-- Where a user's rows stand.
SELECT server_epoch, epoch_head, row_version, floor, cloud_version, stored_rows, stored_bytes
FROM tenant
WHERE tenant = :tenant;

-- name: raise_epoch
-- The user's rows begin another life.
UPDATE tenant
SET server_epoch = max(server_epoch + 1, :server_epoch),
    epoch_head = row_version
WHERE tenant = :tenant
RETURNING server_epoch;

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
FROM json_each(:keys) AS asked
CROSS JOIN document AS d
WHERE d.tenant = :tenant
  AND d.collection = :collection
  AND d.key = asked.value;

-- name: patches_at
-- What lies beside rows, in the order in which it came.
SELECT p.collection, p.key, p.patch, p.kind, p.shape_version, p.body
FROM json_each(:places) AS asked
CROSS JOIN patch_beside AS p
WHERE p.tenant = :tenant
  AND p.collection = json_extract(asked.value, '$[0]')
  AND p.key = json_extract(asked.value, '$[1]')
ORDER BY p.collection, p.key, p.patch;

-- name: bytes_of
-- How large living rows are, with what lies beside them.
SELECT d.collection, d.key, d.body_bytes
FROM json_each(:places) AS asked
CROSS JOIN document AS d
WHERE d.tenant = :tenant
  AND d.collection = json_extract(asked.value, '$[0]')
  AND d.key = json_extract(asked.value, '$[1]')
  AND d.body IS NOT NULL;

-- name: body
-- What one row holds.
SELECT body
FROM document
WHERE tenant = :tenant
  AND collection = :collection
  AND key = :key;

-- name: write_document
-- A row as it is now; body NULL makes it a tombstone.
INSERT INTO document
  (tenant, collection, key, version, group_version, shape_version, body_bytes, patches, writer, stood_on, changed_at,
   body)
VALUES
  (:tenant, :collection, :key, :version, :group_version, :shape_version, :body_bytes, :patches, :writer, :stood_on,
   :changed_at, :body)
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

-- name: add_document
-- A row, unless it or its tombstone is there.
INSERT INTO document
  (tenant, collection, key, version, group_version, shape_version, body_bytes, patches, writer, stood_on, changed_at,
   body)
VALUES
  (:tenant, :collection, :key, :version, :group_version, :shape_version, :body_bytes, 0, :writer, 0, :changed_at,
   :body)
ON CONFLICT (tenant, collection, key) DO NOTHING;

-- name: added_documents
-- How many rows this transaction has added; all of them have versions above those that there were.
SELECT count(*)
FROM document
WHERE tenant = :tenant
  AND group_version > :head;

-- name: take_back_documents
-- What this transaction has added; all of it has versions above those that there were.
DELETE FROM document
WHERE tenant = :tenant
  AND group_version > :head;

-- name: delete_patches
-- Nothing lies beside a row any more.
DELETE FROM patch_beside
WHERE tenant = :tenant
  AND collection = :collection
  AND key = :key;

-- name: write_patch
-- One write beside a row.
INSERT INTO patch_beside (tenant, collection, key, patch, kind, shape_version, body)
VALUES (:tenant, :collection, :key, :patch, :kind, :shape_version, :body);

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
-- Rows as they are now in the order of their last commit, tombstones too.
SELECT collection, key, version, group_version, shape_version, body_bytes, patches, body
FROM document
WHERE tenant = :tenant
  AND (group_version, version) > (:group_version, :version)
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
-- Living rows of one collection after a key, in byte order.
SELECT key, version, shape_version, body
FROM document
WHERE tenant = :tenant
  AND collection = :collection
  AND key > :after
  AND body IS NOT NULL
ORDER BY key
LIMIT :limit;

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

-- name: write_receipt
-- The answer to one sequence, or to a run of them, for good.
INSERT INTO receipt
  (
    tenant, device, epoch, sequence, entries, outcome, token, version, code, message, skipped, overwrote, received_at
  )
VALUES
  (
    :tenant, :device, :epoch, :sequence, :entries, :outcome, :token, :version, :code, :message, :skipped, :overwrote,
    :received_at
  );

-- name: old_tombstones
-- Rows that were deleted before a moment, some of them.
SELECT collection, key, group_version
FROM document
WHERE tenant = :tenant
  AND body IS NULL
  AND changed_at < :before
ORDER BY changed_at
LIMIT :rows_max;

-- name: forget_tombstone
-- Nothing tells any more that there was this row.
DELETE FROM document
WHERE tenant = :tenant
  AND collection = :collection
  AND key = :key;

-- name: raise_floor
-- Who stands below has to read from the start.
UPDATE tenant
SET floor = max(floor, :floor)
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
