-- Who may run a migration that takes many transactions.

-- name: get
-- Who has a lease.
SELECT holder, pid, boot_id, until_ms, fence
FROM _sync_lease
WHERE name = :name;

-- name: write
-- Take, renew or give back a lease.
INSERT INTO _sync_lease (name, holder, pid, boot_id, until_ms, fence)
VALUES (:name, :holder, :pid, :boot_id, :until_ms, :fence)
ON CONFLICT (name) DO UPDATE SET
  holder = excluded.holder,
  pid = excluded.pid,
  boot_id = excluded.boot_id,
  until_ms = excluded.until_ms,
  fence = excluded.fence;
