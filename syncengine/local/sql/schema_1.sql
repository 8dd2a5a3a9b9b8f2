-- The engine's own tables, first edition. Names begin with _sync_ so that no table of an app can clash.
-- Times are ISO-8601 UTC with milliseconds; states are words; JSON is text. Only SQL that SQLite 3.37 knows.

CREATE TABLE _sync_state (
  name  TEXT NOT NULL PRIMARY KEY, -- agreed to <hop> for <scope>, app, device_id, engine_schema, erasing, filed_to, group_counter, probe_verdict, probe_reason, probe_at,
                                   -- schema_cookie, quarantine_code [of <user>], stay of <user>, takeouts
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE _sync_version (
  scope          TEXT NOT NULL PRIMARY KEY, -- 'store' or 'user:<id>'
  schema_version TEXT NOT NULL,             -- the highest version completed, like 2.0.0
  cloud_version  TEXT,                      -- the version that this user's cloud data has reached; it trails
  app_version    TEXT,                      -- the app that wrote this row
  updated_at     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE _sync_collection (
  name          TEXT NOT NULL PRIMARY KEY, -- the table's name
  key_column    TEXT NOT NULL,             -- tells the rows of one owner apart
  owner_column  TEXT,                      -- whose row it is; NULL: not synced
  shape_version TEXT NOT NULL,             -- the version that last changed its columns
  fingerprint   TEXT NOT NULL,             -- SHA-256 over its columns, indexes and triggers
  ddl           TEXT NOT NULL DEFAULT '[]' -- [kind, name, SQL] of its table, columns, indexes and triggers, as made
    CONSTRAINT ddl_is_json CHECK (json_valid(ddl)),
  merge_policy  TEXT NOT NULL DEFAULT 'merge'
    CONSTRAINT merge_policy_is_known CHECK (merge_policy IN ('merge', 'server_wins', 'client_wins', 'function'))
) STRICT, WITHOUT ROWID;

CREATE TABLE _sync_run (
  run_id           INTEGER PRIMARY KEY,
  migration        TEXT NOT NULL,
  scope            TEXT NOT NULL,             -- 'store' or 'user:<id>'
  from_version     TEXT NOT NULL,
  to_version       TEXT NOT NULL,
  code_hash        TEXT,                      -- of the migration's code, when it ran
  state            TEXT NOT NULL
    CONSTRAINT state_is_known CHECK (
      state IN ('completed', 'queued', 'failed', 'cancelled', 'stood_for', 'skipped', 'rolled_back', 'restored')
    ),
  method           TEXT NOT NULL DEFAULT 'transaction' -- how it was done, or undone
    CONSTRAINT method_is_known CHECK (
      method IN (
        'transaction', 'shadow', 'queue', 'by_hand',
        'down', 'kept_table', 'restore_point', 'undo', 'taken_out', 'dropped'
      )
    ),
  restore_point_id INTEGER,                   -- the sealed copy that was made before it, if one was
  probe_verdict    TEXT NOT NULL DEFAULT 'unknown', -- what was known of the network at the start
  rows_read        INTEGER NOT NULL DEFAULT 0,
  rows_written     INTEGER NOT NULL DEFAULT 0,
  rows_merged      INTEGER NOT NULL DEFAULT 0, -- joined into another row, by rule
  rows_dropped     INTEGER NOT NULL DEFAULT 0, -- left out, by rule
  rows_quarantined INTEGER NOT NULL DEFAULT 0,
  entries_read        INTEGER NOT NULL DEFAULT 0, -- queued in the shape of before, open quarantine items with them
  entries_converted   INTEGER NOT NULL DEFAULT 0, -- they say the same in the new shape, or nothing
  entries_quarantined INTEGER NOT NULL DEFAULT 0, -- they cannot, and lie in quarantine with their original
  batches          INTEGER NOT NULL DEFAULT 0,
  batches_undone   INTEGER NOT NULL DEFAULT 0, -- rolled back to their SAVEPOINT and done again row by row
  started_at       TEXT NOT NULL,
  ended_at         TEXT NOT NULL,
  duration_ms      INTEGER NOT NULL,
  error_code       TEXT,
  error_text       TEXT,                      -- without row contents
  warnings         TEXT NOT NULL DEFAULT '[]'
    CONSTRAINT warnings_are_json CHECK (json_valid(warnings)),
  because_of       TEXT,                      -- of a rollback: what somebody asked to roll back
  note             TEXT,                      -- of a rollback: who asked for it, and why
  CONSTRAINT rows_add_up CHECK (
    state <> 'completed' OR rows_read = rows_written + rows_merged + rows_dropped + rows_quarantined
  ),
  CONSTRAINT entries_add_up CHECK (state <> 'completed' OR entries_read = entries_converted + entries_quarantined)
) STRICT;
CREATE INDEX _sync_run_by_migration ON _sync_run (migration, scope, state);

CREATE TABLE _sync_source (
  source      TEXT NOT NULL,  -- which legacy store, as its reader identifies it
  migration   TEXT NOT NULL,  -- what took it in
  imported_by TEXT NOT NULL,  -- the user who was signed in: nobody else gets these rows
  imported_at TEXT NOT NULL,
  PRIMARY KEY (source, migration)
) STRICT, WITHOUT ROWID;

-- The right to run one migration over many transactions. It ends with its process, its time, or a restart.
CREATE TABLE _sync_lease (
  name         TEXT NOT NULL PRIMARY KEY, -- what it is for, like 'migrate'
  holder       TEXT NOT NULL,             -- one engine of one process; '' when it was given back
  pid          INTEGER NOT NULL,
  boot_id      TEXT NOT NULL,             -- of this start of the machine: after a restart nobody holds it
  until_ms     INTEGER NOT NULL,          -- by the machine's monotonic clock
  fence        INTEGER NOT NULL           -- grows whenever somebody else takes it; every batch compares it
) STRICT, WITHOUT ROWID;

-- A large collection that is being rewritten beside the live table, in many transactions.
CREATE TABLE _sync_shadow (
  collection       TEXT NOT NULL PRIMARY KEY,
  migration        TEXT NOT NULL,
  scope            TEXT NOT NULL,
  code_hash        TEXT,                      -- other code begins anew
  state            TEXT NOT NULL DEFAULT 'filling'
    CONSTRAINT state_is_known CHECK (state IN ('filling', 'filled', 'paused')),
  asked            TEXT                       -- what a person wants of the process that runs it
    CONSTRAINT asked_is_known CHECK (asked IS NULL OR asked IN ('pause', 'cancel')),
  cursor           TEXT                       -- the key of the last row that was read, as JSON; NULL at the start
    CONSTRAINT cursor_is_json CHECK (cursor IS NULL OR json_valid(cursor)),
  rows_total       INTEGER NOT NULL,          -- of the live table at the start
  rows_read        INTEGER NOT NULL DEFAULT 0,
  rows_written     INTEGER NOT NULL DEFAULT 0,
  rows_dropped     INTEGER NOT NULL DEFAULT 0,
  batch_rows       INTEGER NOT NULL,          -- adapts to what a batch takes
  batches          INTEGER NOT NULL DEFAULT 0,
  batches_undone   INTEGER NOT NULL DEFAULT 0,
  restore_point_id INTEGER,
  facts            TEXT NOT NULL DEFAULT '{}' -- what else the run remembers between two transactions
    CONSTRAINT facts_are_json CHECK (json_valid(facts)),
  started_at       TEXT NOT NULL,
  updated_at       TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Rows of the live table that somebody wrote while it was being rewritten: they are converted again.
CREATE TABLE _sync_shadow_touched (
  touch_id   INTEGER PRIMARY KEY AUTOINCREMENT,
  collection TEXT NOT NULL,
  owner      ANY,
  row_key    ANY,
  UNIQUE (collection, owner, row_key) ON CONFLICT REPLACE
) STRICT;

-- What a row became, where that is not one row of the same key.
CREATE TABLE _sync_shadow_made (
  collection TEXT NOT NULL,
  owner      ANY,
  row_key    ANY,
  made_owner ANY,
  made_key   ANY  -- NULL: it was left out by rule
) STRICT;
CREATE INDEX _sync_shadow_made_by_row ON _sync_shadow_made (collection, owner, row_key);
CREATE INDEX _sync_shadow_made_by_result ON _sync_shadow_made (collection, made_owner, made_key);

-- Rows that cannot be converted, until the swap puts them into quarantine.
CREATE TABLE _sync_shadow_aside (
  aside_id   INTEGER PRIMARY KEY,
  collection TEXT NOT NULL,
  owner      ANY,
  row_key    ANY,
  body       TEXT NOT NULL,
  error_code TEXT NOT NULL,
  error_text TEXT NOT NULL,
  field      TEXT
) STRICT;
CREATE INDEX _sync_shadow_aside_by_row ON _sync_shadow_aside (collection, owner, row_key);

-- What queued entries will be in the new shape, converted beforehand; each holds for the entry as it is here.
CREATE TABLE _sync_entry_staged (
  entry_id      INTEGER PRIMARY KEY,
  collection    TEXT NOT NULL,
  owner         TEXT NOT NULL,
  was_key       TEXT NOT NULL,
  was_kind      TEXT NOT NULL,
  was_set       TEXT,
  was_before    TEXT,
  kind          TEXT NOT NULL,
  row_key       TEXT NOT NULL,
  set_json      TEXT,
  before_json   TEXT,
  shape_version TEXT NOT NULL
) STRICT;
CREATE INDEX _sync_entry_staged_by_row ON _sync_entry_staged (collection, owner, was_key);

-- An old table that stays for a while after its collection was rewritten, so that there is a way back.
CREATE TABLE _sync_kept_table (
  table_name TEXT NOT NULL PRIMARY KEY,
  collection TEXT NOT NULL,
  migration  TEXT NOT NULL,
  ddl        TEXT NOT NULL DEFAULT '[]' -- the SQL of the table, its indexes and triggers, as they were
    CONSTRAINT ddl_is_json CHECK (json_valid(ddl)),
  kept_at    TEXT NOT NULL,
  keep_until TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE _sync_restore_point (
  restore_point_id INTEGER PRIMARY KEY,
  path             TEXT NOT NULL,    -- the sealed copy, in the age format; relative to the store's folder
  sha256           TEXT NOT NULL,    -- of the sealed file
  size_bytes       INTEGER NOT NULL, -- of the sealed file
  recipient        TEXT NOT NULL,    -- the public key that it is sealed for
  schema_version   TEXT NOT NULL,    -- of the store then
  rows             TEXT NOT NULL     -- how many rows each table had, as JSON
    CONSTRAINT rows_are_json CHECK (json_valid(rows)),
  reason           TEXT NOT NULL,    -- like 'before journeys-schema-v2-to-v3'
  made_at          TEXT NOT NULL,
  verified_at      TEXT NOT NULL,    -- when it was checked, sealed, and opened again against its hash
  keep_until       TEXT NOT NULL,
  gone_at          TEXT,             -- when its file was deleted; the line stays for the history
  gone_because     TEXT,             -- why
  newest_erasure   INTEGER NOT NULL DEFAULT 0 -- the last erasure that it has gone through: it holds what later ones took
) STRICT;

-- A migration that said erases=True: nothing of what its collections held before may stay in the store's files.
CREATE TABLE _sync_erasure (
  erasure_id  INTEGER PRIMARY KEY,
  migration   TEXT NOT NULL,
  scope       TEXT NOT NULL,             -- 'store'; 'user:<id>' for rows that came late: no copy holds those
  collections TEXT NOT NULL              -- as a JSON list
    CONSTRAINT collections_are_json CHECK (json_valid(collections)),
  entries     TEXT NOT NULL              -- outbox entries that had old values then, as a JSON list
    CONSTRAINT entries_are_json CHECK (json_valid(entries)),
  items       TEXT NOT NULL              -- open quarantine items that had old values then, as a JSON list
    CONSTRAINT items_are_json CHECK (json_valid(items)),
  erased_at   TEXT NOT NULL,
  cleared_at  TEXT,                      -- when the file was written anew, without what lay in free space
  finished_at TEXT                       -- when nothing was left in the files; NULL: the next start goes on
) STRICT;

CREATE TABLE _sync_outbox (
  entry_id      INTEGER PRIMARY KEY, -- order of writing on this device; always the next after _sync_newest_entry
  owner         TEXT NOT NULL,     -- whose queue
  sequence      INTEGER,           -- given at the first claim; with device and epoch the key at the server
  epoch         INTEGER,           -- of the sequence
  kind          TEXT NOT NULL
    CONSTRAINT kind_is_known CHECK ( -- no IN: SQLite would build its list anew for each entry, which costs more than the rest
      kind = 'put' OR kind = 'patch' OR kind = 'delete' OR kind = 'changes' OR kind = 'lift' OR kind = 'migration' OR kind = 'void'
    ),
  collection    TEXT NOT NULL,     -- '' for a migration
  row_key       TEXT NOT NULL,     -- '' for a migration
  set_json      TEXT               -- what to write; NULL until claimed for a put that names only its row
    CONSTRAINT set_is_json CHECK (fresh IS NOT NULL OR set_json IS NULL OR json_valid(set_json)),
  before_json   TEXT               -- the old values of what changed
    CONSTRAINT before_is_json CHECK (fresh IS NOT NULL OR before_json IS NULL OR json_valid(before_json)),
  base_version  INTEGER,           -- the server's version of the row that the edit stands on; known when claimed
  shape_version TEXT NOT NULL,     -- the shape that set_json is written in
  original_json TEXT               -- as first written, when a migration converted it
    CONSTRAINT original_is_json CHECK (original_json IS NULL OR json_valid(original_json)),
  group_id      INTEGER            -- entries of one group arrive together or not at all; NULL: as _sync_group says
    CONSTRAINT group_is_named CHECK (group_id IS NOT NULL OR fresh IS NOT NULL),
  migration     TEXT,              -- the online migration that this entry belongs to
  barrier_json  TEXT               -- of a migration: collections held back, cursor, counts
    CONSTRAINT barrier_is_json CHECK (barrier_json IS NULL OR json_valid(barrier_json)),
  state         TEXT NOT NULL DEFAULT 'waiting', -- claimed: it has a number; held and squashed say by and into what
  squashed_into INTEGER,           -- the entry that a squashed one travels in; it leaves together with that one
  claim_token   TEXT,              -- by chance, given with the number: tells two copies of one store apart
  held_by       INTEGER,           -- the quarantine item that a held entry waits for
  attempts      INTEGER NOT NULL DEFAULT 0,
  last_error    TEXT,
  created_ms    INTEGER NOT NULL,  -- since 1970: a number takes a quarter of the text that people are shown
  fresh         INTEGER            -- as a trigger wrote it, in no index yet; 1: what comes next may be of its group, 2: it is the last
    CONSTRAINT fresh_is_known CHECK (fresh IS NULL OR fresh = 1 OR fresh = 2),
  CONSTRAINT state_is_known_and_fits CHECK ( -- one for all, as each costs every edit
    state = 'waiting' AND held_by IS NULL AND squashed_into IS NULL
    OR state = 'claimed' AND held_by IS NULL AND squashed_into IS NULL AND sequence IS NOT NULL
    OR state = 'held' AND held_by IS NOT NULL AND squashed_into IS NULL
    OR state = 'squashed' AND squashed_into IS NOT NULL AND held_by IS NULL AND sequence IS NULL AND epoch IS NULL
  )
) STRICT;
-- With what its own WHERE asks for, else SQLite looks into each row to count.
CREATE INDEX _sync_outbox_by_owner ON _sync_outbox (owner, state, entry_id, fresh) WHERE fresh IS NULL;
CREATE INDEX _sync_outbox_by_row ON _sync_outbox (collection, owner, row_key) WHERE fresh IS NULL;
-- One for all that no trigger writes, as each index is opened for every edit: what has a number; what travels in an entry;
-- what a migration has queued. What has no number stands before, by where it travels; 0, as NULL is like no other.
CREATE UNIQUE INDEX _sync_outbox_by_sequence ON _sync_outbox (owner, epoch, sequence, ifnull(squashed_into, 0))
WHERE sequence IS NOT NULL OR squashed_into IS NOT NULL OR migration IS NOT NULL;

-- What AUTOINCREMENT would keep, without a page that each edit has to write: what leaves the outbox is noted here before.
CREATE TABLE _sync_last_entry (
  only_row INTEGER PRIMARY KEY
    CONSTRAINT there_is_one CHECK (only_row = 1),
  entry_id INTEGER NOT NULL -- no entry that has left the outbox had a higher number
) STRICT;
INSERT INTO _sync_last_entry (only_row, entry_id) VALUES (1, 0);

-- The highest number that an entry has had: none is given twice, as receipts and quarantine items name entries.
CREATE VIEW _sync_newest_entry AS
SELECT max(
  coalesce((SELECT max(entry_id) FROM _sync_outbox), 0),
  coalesce((SELECT entry_id FROM _sync_last_entry), 0)
) AS entry_id;

-- Which group an entry belongs to. What a trigger writes joins the entry before it while that is open, and is named
-- when it is numbered or entered into the indexes: to look for the name at each edit would cost a tenth of the edit.
CREATE VIEW _sync_group AS
SELECT
  o.entry_id,
  coalesce(
    o.group_id,
    (
      SELECT first.entry_id
      FROM _sync_outbox AS first
      WHERE first.entry_id <= o.entry_id
        AND NOT EXISTS (SELECT 1 FROM _sync_outbox AS p WHERE p.entry_id = first.entry_id - 1 AND p.fresh = 1)
      ORDER BY first.entry_id DESC
      LIMIT 1
    )
  ) AS group_id
FROM _sync_outbox AS o;

CREATE TABLE _sync_drain (
  owner              TEXT NOT NULL PRIMARY KEY,
  epoch              INTEGER NOT NULL DEFAULT 1,
  doubtful_to        INTEGER NOT NULL DEFAULT 0, -- another copy of this store may have sent the entries up to here
  ended_epoch        INTEGER NOT NULL DEFAULT 0, -- what had a number of this epoch or a lower one was destroyed here
  next_sequence      INTEGER NOT NULL DEFAULT 1,
  confirmed_sequence INTEGER NOT NULL DEFAULT 0, -- the server has all up to here for good
  confirmed_count    INTEGER NOT NULL DEFAULT 0, -- entries of this device that took effect
  batch_entries_max  INTEGER NOT NULL DEFAULT 500, -- shrinks when a batch is refused, grows again after success
  attempts           INTEGER NOT NULL DEFAULT 0,  -- failures in a row
  next_try_at        TEXT,                        -- do not try by ourselves before
  last_success_at    TEXT,
  last_error         TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE _sync_quarantine (
  item_id     INTEGER PRIMARY KEY,
  origin      TEXT NOT NULL
    CONSTRAINT origin_is_known CHECK (origin IN ('migration', 'outbox', 'pull', 'restore')),
  migration   TEXT,
  owner       TEXT,
  collection  TEXT NOT NULL,
  row_key     TEXT,
  body        TEXT NOT NULL,  -- the whole thing as it was
  error_code  TEXT NOT NULL,
  error_text  TEXT NOT NULL,  -- without row contents
  field       TEXT,           -- path of the field at fault, like route.3.latitude
  attempts    INTEGER NOT NULL DEFAULT 1,
  shape_version TEXT,         -- the shape that body is written in; NULL: an element of a legacy store
  body_original TEXT,         -- as it was set aside, when a person has edited the body since
  code_hash   TEXT,           -- of the migration's code that refused it last: other code tries it once by itself
  note        TEXT,           -- why a person gave it up, or what settled it without one
  resolution  TEXT
    CONSTRAINT resolution_is_known CHECK (
      resolution IS NULL OR resolution IN ('retried', 'edited', 'discarded', 'restored')
    ),
  created_at  TEXT NOT NULL,
  resolved_at TEXT
) STRICT;
CREATE INDEX _sync_quarantine_open ON _sync_quarantine (collection, owner, row_key) WHERE resolution IS NULL;

CREATE TABLE _sync_archive (
  collection  TEXT NOT NULL,
  owner       TEXT NOT NULL, -- '' where the collection has none
  row_key     TEXT NOT NULL,
  field       TEXT NOT NULL, -- the column that a migration took away
  value       ANY,           -- its value, kept
  migration   TEXT NOT NULL,
  archived_at TEXT NOT NULL,
  PRIMARY KEY (collection, owner, row_key, field, migration)
) STRICT, WITHOUT ROWID;

-- The table of a collection as it was before a migration, so that there is a way back to it.
CREATE TABLE _sync_shape_before (
  collection TEXT NOT NULL,
  migration  TEXT NOT NULL,
  ddl        TEXT NOT NULL -- the SQL of the table, then of its indexes, as a JSON list
    CONSTRAINT ddl_is_json CHECK (json_valid(ddl)),
  PRIMARY KEY (collection, migration)
) STRICT, WITHOUT ROWID;

-- A number that stands for a collection and an owner in the index of _sync_row, which is a third shorter for it.
CREATE TABLE _sync_row_set (
  row_set_id INTEGER PRIMARY KEY,
  owner      TEXT NOT NULL,
  collection TEXT NOT NULL,
  CONSTRAINT rows_are_one_set UNIQUE (owner, collection)
) STRICT;

CREATE TABLE _sync_row (
  collection    TEXT NOT NULL,
  owner         TEXT NOT NULL,
  row_key       TEXT NOT NULL,
  version       INTEGER NOT NULL, -- the server's
  server_epoch  INTEGER NOT NULL DEFAULT 0, -- the life of the server's database that gave the version
  shape_version TEXT NOT NULL,    -- of the document that the server has
  deleted       INTEGER NOT NULL DEFAULT 0 -- 1: a tombstone, kept so that a server that lost it can be told again
    CONSTRAINT deleted_is_yes_or_no CHECK (deleted = 0 OR deleted = 1),
  resync        INTEGER NOT NULL DEFAULT 0, -- the reading from the start that saw it last
  extra         TEXT              -- fields that a newer client wrote and this one does not know, sent back untouched
    CONSTRAINT extra_is_json CHECK (extra IS NULL OR json_valid(extra)),
  row_set_id    INTEGER NOT NULL, -- of its collection and owner
  PRIMARY KEY (row_key, row_set_id) -- what differs first: each row that is read is looked for here
) STRICT; -- in the order in which rows first came: a page of them that comes again changes few pages of the file

CREATE TABLE _sync_cursor (
  owner         TEXT NOT NULL PRIMARY KEY,
  cursor        TEXT,                       -- opaque, the server's; NULL: read from the start
  server_epoch  INTEGER NOT NULL DEFAULT 0, -- the life of the server's database that the cursor belongs to
  at_head       INTEGER NOT NULL DEFAULT 0  -- 1: the last page was the end of what the server had
    CONSTRAINT at_head_is_yes_or_no CHECK (at_head IN (0, 1)),
  resync        INTEGER NOT NULL DEFAULT 0, -- counts the readings from the start
  resync_reason TEXT                        -- while one is under way
    CONSTRAINT resync_reason_is_known CHECK (
      resync_reason IS NULL OR resync_reason IN ('first', 'below_floor', 'other_epoch')
    ),
  updated_at    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE _sync_conflict (
  conflict_id INTEGER PRIMARY KEY,
  owner       TEXT NOT NULL,
  collection  TEXT NOT NULL,
  row_key     TEXT NOT NULL,
  field       TEXT NOT NULL,
  local_json  TEXT NOT NULL CONSTRAINT local_is_json CHECK (json_valid(local_json)),
  server_json TEXT NOT NULL CONSTRAINT server_is_json CHECK (json_valid(server_json)),
  winner      TEXT NOT NULL CONSTRAINT winner_is_known CHECK (winner IN ('local', 'server', 'merged')),
  policy      TEXT NOT NULL, -- the merge policy that decided
  version     INTEGER,       -- the server's version of the row then
  created_at  TEXT NOT NULL
) STRICT;
CREATE INDEX _sync_conflict_by_row ON _sync_conflict (collection, owner, row_key);

CREATE TABLE _sync_parked (
  parked_id     INTEGER PRIMARY KEY,
  owner         TEXT NOT NULL,
  collection    TEXT NOT NULL,
  row_key       TEXT NOT NULL,
  version       INTEGER NOT NULL, -- the server's
  shape_version TEXT NOT NULL,
  reason        TEXT NOT NULL
    CONSTRAINT reason_is_known CHECK (
      reason IN ('newer_shape', 'unknown_collection', 'no_way_down', 'parent_missing', 'children_left', 'clash')
    ),
  body          TEXT NOT NULL CONSTRAINT body_is_json CHECK (json_valid(body)), -- the item as it was pulled
  parked_at     TEXT NOT NULL,
  UNIQUE (owner, collection, row_key)
) STRICT;

-- An entry that has left the outbox otherwise than by the cloud's confirmation; its number is asked for by receipts.
CREATE TABLE _sync_receipt (
  entry_id   INTEGER PRIMARY KEY,
  owner      TEXT NOT NULL,
  collection TEXT NOT NULL,
  row_key    TEXT NOT NULL,
  ended      TEXT NOT NULL
    CONSTRAINT ended_is_known CHECK ( -- by what came from the cloud; queued: it has not, and was queued when the cloud was restored
      ended IN ('merged_away', 'set_aside', 'queued')
    ),
  ended_at   TEXT NOT NULL
) STRICT;

-- One row: is everything at the cloud, and if not, what is in the way?
CREATE VIEW sync_status AS
SELECT
  CASE
    WHEN (SELECT count(*) FROM _sync_quarantine WHERE resolution IS NULL) > 0 THEN 'needs attention'
    WHEN (SELECT count(*) FROM _sync_outbox) > 0 THEN 'waiting'
    WHEN NOT EXISTS (SELECT 1 FROM _sync_drain WHERE last_success_at IS NOT NULL) THEN 'local'
    WHEN EXISTS (SELECT 1 FROM _sync_parked) THEN 'parked'
    WHEN EXISTS (SELECT 1 FROM _sync_cursor WHERE NOT at_head) THEN 'reading'
    ELSE 'synced'
  END AS state,
  (SELECT schema_version FROM _sync_version WHERE scope = 'store') AS schema_version,
  (SELECT count(*) FROM _sync_outbox WHERE state = 'waiting') AS waiting,
  (SELECT count(*) FROM _sync_outbox WHERE state = 'claimed') AS claimed,
  (SELECT count(*) FROM _sync_outbox WHERE state = 'held') AS held,
  (SELECT count(*) FROM _sync_quarantine WHERE resolution IS NULL) AS quarantined,
  (SELECT count(*) FROM _sync_parked) AS parked,
  (SELECT count(*) FROM _sync_conflict) AS conflicts,
  (SELECT coalesce(sum(confirmed_count), 0) FROM _sync_drain) AS confirmed,
  (SELECT strftime('%Y-%m-%dT%H:%M:%fZ', min(created_ms) / 1000.0, 'unixepoch') FROM _sync_outbox) AS oldest_waiting,
  (SELECT max(last_success_at) FROM _sync_drain) AS last_success,
  (SELECT min(next_try_at) FROM _sync_drain) AS next_try,
  (SELECT max(last_error) FROM _sync_drain) AS last_error,
  coalesce((SELECT value FROM _sync_state WHERE name = 'probe_verdict'), 'unknown') AS network;

-- What waits to be sent, in order, and why it waits.
CREATE VIEW sync_outbox AS
SELECT
  o.entry_id AS entry,
  o.owner,
  o.kind,
  CASE o.kind WHEN 'migration' THEN o.migration ELSE o.collection END AS what,
  o.row_key AS "key",
  o.state,
  o.sequence,
  o.shape_version AS shape,
  CASE
    WHEN o.state = 'held' THEN 'behind quarantine item ' || o.held_by
    WHEN o.state = 'squashed' THEN 'travels in entry ' || o.squashed_into
    WHEN o.last_error IS NOT NULL THEN o.last_error
    WHEN o.state = 'claimed' THEN 'being sent'
    ELSE 'for its turn'
  END AS waits,
  strftime('%Y-%m-%dT%H:%M:%fZ', o.created_ms / 1000.0, 'unixepoch') AS since
FROM _sync_outbox AS o
ORDER BY o.entry_id;

-- What was set aside for a person, with its reason.
CREATE VIEW sync_quarantine AS
SELECT
  item_id AS item, origin, migration, owner, collection, row_key AS "key", field,
  error_code AS error, error_text AS reason, length(body) AS characters, created_at AS since, resolution
FROM _sync_quarantine
ORDER BY item_id;

-- Fields that were changed on both sides, and which value stayed.
CREATE VIEW sync_conflicts AS
SELECT conflict_id AS conflict, owner, collection, row_key AS "key", field, winner, policy, created_at AS since
FROM _sync_conflict
ORDER BY conflict_id;

-- What came from the cloud and cannot be read here yet.
CREATE VIEW sync_parked AS
SELECT parked_id AS parked, owner, collection, row_key AS "key", shape_version AS shape, reason, parked_at AS since
FROM _sync_parked
ORDER BY parked_id;

-- Where the store and each user stand.
CREATE VIEW migration_status AS
SELECT
  v.scope, v.schema_version, v.cloud_version,
  (SELECT count(DISTINCT r.migration) FROM _sync_run AS r WHERE r.scope = v.scope AND r.state = 'completed'
     AND NOT EXISTS (SELECT 1 FROM _sync_run AS u
       WHERE u.migration = r.migration AND u.scope = r.scope AND u.state = 'rolled_back' AND u.run_id > r.run_id)
  ) AS completed,
  (SELECT count(DISTINCT r.migration) FROM _sync_run AS r WHERE r.scope = v.scope AND r.state = 'queued'
     AND NOT EXISTS (SELECT 1 FROM _sync_run AS d
       WHERE d.migration = r.migration AND d.scope = r.scope AND d.run_id > r.run_id
         AND d.state IN ('completed', 'rolled_back'))) AS queued,
  v.updated_at
FROM _sync_version AS v
ORDER BY v.scope;

-- Every run of every migration, oldest first.
CREATE VIEW migration_history AS
SELECT
  run_id AS run, migration, scope, from_version || ' > ' || to_version AS hop, state, method,
  rows_read AS "read", rows_written AS written, rows_merged AS merged, rows_dropped AS dropped,
  rows_quarantined AS quarantined, batches_undone AS undone, duration_ms AS ms, ended_at, error_code AS error,
  error_text AS reason, json_array_length(warnings) AS warnings
FROM _sync_run
ORDER BY run_id;
