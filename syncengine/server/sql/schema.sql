-- The cloud's own tables. One block per edition; user_version counts the editions that are there.
-- The user (tenant) comes first in every key, so that rows of two users cannot meet.

-- name: edition_1
-- State, users, tokens, rows, patches beside them, commits, receipts.
CREATE TABLE cloud_state (
  only_row   INTEGER NOT NULL PRIMARY KEY
    CONSTRAINT one_row_only CHECK (only_row = 1),
  cursor_key TEXT NOT NULL -- signs cursors, so that only our own are believed; in hex
) STRICT;

CREATE TABLE tenant (
  tenant        TEXT NOT NULL PRIMARY KEY, -- the user id
  row_version   INTEGER NOT NULL,          -- the highest version given to a row of this user
  server_epoch  INTEGER NOT NULL,          -- which life of this user's rows: rises when they were restored
  floor         INTEGER NOT NULL,          -- tombstones up to this version are gone
  cloud_version TEXT                       -- the schema version that this user's documents have reached
) STRICT, WITHOUT ROWID;

CREATE TABLE token (
  tenant     TEXT NOT NULL REFERENCES tenant (tenant),
  token_hash TEXT NOT NULL, -- SHA-256 in hex; the token itself is nowhere
  created_at TEXT NOT NULL,
  PRIMARY KEY (tenant, token_hash)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX token_by_hash ON token (token_hash);

CREATE TABLE document (
  tenant        TEXT NOT NULL REFERENCES tenant (tenant),
  collection    TEXT NOT NULL,
  key           TEXT NOT NULL,
  version       INTEGER NOT NULL, -- the user's row_version when this row last changed
  group_version INTEGER NOT NULL, -- the last version of the group that changed it: pages do not cut a group
  shape_version TEXT NOT NULL,    -- the shape that body is written in
  body_bytes    INTEGER NOT NULL, -- of body and of what lies beside it; 0 for a tombstone
  patches       INTEGER NOT NULL, -- how many writes of other shapes lie beside it
  writer        TEXT NOT NULL,    -- the device and epoch that changed it last
  stood_on      INTEGER NOT NULL, -- its version before that writer's latest changes in a row; 0: there was none
  changed_at    TEXT NOT NULL,
  body          TEXT,             -- JSON object; NULL: deleted, the row stays as a tombstone until the floor passes it
  PRIMARY KEY (tenant, collection, key),
  CONSTRAINT body_is_json CHECK (body IS NULL OR json_valid(body)),
  CONSTRAINT version_is_in_its_group CHECK (version <= group_version)
) STRICT;

CREATE INDEX document_by_commit ON document (tenant, group_version, version);

CREATE INDEX document_tombstones ON document (tenant, changed_at) WHERE body IS NULL;

CREATE TABLE patch_beside (
  tenant        TEXT NOT NULL REFERENCES tenant (tenant),
  collection    TEXT NOT NULL,
  key           TEXT NOT NULL,
  patch         INTEGER NOT NULL, -- the version that the row got with it: its order, and its name
  kind          TEXT NOT NULL
    CONSTRAINT kind_is_known CHECK (kind IN ('put', 'patch')),
  shape_version TEXT NOT NULL,
  body          TEXT NOT NULL
    CONSTRAINT body_is_json CHECK (json_valid(body)),
  PRIMARY KEY (tenant, collection, key, patch)
) STRICT;

CREATE TABLE commit_mark (
  tenant       TEXT NOT NULL REFERENCES tenant (tenant),
  last_version INTEGER NOT NULL, -- of one push
  mark         INTEGER NOT NULL, -- by chance: tells two commits apart that reached one version in two lives
  PRIMARY KEY (tenant, last_version)
) STRICT, WITHOUT ROWID;

CREATE TABLE receipt (
  tenant      TEXT NOT NULL REFERENCES tenant (tenant),
  device      TEXT NOT NULL,
  epoch       INTEGER NOT NULL,
  sequence    INTEGER NOT NULL, -- the first one
  entries     INTEGER NOT NULL, -- of so many sequences, one after the other
  outcome     TEXT NOT NULL
    CONSTRAINT outcome_is_known CHECK (outcome IN ('applied', 'merged', 'conflict', 'rejected', 'lost')),
  token       TEXT,    -- what the entry's sender gave it by chance
  version     INTEGER, -- the row's version after it, where it changed one; that of each next sequence is one more
  code        TEXT,    -- why it was rejected
  message     TEXT,
  skipped     TEXT,    -- JSON list of the keys that a migration or a lift left alone
  overwrote   TEXT,    -- JSON object of what others had written and it took the place of, unseen
  received_at TEXT NOT NULL,
  PRIMARY KEY (tenant, device, epoch, sequence),
  CONSTRAINT rejected_says_why CHECK ((outcome = 'rejected') = (code IS NOT NULL)),
  CONSTRAINT effects_share_a_receipt CHECK (
    entries = 1
    OR (entries > 1 AND version IS NOT NULL AND code IS NULL AND skipped IS NULL AND overwrote IS NULL)
  )
) STRICT, WITHOUT ROWID;

-- name: edition_2
-- How much each user has, so that nobody has more than the operator gives.
ALTER TABLE tenant ADD COLUMN stored_rows INTEGER NOT NULL DEFAULT 0; -- living ones

ALTER TABLE tenant ADD COLUMN stored_bytes INTEGER NOT NULL DEFAULT 0; -- of their JSON and of what lies beside

UPDATE tenant
SET stored_rows = (
    SELECT count(*) FROM document WHERE document.tenant = tenant.tenant AND document.body IS NOT NULL
  ),
  stored_bytes = (
    SELECT coalesce(sum(document.body_bytes), 0)
    FROM document
    WHERE document.tenant = tenant.tenant AND document.body IS NOT NULL
  );

-- name: edition_3
-- Which rows were written since a database was restored.
ALTER TABLE tenant ADD COLUMN epoch_head INTEGER; -- row_version when that life began; NULL: it began before this edition

-- name: edition_4
-- What devices have destroyed after they had sent it.
CREATE TABLE ended_epoch (
  tenant TEXT NOT NULL REFERENCES tenant (tenant),
  device TEXT NOT NULL,
  epoch  INTEGER NOT NULL, -- the highest one that has ended: nothing of it, or of a lower one, takes effect any more
  PRIMARY KEY (tenant, device)
) STRICT, WITHOUT ROWID;
