"""The proof that everything arrived: each row at the server beside the local one, and the server's own counters.

It shares no code with what sends: local rows come from the file as they are, the server's over its public call.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.store_sight import sight
from syncengine.clock import Clock, SystemClock
from syncengine.local.connection import open_server_db
from syncengine.local.identifiers import quoted
from syncengine.migrate.registry import MigrationRegistry
from syncengine.remote.http_backend import HttpBackend
from syncengine.remote.wire import ROWS_PER_PAGE_MAX, RowsRequest
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.settings import Settings

Address = tuple[str, str]
"""Collection and key of a row."""
Rows = dict[Address, dict[str, Any]]
MADE_ONCE: Mapping[Address, int] = {}
"""Nobody has edited anything since it was there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudLedger:
    """What the server's own database counts for one user."""

    effects: Mapping[Address, int]
    """How often each row was written there, as the witness saw it."""
    receipts: int
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the comparison found. `twice`: effects beyond one for each row and each edit of it."""

    rows: int
    missing: tuple[Address, ...]
    unknown: tuple[Address, ...]
    """At the server, but not here."""
    different: tuple[Address, ...]
    twice: int
    rejected: int

    @property
    def holds(self) -> bool:
        """Every row is there, as it is here, by one effect."""
        return bool(self.rows) and not (self.missing or self.unknown or self.different or self.twice or self.rejected)

    def __str__(self) -> str:
        text = f"{self.rows} rows at the server, each once, {len(self.missing)} missing, {self.twice} twice"
        if self.holds:
            return text
        wrong = [*self.missing, *self.unknown, *self.different]
        return (
            f"FAILED: {self.rows} rows at the server, {len(self.missing)} missing, {len(self.unknown)} unknown here, "
            f"{len(self.different)} different, {self.twice} twice, {self.rejected} rejected; first: {wrong[:3]}"
        )


SAID_AGAIN = frozenset({"profile"})
"""A profile holds the status of its user's migrations, and is written again whenever that changes."""


def compare(
    local: Mapping[Address, dict[str, Any]],
    cloud: Rows,
    ledger: CloudLedger,
    *,
    edits: Mapping[Address, int] = MADE_ONCE,
) -> Proof:
    """Every row of both sides. `edits` are those that people made of rows that the cloud had already. Pure."""
    return Proof(
        rows=len(cloud),
        missing=tuple(sorted(local.keys() - cloud.keys())),
        unknown=tuple(sorted(cloud.keys() - local.keys())),
        different=tuple(sorted(where for where in local.keys() & cloud.keys() if local[where] != cloud[where])),
        twice=sum(
            max(0, effects - 1 - edits.get(where, 0))
            for where, effects in ledger.effects.items()
            if where[0] not in SAID_AGAIN
        ),
        rejected=ledger.rejected,
    )


def uploaded_collections(registry: MigrationRegistry) -> tuple[str, ...]:
    """The collections that some online migration sends."""
    names: set[str] = set()
    for listed in registry.migrations:
        if listed.online:
            names |= set(registry.get_migration_executor(listed.id).definition.collections)
    return tuple(sorted(names))


def local_rows(store: Path, *, registry: MigrationRegistry, user: str, collections: Iterable[str]) -> Rows:
    """The user's rows in the file, each as the columns that a cloud row should have: all but the owner."""
    found: Rows = {}
    with sight(store) as seen:
        for name in collections:
            collection = registry.collections[name]
            assert collection.owner is not None
            sql = f"SELECT * FROM {quoted(name)} WHERE {quoted(collection.owner)} = :user"
            for body in seen.bodies(sql, user=user):
                del body[collection.owner]
                found[name, body[collection.key]] = body
    return found


def cloud_rows(url: str, *, user: str, token: str, clock: Clock, collections: Iterable[str]) -> Rows:
    """The user's living rows at the server, all pages, over HTTP."""
    found: Rows = {}
    with closing(HttpBackend(url, token=lambda: token, settings=Settings(), clock=clock)) as backend:
        for name in collections:
            after: str | None = None
            while True:
                request = RowsRequest(
                    request_id="proof", user=user, collection=name, after=after, limit=ROWS_PER_PAGE_MAX
                )
                page = backend.rows(request)
                found.update({(name, row.key): dict(row.body) for row in page.rows})
                after = page.next
                if after is None:
                    break
    return found


def read_ledger(cloud_folder: Path, *, user: str) -> CloudLedger:
    """What the server's database says of one user, and what the witness in it has seen."""
    with sight(cloud_folder / "cloud.db") as seen:
        (body,) = seen.bodies(
            """
            SELECT coalesce(sum(entries), 0) AS receipts, count(*) FILTER (WHERE outcome = 'rejected') AS rejected
            FROM receipt
            WHERE tenant = :user
            """,
            user=user,
        )
        effects = seen.rows(
            "SELECT collection, key, count(*) FROM witness WHERE tenant = :user GROUP BY collection, key", user=user
        )
    return CloudLedger(effects={(name, key): count for name, key, count in effects}, **body)


def place_witness(cloud_folder: Path) -> None:
    """Triggers in the server's new database note each writing of each row, whatever the server's code says of it."""
    SqliteStorage(str(cloud_folder), clock=SystemClock()).close()
    connection = open_server_db(str(cloud_folder / "cloud.db"))
    try:
        connection.execute(WITNESS_SQL)
    finally:
        connection.close()


# Rows that look new are written before it is known that others are not, and taken back in the same transaction then.
WITNESS_SQL = """
CREATE TABLE IF NOT EXISTS witness (tenant TEXT, collection TEXT, key TEXT, version INTEGER);
CREATE TRIGGER IF NOT EXISTS witness_of_new AFTER INSERT ON document
BEGIN
  INSERT INTO witness VALUES (new.tenant, new.collection, new.key, new.version);
END;
CREATE TRIGGER IF NOT EXISTS witness_of_changed AFTER UPDATE ON document
BEGIN
  INSERT INTO witness VALUES (new.tenant, new.collection, new.key, new.version);
END;
CREATE TRIGGER IF NOT EXISTS witness_of_taken_back AFTER DELETE ON document
BEGIN
  DELETE FROM witness WHERE (tenant, collection, key, version) = (old.tenant, old.collection, old.key, old.version);
END;
"""
