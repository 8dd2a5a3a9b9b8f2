-- The cloud's own tables. One block per edition; user_version counts the editions that are there.
-- The user (tenant) comes first in every key, so that rows of two users cannot meet.

-- name: edition_1
-- State, users, tokens, rows, receipts.
CREATE TABLE cloud_state (
  only_row     INTEGER NOT NULL PRIMARY KEY
    CONSTRAINT one_row_only CHECK (only_row = 1),
  server_epoch INTEGER NOT NULL -- changes when this database begins anew
) STRICT;

CREATE TABLE tenant (
  tenant        TEXT NOT NULL PRIMARY KEY, -- the user id
  row_version   INTEGER NOT NULL,          -- the highest version given to a row of this user
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
  body          TEXT,             -- JSON object; NULL: deleted, the row stays as a tombstone
  shape_version TEXT NOT NULL,    -- the newest shape that wrote to it
  changed_at    TEXT NOT NULL,
  PRIMARY KEY (tenant, collection, key),
  CONSTRAINT body_is_json CHECK (body IS NULL OR json_valid(body))
) STRICT;

CREATE TABLE receipt (
  tenant      TEXT NOT NULL REFERENCES tenant (tenant),
  device      TEXT NOT NULL,
  epoch       INTEGER NOT NULL,
  sequence    INTEGER NOT NULL,
  outcome     TEXT NOT NULL
    CONSTRAINT outcome_is_known CHECK (outcome IN ('applied', 'rejected')),
  version     INTEGER, -- the row's version after it, where it changed one
  code        TEXT,    -- why it was rejected
  message     TEXT,
  skipped     TEXT,    -- JSON list of the keys that a migration left alone
  received_at TEXT NOT NULL,
  PRIMARY KEY (tenant, device, epoch, sequence),
  CONSTRAINT rejected_says_why CHECK ((outcome = 'rejected') = (code IS NOT NULL))
) STRICT, WITHOUT ROWID;
