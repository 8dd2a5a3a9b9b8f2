-- The cloud's tables in PostgreSQL and what speaks its language. One block per edition; cloud_edition counts them.
-- The user (tenant) comes first in every key, so that rows of two users cannot meet and shards can go by users. A
-- statement may find its work done already: not every such database undoes half an edition.

-- name: edition_1
-- State, users, tokens, rows, patches beside them, commits, receipts; nobody sees what is not the tenant's at work.
CREATE TABLE IF NOT EXISTS cloud_state (
  only_row   BIGINT NOT NULL PRIMARY KEY
    CONSTRAINT one_row_only CHECK (only_row = 1),
  cursor_key TEXT NOT NULL -- signs cursors, so that only our own are believed; in hex
);

CREATE TABLE IF NOT EXISTS tenant (
  tenant        TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- the user id
  row_version   BIGINT NOT NULL, -- the highest version given to a row of this user; locked by whoever writes
  server_epoch  BIGINT NOT NULL, -- which life of this user's rows: rises when they were restored
  floor         BIGINT NOT NULL, -- tombstones up to this version are gone
  cloud_version TEXT,            -- the schema version that this user's documents have reached
  stored_rows   BIGINT NOT NULL, -- living ones
  stored_bytes  BIGINT NOT NULL  -- of their JSON and of what lies beside
);

CREATE TABLE IF NOT EXISTS token (
  tenant     TEXT COLLATE "C" NOT NULL,
  token_hash TEXT COLLATE "C" NOT NULL, -- SHA-256 in hex; the token itself is nowhere
  created_at TEXT NOT NULL,
  PRIMARY KEY (tenant, token_hash)
);

CREATE INDEX IF NOT EXISTS token_by_hash ON token (token_hash);

CREATE TABLE IF NOT EXISTS document (
  tenant        TEXT COLLATE "C" NOT NULL,
  collection    TEXT COLLATE "C" NOT NULL,
  key           TEXT COLLATE "C" NOT NULL,
  version       BIGINT NOT NULL, -- the user's row_version when this row last changed
  group_version BIGINT NOT NULL, -- the last version of the group that changed it: pages do not cut a group
  shape_version TEXT NOT NULL,   -- the shape that body is written in
  body_bytes    BIGINT NOT NULL, -- of body and of what lies beside it; 0 for a tombstone
  patches       BIGINT NOT NULL, -- how many writes of other shapes lie beside it
  writer        TEXT NOT NULL,   -- the device and epoch that changed it last
  stood_on      BIGINT NOT NULL, -- its version before that writer's latest changes in a row; 0: there was none
  changed_at    TEXT COLLATE "C" NOT NULL,
  body          TEXT,            -- JSON object; NULL: deleted, the row stays as a tombstone until the floor passes it
  PRIMARY KEY (tenant, collection, key),
  CONSTRAINT version_is_in_its_group CHECK (version <= group_version)
);

CREATE INDEX IF NOT EXISTS document_by_commit ON document (tenant, group_version, version);

CREATE INDEX IF NOT EXISTS document_tombstones ON document (tenant, changed_at) WHERE body IS NULL;

CREATE TABLE IF NOT EXISTS patch_beside (
  tenant        TEXT COLLATE "C" NOT NULL,
  collection    TEXT COLLATE "C" NOT NULL,
  key           TEXT COLLATE "C" NOT NULL,
  patch         BIGINT NOT NULL, -- the version that the row got with it: its order, and its name
  kind          TEXT NOT NULL
    CONSTRAINT kind_is_known CHECK (kind IN ('put', 'patch')),
  shape_version TEXT NOT NULL,
  body          TEXT NOT NULL,
  PRIMARY KEY (tenant, collection, key, patch)
);

CREATE TABLE IF NOT EXISTS commit_mark (
  tenant       TEXT COLLATE "C" NOT NULL,
  last_version BIGINT NOT NULL, -- of one push
  mark         BIGINT NOT NULL, -- by chance: tells two commits apart that reached one version in two lives
  PRIMARY KEY (tenant, last_version)
);

