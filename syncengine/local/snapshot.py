"""A consistent copy of the live store, for tools that open files by themselves."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from syncengine.local.private_folder import private_folder
from syncengine.local.savepoint import raise_translated

if TYPE_CHECKING:
    from syncengine.local.store import Store

PAGES_OF_ONE_STEP = 1_000


@contextmanager
def snapshot(store: "Store") -> Iterator[Path]:
    """A private copy (0600, in a folder of its own) as one moment saw the store; gone when the block ends.

    Writers are not held out. Any SQLite library may open the copy; of a damaged store it has the same damage. Raises
    DiskFull, StoreBusy.
    """
    with private_folder("snapshot") as folder:
        path = os.path.join(folder, "snapshot.db")
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        try:
            _copy(store, path)
        except apsw.Error as error:
            raise_translated(error)
        yield Path(path)


def _copy(store: "Store", path: str) -> None:
    source, target = store.reader(), apsw.Connection(path)
    try:
        # One read transaction for all steps: else the backup begins anew whenever somebody commits.
        source.execute("BEGIN")
        source.execute("PRAGMA schema_version").fetchall()  # parses no schema: that may be what is damaged
        with target.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(PAGES_OF_ONE_STEP)
        # A copy is one file: leave WAL mode, so that no -wal appears beside it.
        with suppress(apsw.CorruptError):
            target.execute("PRAGMA journal_mode = DELETE").fetchall()
    finally:
        target.close(True)
        source.close(True)
