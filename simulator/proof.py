"""The proof that everything arrived: each row at the server beside the local one, and the server's own counters.

It shares no code with what sends: local rows come from the file as they are, the server's over its public call.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.store_sight import sight
from syncengine.clock import Clock
from syncengine.local.identifiers import quoted
from syncengine.migrate.registry import MigrationRegistry
from syncengine.remote.http_backend import HttpBackend
from syncengine.remote.wire import ROWS_PER_PAGE_MAX, RowsRequest
from syncengine.settings import Settings

Address = tuple[str, str]
"""Collection and key of a row."""
Rows = dict[Address, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudLedger:
    """What the server's own database counts for one user."""

    documents: int
    """Rows, living or deleted."""
    effects: int
    """Changes of rows, as the user's version counter has it: a row that was written twice counts two."""
    receipts: int
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the comparison found. `twice`: effects beyond one for each row."""

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


SAID_AGAIN = 1
"""The profile row is sent once more when its own migration status has become final."""


def compare(local: Mapping[Address, dict[str, Any]], cloud: Rows, ledger: CloudLedger) -> Proof:
    """Every row of both sides. Pure."""
    return Proof(
        rows=len(cloud),
        missing=tuple(sorted(local.keys() - cloud.keys())),
        unknown=tuple(sorted(cloud.keys() - local.keys())),
        different=tuple(sorted(where for where in local.keys() & cloud.keys() if local[where] != cloud[where])),
        twice=ledger.effects - ledger.documents - SAID_AGAIN,
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
    """The server's counters for one user, from its database."""
    with sight(cloud_folder / "cloud.db") as seen:
        (body,) = seen.bodies(
            """
            SELECT
              (SELECT count(*) FROM document WHERE tenant = :user) AS documents,
              coalesce((SELECT row_version FROM tenant WHERE tenant = :user), 0) AS effects,
              (SELECT count(*) FROM receipt WHERE tenant = :user) AS receipts,
              (SELECT count(*) FROM receipt WHERE tenant = :user AND outcome = 'rejected') AS rejected
            """,
            user=user,
        )
    return CloudLedger(**body)
