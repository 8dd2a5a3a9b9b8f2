"""The cloud's database in one SQLite file: what is stored and in which transaction."""

import random
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import orjson

from syncengine.clock import Clock, system_random
from syncengine.local.connection import open_server_db
from syncengine.local.statements import statement, statements
from syncengine.server.new_rows import NewRows
from syncengine.server.receipts import Receipt
from syncengine.server.row_questions import RowQuestions
from syncengine.server.rules import Patch, Place, Row
from syncengine.server.storage import (
    ChangedRow,
    Lane,
    Made,
    PageRow,
    Tombstone,
    Transaction,
    UserUnknown,
    refuse_newer,
)
from syncengine.server.stored_forms import (
    SERVER_SQL,
    Columns,
    json_or_none,
    stored_bytes,
)
from syncengine.vocabulary import UserId

DATABASE_NAME = "cloud.db"


class SqliteStorage(RowQuestions):
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
        super().__init__(clock=clock, chance=chance or system_random())
        self._lock = threading.Lock()
        self._connection = open_server_db(str(Path(folder) / name))
        self._editions = editions or list(statements("schema", directory=SERVER_SQL).values())
        self._upgrade()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def cut_off(self) -> None:
        """Nothing to do: no transaction of ours waits for another machine."""

    def write(self, user: UserId, work: Callable[[Transaction], Made]) -> Made:
        with self._writing():
            found = self._ask("edition_of_known", tenant=user)
            if not found:
                raise UserUnknown
            refuse_newer(found[0][0], known=len(self._editions))
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

    def _upgrade(self) -> None:
        with self._writing():
            found = self._found_edition()
            for edition in self._editions[found:]:
                self._connection.execute(edition).fetchall()
            if found == 0:
                self._do("write_state", cursor_key=f"{self._chance.getrandbits(256):064x}")
            self._connection.execute(f"PRAGMA user_version = {len(self._editions)}").fetchall()

    def _found_edition(self) -> int:
        """Raises StoreSuperseded, also while a newer server has come under this one."""
        found = int(self._connection.execute("PRAGMA user_version").get)
        refuse_newer(found, known=len(self._editions))
        return found

    # Users.

    def cursor_key(self) -> bytes:
        """What signs this database's cursors."""
        with self._lock:
            self._found_edition()
            return bytes.fromhex(self._ask("cursor_key")[0][0])

    def welcome(self, user: UserId) -> None:
        with self._writing():
            self._do("add_tenant", tenant=user, server_epoch=self._clock.now_ms())

    def add_token(self, user: UserId, *, token_hash: str) -> None:
        with self._writing():
            self._do("add_tenant", tenant=user, server_epoch=self._clock.now_ms())
            self._do("add_token", tenant=user, token_hash=token_hash, created_at=self._now())

    def user_of_token(self, token_hash: str) -> UserId | None:
        with self._lock:
            found = self._ask("tenant_of_token", token_hash=token_hash)
        return UserId(found[0][0]) if found else None

    def users(self) -> list[UserId]:
        with self._lock:
            return [UserId(user) for (user,) in self._ask("tenants")]

    # Rows.

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

    def add_rows(self, user: UserId, *, rows: NewRows, head: int) -> bool:
        # By position, in the order of the statement.
        self._connection.executemany(
            statement("cloud", "add_document", directory=SERVER_SQL),
            zip(
                repeat(user),
                rows.collections,
                rows.keys,
                rows.versions,
                rows.group_versions,
                rows.shape_versions,
                rows.sizes,
                repeat(rows.writer),
                repeat(self._now()),
                rows.bodies,
                strict=False,  # what is repeated has no end
            ),
        ).fetchall()
        # Not by the number of changes, in which SQLite counts what an operator's own triggers write.
        if self._ask("added_documents", tenant=user, head=head)[0][0] == len(rows.keys):
            return True
        self._do("take_back_documents", tenant=user, head=head)
        return False

    def write_patches(self, user: UserId, *, patches: Mapping[Place, Sequence[Patch]]) -> None:
        """What lies beside each of these rows from now on."""
        at = {place: {"tenant": user, "collection": place[0], "key": place[1]} for place in patches}
        self._do_many("delete_patches", at.values())
        self._do_many(
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

    # Retention.

    def forget(self, user: UserId, *, tombstones: Sequence[Tombstone]) -> None:
        """Raise the floor over these tombstones and delete them, with the marks that no good cursor needs."""
        floor = max(each.group_version for each in tombstones)
        self._do("raise_floor", tenant=user, floor=floor)
        self._do_many(
            "forget_tombstone",
            ({"tenant": user, "collection": each.place[0], "key": each.place[1]} for each in tombstones),
        )
        self._do("forget_marks", tenant=user, floor=floor)

    # Receipts.

    def write_receipts(self, lane: Lane, *, receipts: Iterable[Receipt]) -> None:
        received_at = self._now()
        self._do_many(
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

    def _ask(self, name: str, **binds: Any) -> list[Columns]:
        found: list[Columns] = self._connection.execute(
            statement("cloud", name, directory=SERVER_SQL), binds
        ).fetchall()
        return found

    def _do(self, name: str, **binds: Any) -> None:
        self._ask(name, **binds)

    def _do_many(self, name: str, binds: Iterable[dict[str, Any]]) -> None:
        self._connection.executemany(statement("cloud", name, directory=SERVER_SQL), binds).fetchall()

    def _listed(self, keys: Collection[str]) -> str:
        return orjson.dumps(list(keys)).decode()

    def _at(self, places: Collection[Place]) -> dict[str, str]:
        return {"places": orjson.dumps(list(places)).decode()}
