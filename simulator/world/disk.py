"""The disks of all machines of a world: what a power cut leaves, and what happens when a disk fails or lies.

The files lie in memory where the system has a file system for that, and SQLite reaches them by a VFS of the world
(sqlite.org/vfs.html): nothing is really synced, every write, truncation, sync and deletion is written down, and a
power cut at any of them leaves what was synced, and any part of the rest. After a cut a machine goes on in a new
folder that holds the image, so that nothing of what was written after the cut can come back.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import apsw

from syncengine.testing.disk import FAILURES
from syncengine.testing.images import POLICIES, Disk, Files, Operation

IN_MEMORY = Path("/dev/shm")
"""Linux keeps it in memory (kernel.org/doc/html/latest/filesystems/tmpfs.html); elsewhere the temporary folder."""

_KEPT = (
    apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
)
_LOOKASIDE_BYTES_AND_SLOTS = (1200, 300)
"""SQLite's own are 1200 and 40 (sqlite.org/malloc.html#lookaside)."""
_numbers = count(1)


class Drive:
    """The disk of one machine. `folder` is where its files are until the next power cut."""

    def __init__(self, disks: "Disks", name: str) -> None:
        self._disks = disks
        self._name = name
        self._lives = 0
        self._base: Files = {}
        self._known: set[str] = set()
        self.operations: list[Operation] = []
        """All that was done since the folder was new."""
        self.failure = ""
        """How it fails now: full, io or read_only; empty: it does not."""
        self.failed = 0
        """How many operations have failed."""
        self.folder = self._new_folder()

    def _new_folder(self) -> Path:
        self._lives += 1
        folder = self._disks.folder / f"{self._name}-{self._lives}"
        folder.mkdir(mode=0o700)
        self._disks.by_folder[folder.name] = self
        return folder

    def mark(self) -> int:
        """A moment, for `cut`."""
        return len(self.operations)

    def synced_since(self, mark: int, *, until: int) -> bool:
        """Did a sync come between the two moments?"""
        return any(operation.kind == "sync" for operation in self.operations[mark:until])

    def cut(self, *, between: tuple[int, int], chance: random.Random) -> int:
        """The power goes at some moment between two marks; that moment. All its databases are closed by now."""
        at = chance.randint(*between)
        disk = Disk(self._base)
        for operation in self.operations[:at]:
            disk.do(operation)
        self.go_on_with(disk.image(chance.choice(POLICIES), chance=chance))
        return at

    def go_on_with(self, files: Files) -> None:
        """In a new folder, in which its databases hold this."""
        before, self.folder = self.folder, self._new_folder()
        del self._disks.by_folder[before.name]
        for path in sorted(before.iterdir()):
            # What SQLite did not write is on the disk at once: whoever wrote it has synced it.
            if path.is_dir() or (path.name not in self._known and not path.name.endswith("-shm")):
                path.rename(self.folder / path.name)
        self.begin_with(files)
        shutil.rmtree(before)

    def begin_with(self, files: Files) -> None:
        """Its files are these from now on."""
        for name, data in files.items():
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_bytes(data)
        self._base, self._known, self.operations = dict(files), set(files), []

    def adopt(self) -> None:
        """What lies in its folder now is on the disk: others have written there. All databases are closed."""
        self._base, self._known, self.operations = self.files(), set(self.files()), []

    def files(self) -> Files:
        """What its databases hold. All are closed."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.glob("*.db"))}

    def opens(self, path: str) -> None:
        """SQLite opens a file: one that others have made is safe as it is."""
        name = _name_of(path)
        if name not in self._known and Path(path).exists():
            data = Path(path).read_bytes()
            self.operations.append(Operation(kind="outside", name=name, data=data))
            self._known.add(name)

    def look(self, operation: str) -> None:
        """Called before each operation while there is a failure. Raises what SQLite has to see."""
        error, kinds = FAILURES[self.failure]
        if operation in kinds:
            self.failed += 1
            raise error("the world's disk fails")

    @contextmanager
    def works(self) -> Iterator[None]:
        """It does not fail during the block: a judge reads it."""
        failure, self.failure = self.failure, ""
        try:
            yield
        finally:
            self.failure = failure

    def done(self, operation: Operation) -> None:
        if operation.kind == "create":
            self._known.add(operation.name)
        self.operations.append(operation)


class Disks:
    """All drives of a world."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_folder: dict[str, Drive] = {}

    def drive(self, name: str) -> Drive:
        """A new machine's."""
        return Drive(self, name)

    def drive_of(self, path: str) -> Drive | None:
        """Whose file it is; None for files outside of this world."""
        folder, _, _ = path.rpartition(os.sep)
        place, _, name = folder.rpartition(os.sep)
        return self.by_folder.get(name) if place == str(self.folder) else None


def place_of_disks() -> Path | None:
    """Where files lie in memory; None, for the temporary folder, where the system has no such place."""
    return IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None


