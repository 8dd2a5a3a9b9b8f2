-- What the cloud asks of its database. Every statement names the user first.

-- name: write_state
-- Once, when the database is made.
INSERT INTO cloud_state (only_row, server_epoch)
VALUES (1, :server_epoch);

-- name: server_epoch
-- Which life of this database it is.
SELECT server_epoch
FROM cloud_state;

-- name: add_tenant
-- A user, if new.
INSERT INTO tenant (tenant, row_version, cloud_version)
VALUES (:tenant, 0, NULL)
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

-- name: next_row_version
-- The user's counter, raised by one: order of commits is order of versions.
UPDATE tenant
SET row_version = row_version + 1
WHERE tenant = :tenant
RETURNING row_version;

-- name: cloud_version
-- What the user's documents have reached.
SELECT cloud_version
FROM tenant
WHERE tenant = :tenant;

-- name: write_cloud_version
-- They have got there.
UPDATE tenant
SET cloud_version = :cloud_version
WHERE tenant = :tenant;

-- name: document
-- One row, living or tombstone.
SELECT version, body, shape_version
FROM document
WHERE tenant = :tenant
  AND collection = :collection
  AND key = :key;

-- name: write_document
-- A row as it is now; body NULL makes it a tombstone.
INSERT INTO document (tenant, collection, key, version, body, shape_version, changed_at)
VALUES (:tenant, :collection, :key, :version, :body, :shape_version, :changed_at)
ON CONFLICT (tenant, collection, key) DO UPDATE
SET version = excluded.version,
    body = excluded.body,
    shape_version = excluded.shape_version,
    changed_at = excluded.changed_at;

-- name: page
-- Living rows of one collection after a key, in byte order.
SELECT key, version, body, shape_version
FROM document
WHERE tenant = :tenant
  AND collection = :collection
  AND key > :after
  AND body IS NOT NULL
ORDER BY key
LIMIT :limit;

-- name: device_sequence
-- The highest sequence that this device has used up.
SELECT max(sequence)
FROM receipt
WHERE tenant = :tenant
  AND device = :device
  AND epoch = :epoch;

-- name: receipts
-- What was answered to a range of sequences.
SELECT sequence, outcome, version, code, message, skipped
FROM receipt
WHERE tenant = :tenant
  AND device = :device
  AND epoch = :epoch
  AND sequence BETWEEN :first AND :last
ORDER BY sequence;

-- name: write_receipt
-- The answer to one sequence, for good.
INSERT INTO receipt
  (tenant, device, epoch, sequence, outcome, version, code, message, skipped, received_at)
VALUES
  (:tenant, :device, :epoch, :sequence, :outcome, :version, :code, :message, :skipped, :received_at);
