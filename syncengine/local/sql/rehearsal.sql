-- What a rehearsal compares between a store and its copy.

-- name: last_item
-- The newest quarantine item.
SELECT coalesce(max(item_id), 0)
FROM _sync_quarantine;

-- name: items_since
-- What was set aside since, without the rows themselves: rows, then queued entries.
SELECT collection, row_key, error_code, error_text, field
FROM _sync_quarantine
WHERE item_id > :item_id
ORDER BY origin = 'outbox', item_id
LIMIT :rows_max;

-- name: count_items_since
-- How much was set aside since.
SELECT count(*)
FROM _sync_quarantine
WHERE item_id > :item_id;

-- name: count_rows_since
-- How many of these are rows, and not queued entries.
SELECT count(*)
FROM _sync_quarantine
WHERE item_id > :item_id
  AND origin <> 'outbox';

-- name: entries
-- How many entries each collection has in the outbox.
SELECT collection, count(*)
FROM _sync_outbox
GROUP BY collection;