CREATE TABLE IF NOT EXISTS receipt (
  tenant      TEXT COLLATE "C" NOT NULL,
  device      TEXT COLLATE "C" NOT NULL,
  epoch       BIGINT NOT NULL,
  sequence    BIGINT NOT NULL, -- the first one
  entries     BIGINT NOT NULL, -- of so many sequences, one after the other
  outcome     TEXT NOT NULL
    CONSTRAINT outcome_is_known CHECK (outcome IN ('applied', 'merged', 'conflict', 'rejected', 'lost')),
  token       TEXT,   -- what the entry's sender gave it by chance
  version     BIGINT, -- the row's version after it, where it changed one; that of each next sequence is one more
  code        TEXT,   -- why it was rejected
  message     TEXT,
  skipped     TEXT,   -- JSON list of the keys that a migration or a lift left alone
  overwrote   TEXT,   -- JSON object of what others had written and it took the place of, unseen
  received_at TEXT NOT NULL,
  PRIMARY KEY (tenant, device, epoch, sequence),
  CONSTRAINT rejected_says_why CHECK ((outcome = 'rejected') = (code IS NOT NULL)),
  CONSTRAINT effects_share_a_receipt CHECK (
    entries = 1
    OR (entries > 1 AND version IS NOT NULL AND code IS NULL AND skipped IS NULL AND overwrote IS NULL)
  )
);

ALTER TABLE tenant ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_the_tenant ON tenant;
CREATE POLICY of_the_tenant ON tenant
  USING (tenant = current_setting('app.tenant', true))
  WITH CHECK (tenant = current_setting('app.tenant', true));
-- Who forgets tombstones, and nobody who serves a request, says that it lists users.
DROP POLICY IF EXISTS names_for_upkeep ON tenant;
CREATE POLICY names_for_upkeep ON tenant
  FOR SELECT
  USING (current_setting('app.upkeep', true) = 'lists users');

ALTER TABLE token ENABLE ROW LEVEL SECURITY;
ALTER TABLE token FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_the_tenant ON token;
CREATE POLICY of_the_tenant ON token
  USING (tenant = current_setting('app.tenant', true))
  WITH CHECK (tenant = current_setting('app.tenant', true));
-- Who has a token sees whose it is, and no other token.
DROP POLICY IF EXISTS of_its_holder ON token;
CREATE POLICY of_its_holder ON token
  FOR SELECT
  USING (token_hash = current_setting('app.token_hash', true));

ALTER TABLE document ENABLE ROW LEVEL SECURITY;
ALTER TABLE document FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_the_tenant ON document;
CREATE POLICY of_the_tenant ON document
  USING (tenant = current_setting('app.tenant', true))
  WITH CHECK (tenant = current_setting('app.tenant', true));

ALTER TABLE patch_beside ENABLE ROW LEVEL SECURITY;
ALTER TABLE patch_beside FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_the_tenant ON patch_beside;
CREATE POLICY of_the_tenant ON patch_beside
  USING (tenant = current_setting('app.tenant', true))
  WITH CHECK (tenant = current_setting('app.tenant', true));

ALTER TABLE commit_mark ENABLE ROW LEVEL SECURITY;
ALTER TABLE commit_mark FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_the_tenant ON commit_mark;
CREATE POLICY of_the_tenant ON commit_mark
  USING (tenant = current_setting('app.tenant', true))
  WITH CHECK (tenant = current_setting('app.tenant', true));

ALTER TABLE receipt ENABLE ROW LEVEL SECURITY;
ALTER TABLE receipt FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_the_tenant ON receipt;
CREATE POLICY of_the_tenant ON receipt
  USING (tenant = current_setting('app.tenant', true))
  WITH CHECK (tenant = current_setting('app.tenant', true));

-- name: edition_2
-- Which rows were written since a database was restored.
ALTER TABLE tenant ADD COLUMN IF NOT EXISTS epoch_head BIGINT; -- row_version when that life began; NULL: nobody knows

-- name: edition_3
-- What devices have destroyed after they had sent it.
CREATE TABLE IF NOT EXISTS ended_epoch (
  tenant TEXT COLLATE "C" NOT NULL,
  device TEXT COLLATE "C" NOT NULL,
  epoch  BIGINT NOT NULL, -- the highest one that has ended: nothing of it, or of a lower one, takes effect any more
  PRIMARY KEY (tenant, device)
);

ALTER TABLE ended_epoch ENABLE ROW LEVEL SECURITY;
ALTER TABLE ended_epoch FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_the_tenant ON ended_epoch;
CREATE POLICY of_the_tenant ON ended_epoch
  USING (tenant = current_setting('app.tenant', true))
  WITH CHECK (tenant = current_setting('app.tenant', true));