@contextmanager
def disks(folder: Path | None = None) -> Iterator[Disks]:
    """The disks of one world, in a folder that is gone afterwards. All databases must be closed by then."""
    place = Path(os.path.realpath(tempfile.mkdtemp(prefix="syncengine-world-", dir=folder or place_of_disks())))
    found = Disks(place)
    vfs = _WorldVfs(found)
    try:
        yield found
    finally:
        apsw.set_default_vfs(vfs.below)
        vfs.unregister()
        shutil.rmtree(place, ignore_errors=True)


def settle_sqlite() -> None:
    """For a process that only lives through worlds, one after the other: SQLite counts no memory, for which it would
    lock each time; a connection, which only one thread uses at a time, has no lock; and what it parses lies in memory
    that is set aside. A world takes 0.93 of its time so. Does nothing while a connection is open.

    sqlite.org/c3ref/c_config_covering_index_scan.html
    """
    if apsw.connections():
        return
    apsw.shutdown()
    apsw.config(apsw.SQLITE_CONFIG_MEMSTATUS, 0)
    apsw.config(apsw.SQLITE_CONFIG_MULTITHREAD)
    apsw.config(apsw.SQLITE_CONFIG_LOOKASIDE, *_LOOKASIDE_BYTES_AND_SLOTS)
    apsw.initialize()


def damage_in(data: bytes) -> str:
    """What SQLite finds wrong with a database; empty for a sound one."""
    try:
        found = _asked(data, "PRAGMA integrity_check(1)")
        return "" if found == [("ok",)] else str(found[0][0])
    except apsw.Error as error:
        return type(error).__name__


def rows_in(data: bytes, tables: Iterable[str]) -> list[Any]:
    """All rows of some tables of a sound database."""
    return [row for name in tables for row in _asked(data, f"SELECT * FROM {name}")]


def _asked(data: bytes, sql: str) -> list[Any]:
    connection = apsw.Connection(":memory:")
    try:
        # In memory there is no log: "1 for legacy" in both version numbers (sqlite.org/fileformat2.html, 1.3.3).
        connection.deserialize("main", data[:18] + b"\x01\x01" + data[20:])
        return connection.execute(sql).fetchall()
    finally:
        connection.close(True)


def _name_of(path: str) -> str:
    return path.rpartition(os.sep)[2]


class _Quiet:
    """What SQLite cannot hand on, such as a failure while it closes a file, ends here."""

    def excepthook(self, *_: object) -> bool:
        return True


class _WorldVfs(_Quiet, apsw.VFS):
    def __init__(self, disks: Disks) -> None:
        self._disks = disks
        self.below = apsw.vfs_names()[0]
        super().__init__(f"syncengine-world-{next(_numbers)}", self.below, makedefault=True)

    def xOpen(self, name: "str | apsw.URIFilename | None", flags: list[int]) -> apsw.VFSFile:  # noqa: N802  (SQLite's)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        drive = self._disks.drive_of(path) if path is not None and flags[0] & _KEPT else None
        if path is None or drive is None:
            return apsw.VFSFile(self.below, name, flags)
        return _WorldFile(drive, self.below, name, path, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802  (SQLite's)
        drive = self._disks.drive_of(filename)
        if drive is None:
            super().xDelete(filename, syncdir)
            return
        if drive.failure:
            drive.look("delete")
        if Path(filename).exists():  # SQLite takes a missing file for success, but apsw would raise it
            super().xDelete(filename, syncdir)
            drive.done(
                Operation(kind="delete", name=_name_of(filename), folder_synced=bool(syncdir)),
            )


class _WorldFile(_Quiet, apsw.VFSFile):
    def __init__(
        self, drive: Drive, below: str, name: "str | apsw.URIFilename | None", path: str, flags: list[int]
    ) -> None:
        self._drive = drive
        self._name = _name_of(path)
        drive.opens(path)
        is_new = not Path(path).exists()
        super().__init__(below, name, flags)
        if is_new:
            drive.done(Operation(kind="create", name=self._name))

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802  (SQLite's)
        if self._drive.failure:
            self._drive.look("read")
        return super().xRead(amount, offset)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802  (SQLite's)
        if self._drive.failure:
            self._drive.look("write")
        super().xWrite(data, offset)
        self._drive.operations.append(Operation(kind="write", name=self._name, offset=offset, data=bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802  (SQLite's)
        if self._drive.failure:
            self._drive.look("truncate")
        super().xTruncate(newsize)
        self._drive.operations.append(Operation(kind="truncate", name=self._name, size_bytes=newsize))

    def xLock(self, level: int) -> None:  # noqa: N802  (SQLite's)
        try:
            super().xLock(level)
        except apsw.IOError as error:
            # The last to close a file that it may only read: SQLite keeps the failure to itself, apsw would raise it.
            raise apsw.BusyError(str(error)) from None

    def xSync(self, flags: int) -> None:  # noqa: N802  (SQLite's)
        if self._drive.failure:
            self._drive.look("sync")
        self._drive.operations.append(Operation(kind="sync", name=self._name))
