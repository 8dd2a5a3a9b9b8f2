"""The cloud's database in one SQLite file: what is stored and in which transaction."""

import random
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import orjson

from syncengine.clock import Clock, iso, system_random
from syncengine.errors import StoreSuperseded
from syncengine.local.connection import open_server_db
from syncengine.local.statements import statement, statements
from syncengine.server.receipts import Receipt
from syncengine.server.rules import Patch, Place, Row
from syncengine.server.storage import (
    BODY_READ_AHEAD_BYTES_MAX,
    UNREAD,
    ChangedRow,
    Lane,
    Made,
    PageRow,
    Tenant,
    Tombstone,
    Transaction,
)
from syncengine.server.stored_forms import (
    SERVER_SQL,
    Columns,
    json_or_none,
    patches_by_place,
    receipts_by_sequence,
    stored_bytes,
)
from syncengine.vocabulary import UserId

DATABASE_NAME = "cloud.db"


class SqliteStorage:
    """One open database, one transaction at a time: it is the Transaction of whoever works with it."""

    def __init__(
        self,
        folder: str,
        *,
        clock: Clock,
        chance: random.Random | None = None,
        editions: Sequence[str] | None = None,
        name: str = DATABASE_NAME,
    ) -> None:
        """Open or make `folder`/`name` and bring its tables up to date; `editions` stands for our own in a test.

        Raises StoreSuperseded when a newer server wrote it, and what `open_server_db` raises.
        """
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clock = clock
        self._chance = chance or system_random()
        self._lock = threading.Lock()
        self._connection = open_server_db(str(Path(folder) / name))
        self._upgrade(editions or list(statements("schema", directory=SERVER_SQL).values()))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def write(self, user: UserId, work: Callable[[Transaction], Made]) -> Made:
        with self._writing():
            return work(self)

    def read(self, user: UserId, work: Callable[[Transaction], Made]) -> Made:
        with self._transaction("BEGIN"):
            return work(self)

    def _writing(self) -> AbstractContextManager[None]:
        """IMMEDIATE, because what we read decides what we write."""
        return self._transaction("BEGIN IMMEDIATE")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        """All or nothing, on the disk when the block ends; of one state of the database."""
        with self._lock:
            self._connection.execute(begin)
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _upgrade(self, editions: Sequence[str]) -> None:
        with self._writing():
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

    # Users.

    def cursor_key(self) -> bytes:
        """What signs this database's cursors."""
        with self._lock:
            return bytes.fromhex(self._run("cursor_key")[0][0])

    def welcome(self, user: UserId) -> None:
        with self._writing():
            self._run("add_tenant", tenant=user, server_epoch=self._clock.now_ms())

    def add_token(self, user: UserId, *, token_hash: str) -> None:
        with self._writing():
            self._run("add_tenant", tenant=user, server_epoch=self._clock.now_ms())
            self._run("add_token", tenant=user, token_hash=token_hash, created_at=self._now())

    def user_of_token(self, token_hash: str) -> UserId | None:
        with self._lock:
            found = self._run("tenant_of_token", token_hash=token_hash)
        return UserId(found[0][0]) if found else None

    def users(self) -> list[UserId]:
        with self._lock:
            return [UserId(user) for (user,) in self._run("tenants")]

    def tenant(self, user: UserId) -> Tenant:
        """Where the rows of a known user stand."""
        server_epoch, epoch_head, head, floor, cloud_version, rows, size_bytes = self._run("tenant", tenant=user)[0]
        return Tenant(
            server_epoch=server_epoch,
            epoch_head=epoch_head,
            head=head,
            floor=floor,
            cloud_version=cloud_version,
            rows=rows,
            bytes=size_bytes,
        )

    def write_tenant(
        self, user: UserId, *, head: int, cloud_version: str | None, rows_more: int = 0, bytes_more: int = 0
    ) -> None:
        self._run(
            "write_tenant",
            tenant=user,
            row_version=head,
            cloud_version=cloud_version,
            rows_more=rows_more,
            bytes_more=bytes_more,
        )

    def raise_epoch(self, user: UserId) -> None:
        """Begin another life of this user's rows: every cursor of the old one is worthless from now on."""
        self._run("raise_epoch", tenant=user, server_epoch=self._clock.now_ms())

    # Rows.

    def read_rows(self, user: UserId, *, keys: Mapping[str, Collection[str]]) -> dict[Place, Row]:
        """The rows that are there of these keys by collection, all in one go; large bodies come as UNREAD."""
        rows: dict[Place, Row] = {}
        with_patches: list[Place] = []
        for collection, asked in keys.items():
            for key, version, shape, size_bytes, patches, writer, stood_on, body in self._run(
                "rows_at",
                tenant=user,
                collection=collection,
                keys=orjson.dumps(list(asked)).decode(),
                body_bytes_max=BODY_READ_AHEAD_BYTES_MAX,
            ):
                known = UNREAD if body is None and size_bytes else body
                rows[collection, key] = Row(version, shape, known, (), writer, stood_on)
                if patches:
                    with_patches.append((collection, key))
        for place, beside in self._patches_at(user, places=with_patches).items():
            rows[place] = rows[place]._replace(patches=beside)
        return rows

    def _patches_at(self, user: UserId, *, places: Collection[Place]) -> dict[Place, tuple[Patch, ...]]:
        if not places:
            return {}
        return patches_by_place(self._run("patches_at", tenant=user, places=orjson.dumps(places).decode()))

    def bytes_of(self, user: UserId, *, places: Sequence[Place]) -> dict[Place, int]:
        found = self._run("bytes_of", tenant=user, places=orjson.dumps(places).decode())
        return {(collection, key): size_bytes for collection, key, size_bytes in found}

    def body(self, user: UserId, *, place: Place) -> str:
        """The JSON of a living row."""
        body: str = self._run("body", tenant=user, collection=place[0], key=place[1])[0][0]
        return body

    def write_rows(self, user: UserId, *, rows: Mapping[Place, Row], group_versions: Mapping[Place, int]) -> None:
        """Those that have a group version: the last version of the group that changed it."""
        changed_at = self._now()
        # By position, in the order of the statement: names take twice as long to bind.
        self._connection.executemany(
            statement("cloud", "write_document", directory=SERVER_SQL),
            (
                (
                    user,
                    *place,
                    version,
                    group_version,
                    shape,
                    stored_bytes(body, patches=patches),
                    len(patches),
                    writer,
                    stood_on,
                    changed_at,
                    body,
                )
                for place, group_version in group_versions.items()
                for version, shape, body, patches, writer, stood_on in (rows[place],)
            ),
        ).fetchall()

    def write_patches(self, user: UserId, *, patches: Mapping[Place, Sequence[Patch]]) -> None:
        """What lies beside each of these rows from now on."""
        at = {place: {"tenant": user, "collection": place[0], "key": place[1]} for place in patches}
        self._run_many("delete_patches", at.values())
        self._run_many(
            "write_patch", ({**at[place], **each._asdict()} for place, beside in patches.items() for each in beside)
        )

    def page(self, user: UserId, *, collection: str, after: str, limit: int) -> Iterator[PageRow]:
        """Living rows after the key `after`, one at a time, so that the caller may stop at a number of bytes."""
        found = self._connection.execute(
            statement("cloud", "page", directory=SERVER_SQL),
            {"tenant": user, "collection": collection, "after": after, "limit": limit},
        )
        for key, version, shape, body in found:
            yield PageRow(key, version, shape, len(body), orjson.loads(body))

    # Changes.

    def changes_after(
        self, user: UserId, *, group_version: int, version: int, rows_likely: int
    ) -> Iterator[ChangedRow]:
        """One at a time: nothing is read ahead, however many are likely."""
        found = self._connection.execute(
            statement("cloud", "changes_after", directory=SERVER_SQL),
            {"tenant": user, "group_version": group_version, "version": version},
        )
        return map(ChangedRow._make, found)

    def patches_between(
        self, user: UserId, *, after: tuple[int, int], last: tuple[int, int]
    ) -> dict[Place, tuple[Patch, ...]]:
        """What lies beside the rows that `changes_after` gives from one place to another."""
        return patches_by_place(
            self._run(
                "patches_between",
                tenant=user,
                group_version=after[0],
                version=after[1],
                last_group_version=last[0],
                last_version=last[1],
            )
        )

    def mark_at(self, user: UserId, *, version: int) -> int:
        """The mark of the commit that gave this version; 0 for none."""
        found = self._run("mark_at", tenant=user, version=version) if version else ()
        return int(found[0][0]) if found else 0

    def write_mark(self, user: UserId, *, last_version: int) -> None:
        self._run("write_mark", tenant=user, last_version=last_version, mark=self._chance.getrandbits(63))

    # Retention.

    def old_tombstones(self, user: UserId, *, before_ms: int, rows_max: int) -> list[Tombstone]:
        """Some of what was deleted before a moment, oldest first."""
        found = self._run("old_tombstones", tenant=user, before=iso(before_ms), rows_max=rows_max)
        return [Tombstone((collection, key), group_version) for collection, key, group_version in found]

    def forget(self, user: UserId, *, tombstones: Sequence[Tombstone]) -> None:
        """Raise the floor over these tombstones and delete them, with the marks that no good cursor needs."""
        floor = max(each.group_version for each in tombstones)
        self._run("raise_floor", tenant=user, floor=floor)
        self._run_many(
            "forget_tombstone",
            ({"tenant": user, "collection": each.place[0], "key": each.place[1]} for each in tombstones),
        )
        self._run("forget_marks", tenant=user, floor=floor)

    # Receipts.

    def device_sequence(self, lane: Lane) -> int:
        """The highest sequence used up; 0 for none."""
        found = self._run("device_sequence", tenant=lane.user, device=lane.device, epoch=lane.epoch)
        return int(found[0][0]) if found else 0

    def receipts(self, lane: Lane, *, first: int, last: int) -> dict[int, Receipt]:
        """Of each sequence from `first` to `last` its own, by sequence."""
        found = self._run("receipts", tenant=lane.user, device=lane.device, epoch=lane.epoch, first=first, last=last)
        return receipts_by_sequence(found, first=first, last=last)

    def write_receipts(self, lane: Lane, *, receipts: Iterable[Receipt]) -> None:
        received_at = self._now()
        self._run_many(
            "write_receipt",
            (
                {
                    "tenant": lane.user,
                    "device": lane.device,
                    "epoch": lane.epoch,
                    **receipt._asdict(),
                    "skipped": json_or_none(receipt.skipped),
                    "overwrote": json_or_none(receipt.overwrote),
                    "received_at": received_at,
                }
                for receipt in receipts
            ),
        )

    def _run(self, name: str, **binds: Any) -> list[Columns]:
        found: list[Columns] = self._connection.execute(
            statement("cloud", name, directory=SERVER_SQL), binds
        ).fetchall()
        return found

    def _run_many(self, name: str, binds: Iterable[dict[str, Any]]) -> None:
        self._connection.executemany(statement("cloud", name, directory=SERVER_SQL), binds).fetchall()

    def _now(self) -> str:
        return iso(self._clock.now_ms())
