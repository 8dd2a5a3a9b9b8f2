"""The cloud's database: what is stored and in which transaction. Knows nothing of HTTP nor of the rules."""

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import orjson

from syncengine.clock import Clock, iso, system_random
from syncengine.errors import StoreSuperseded
from syncengine.local.connection import open_server_db
from syncengine.local.statements import statement, statements
from syncengine.remote.wire import Document
from syncengine.vocabulary import UserId

SERVER_SQL = str(Path(__file__).parent / "sql")
DATABASE_NAME = "cloud.db"

Value = str | int | float | None
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One numbered line of entries: a device of a user, between two losses of its memory."""

    user: UserId
    device: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Where one user's rows stand: `head` is the highest version given, tombstones up to `floor` are gone."""

    server_epoch: int
    head: int
    floor: int
    cloud_version: str | None


class ChangedRow(NamedTuple):
    """One row of a page of changes; `body` is JSON, None for a tombstone."""

    collection: str
    key: str
    version: int
    group_version: int
    shape_version: str
    body_bytes: int
    patches: int
    body: str | None


class StoredPatch(NamedTuple):
    """One write beside a row; `body` is JSON."""

    collection: str
    key: str
    patch: int
    kind: str
    shape_version: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDocument:
    """One row at the cloud; `body` None: a tombstone."""

    version: int
    body: Document | None
    shape_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRow:
    """One living row of a page."""

    key: str
    body_bytes: int
    document: StoredDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one sequence."""

    sequence: int
    outcome: Literal["applied", "rejected"]
    version: int | None = None
    code: str | None = None
    message: str | None = None
    skipped: tuple[str, ...] | None = None


class Storage:
    """One open database. Not for two threads at once: the Cloud holds a lock around each use."""

    def __init__(self, folder: str, *, clock: Clock, chance: random.Random | None = None) -> None:
        """Open or make `folder`/cloud.db and bring its tables up to date.

        Raises StoreSuperseded when a newer server wrote it, and what `open_server_db` raises.
        """
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clock = clock
        self._chance = chance or system_random()
        self._connection = open_server_db(str(Path(folder) / DATABASE_NAME))
        self._upgrade()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on the disk when the block ends. IMMEDIATE, because what we read decides what we write."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Inside a transaction: an exception undoes this block and passes on."""
        self._connection.execute("SAVEPOINT push_group")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO push_group")
                self._connection.execute("RELEASE push_group")
            raise
        self._connection.execute("RELEASE push_group")

    def _upgrade(self) -> None:
        editions = list(statements("schema", directory=SERVER_SQL).values())
        with self.transaction():
            found = int(self._connection.execute("PRAGMA user_version").get)
            if found > len(editions):
                raise StoreSuperseded(
                    "The cloud's database was written by a newer server.",
                    why=f"it is edition {found}; this server knows {len(editions)}",
                    fix="Start the newer server; nothing was changed.",
                )
            for edition in editions[found:]:
                self._connection.execute(edition).fetchall()
            if found == 0:
                self._run("write_state", cursor_key=f"{self._chance.getrandbits(256):064x}")
            self._connection.execute(f"PRAGMA user_version = {len(editions)}").fetchall()

    def cursor_key(self) -> bytes:
        """What signs this database's cursors."""
        return bytes.fromhex(str(self._run("cursor_key")[0][0]))

    def tenant(self, user: UserId) -> Tenant:
        """Where the rows of a known user stand."""
        server_epoch, head, floor, cloud_version = self._run("tenant", tenant=user)[0]
        return Tenant(
            server_epoch=int(server_epoch or 0),
            head=int(head or 0),
            floor=int(floor or 0),
            cloud_version=_text_or_none(cloud_version),
        )

    def raise_epoch(self, user: UserId) -> None:
        """Begin another life of this user's rows: every cursor of the old one is worthless from now on."""
        with self.transaction():
            self._run("raise_epoch", tenant=user, server_epoch=self._clock.now_ms())

    def mark_at(self, user: UserId, *, version: int) -> int:
        """The mark of the commit that gave this version; 0 for none."""
        found = self._run("mark_at", tenant=user, version=version) if version else ()
        return int(found[0][0] or 0) if found else 0

    def write_mark(self, user: UserId, *, last_version: int) -> None:
        self._run("write_mark", tenant=user, last_version=last_version, mark=self._chance.getrandbits(63))

    def close_group(self, user: UserId, *, before: int, last: int) -> None:
        self._run("close_group", tenant=user, before=before, last=last)

    def changes_after(self, user: UserId, *, group_version: int, version: int) -> Iterator[ChangedRow]:
        """Rows of every collection in the order of their last commit, one at a time; tombstones too."""
        found = self._connection.execute(
            statement("cloud", "changes_after", directory=SERVER_SQL),
            {"tenant": user, "group_version": group_version, "version": version},
        )
        return (ChangedRow(*row) for row in found)

    def patches_between(
        self, user: UserId, *, after: tuple[int, int], last: tuple[int, int]
    ) -> Sequence[StoredPatch]:
        """What lies beside the rows that `changes_after` gives from one place to another, in order for each row."""
        found = self._run(
            "patches_between",
            tenant=user,
            group_version=after[0],
            version=after[1],
            last_group_version=last[0],
            last_version=last[1],
        )
        return [StoredPatch(*row) for row in found]  # type: ignore[arg-type]  # columns are typed by STRICT tables

    def add_token(self, user: UserId, *, token_hash: str) -> None:
        with self.transaction():
            self._run("add_tenant", tenant=user, server_epoch=self._clock.now_ms())
            self._run("add_token", tenant=user, token_hash=token_hash, created_at=self._now())

    def user_of_token(self, token_hash: str) -> UserId | None:
        found = self._run("tenant_of_token", token_hash=token_hash)
        return UserId(str(found[0][0])) if found else None

    def write_cloud_version(self, user: UserId, *, cloud_version: str) -> None:
        self._run("write_cloud_version", tenant=user, cloud_version=cloud_version)

    def document(self, user: UserId, *, collection: str, key: str) -> StoredDocument | None:
        found = self._run("document", tenant=user, collection=collection, key=key)
        return _document(*found[0]) if found else None

    def write_document(
        self, user: UserId, *, collection: str, key: str, body: bytes | None, shape_version: str
    ) -> int:
        """Store a row (`body` None: as a tombstone) and return the version it got."""
        version = int(self._run("next_row_version", tenant=user)[0][0] or 0)
        self._run(
            "write_document",
            tenant=user,
            collection=collection,
            key=key,
            version=version,
            body=None if body is None else body.decode(),
            body_bytes=len(body or b""),
            shape_version=shape_version,
            changed_at=self._now(),
        )
        return version

    def page(self, user: UserId, *, collection: str, after: str, limit: int) -> Iterator[PageRow]:
        """Living rows after the key `after`, one at a time, so that the caller may stop at a number of bytes."""
        for key, version, body, shape_version in self._connection.execute(
            statement("cloud", "page", directory=SERVER_SQL),
            {"tenant": user, "collection": collection, "after": after, "limit": limit},
        ):
            yield PageRow(key=str(key), body_bytes=len(str(body)), document=_document(version, body, shape_version))

    def device_sequence(self, lane: Lane) -> int:
        """The highest sequence used up; 0 for none."""
        found = self._run("device_sequence", tenant=lane.user, device=lane.device, epoch=lane.epoch)
        return int(found[0][0] or 0)

    def receipts(self, lane: Lane, *, first: int, last: int) -> dict[int, Receipt]:
        """Receipts of the sequences from `first` to `last`, by sequence."""
        found = self._run("receipts", tenant=lane.user, device=lane.device, epoch=lane.epoch, first=first, last=last)
        receipts = [_receipt(*row) for row in found]
        return {receipt.sequence: receipt for receipt in receipts}

    def write_receipt(self, lane: Lane, *, receipt: Receipt) -> None:
        self._run(
            "write_receipt",
            tenant=lane.user,
            device=lane.device,
            epoch=lane.epoch,
            sequence=receipt.sequence,
            outcome=receipt.outcome,
            version=receipt.version,
            code=receipt.code,
            message=receipt.message,
            skipped=None if receipt.skipped is None else json.dumps(receipt.skipped),
            received_at=self._now(),
        )

    def _run(self, name: str, **binds: Value) -> Sequence[Row]:
        found: Sequence[Row] = self._connection.execute(
            statement("cloud", name, directory=SERVER_SQL), binds
        ).fetchall()
        return found

    def _now(self) -> str:
        return iso(self._clock.now_ms())


def _document(version: Value, body: Value, shape_version: Value) -> StoredDocument:
    return StoredDocument(
        version=int(version or 0),
        body=None if body is None else orjson.loads(str(body)),
        shape_version=str(shape_version),
    )


def _receipt(*row: Value) -> Receipt:
    sequence, outcome, version, code, message, skipped = row
    return Receipt(
        sequence=int(sequence or 0),
        outcome="applied" if outcome == "applied" else "rejected",
        version=None if version is None else int(version),
        code=_text_or_none(code),
        message=_text_or_none(message),
        skipped=None if skipped is None else tuple(json.loads(str(skipped))),
    )


def _text_or_none(value: Value) -> str | None:
    return None if value is None else str(value)
