"""A disk that remembers what was written, one that fails, and a power cut before a statement.

Each is in force for one folder while its `with` block lasts: it becomes SQLite's default VFS (sqlite.org/vfs.html),
so that the engine and the code under test need no change. Every connection to the folder must be closed before the
block ends.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import Any

import apsw

from syncengine.testing.images import DiskLog, Files, Operation

_numbers = count(1)
_KEPT = (
    apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
)
_SIDE_FILES = ("", "-wal", "-shm", "-journal")

FAILURES: dict[str, tuple[type[apsw.Error], frozenset[str]]] = {
    "full": (apsw.FullError, frozenset({"write"})),
    "io": (apsw.IOError, frozenset({"read", "write", "truncate", "sync", "delete"})),
    "read_only": (apsw.ReadOnlyError, frozenset({"write", "truncate", "delete"})),
}
"""By the kind of failure: what SQLite says then, and the operations that can fail so."""


class PowerIsGone(BaseException):
    """The process ends here. No `except Exception` stops it."""


@contextmanager
def recording_disk(folder: Path) -> Iterator[DiskLog]:
    """A log of all that SQLite does to the folder's files during the block, for `crash_images`.

    Nothing is really synced meanwhile. Files that SQLite did not write are noticed at the next operation and count as
    safe on the disk at once.
    """
    log = DiskLog(base=_files_in(folder))
    with _installed(_Recorder(folder, log)):
        yield log


class FailingDisk:
    """A disk on which everything of a kind fails after so many operations, until `heal()`."""

    def __init__(self, *, after: int, kind: str) -> None:
        self.operations = 0
        """How many there were so far that can fail in this way."""
        self.failed = 0
        self._after = after
        self._error, self._of = FAILURES[kind]

    def heal(self) -> None:
        """There is space again, the cable is in again."""
        self._of = frozenset()

    def look(self, operation: str) -> None:
        """Called before each operation. Raises what SQLite has to see."""
        if operation not in self._of:
            return
        self.operations += 1
        if self.operations > self._after:
            self.failed += 1
            raise self._error("the disk fails, as the test wants it")


def _files_in(folder: Path) -> Files:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith("-shm")
    }


@contextmanager
def failing_disk(folder: Path, *, after: int, kind: str) -> Iterator[FailingDisk]:
    """During the block every operation on the folder's files fails from number `after` (from 0) on.

    `kind` is full, io or read_only. `failed` says afterwards whether it came to that.
    """
    disk = FailingDisk(after=after, kind=kind)
    with _installed(_Failing(folder, disk)), _watched(folder, _close_without_checkpoint):
        yield disk


def _close_without_checkpoint(connection: apsw.Connection) -> None:
    """SQLite keeps a checkpoint that fails while it closes a file to itself, and the -wal stays; apsw would raise."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


class Statements:
    """How many statements were begun on the connections to a folder."""

    def __init__(self) -> None:
        self.begun = 0


@contextmanager
def power_cut(folder: Path, *, before_statement: int | None = None) -> Iterator[Statements]:
    """During the block PowerIsGone is raised before statement number `before_statement` (from 0) and any later one.

    None lets all through and only counts. What a transaction had not committed is gone, as with its process.
    """
    seen = Statements()

    def begin(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        if before_statement is not None and seen.begun >= before_statement:
            raise PowerIsGone
        seen.begun += 1
        return True

    def watch(connection: apsw.Connection) -> None:
        connection.exec_trace = begin

    with _watched(folder, watch):
        yield seen


@contextmanager
def _watched(folder: Path, look: Callable[[apsw.Connection], None]) -> Iterator[None]:
    """Call `look` with each connection to the folder that is opened during the block."""

    def opened(connection: apsw.Connection) -> None:
        if _is_in(connection.filename, folder):
            look(connection)

    apsw.connection_hooks.append(opened)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(opened)


def _is_in(path: str | None, folder: Path) -> bool:
    return bool(path) and os.path.realpath(str(path)).startswith(os.path.realpath(folder) + os.sep)


@contextmanager
def _installed(vfs: "_Disk") -> Iterator[None]:
    try:
        yield
    finally:
        apsw.set_default_vfs(vfs.below)
        vfs.unregister()


class _Disk(apsw.VFS):
    """The disk that was there, with a look at each operation on the files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.realpath(folder))
        self.below = apsw.vfs_names()[0]
        super().__init__(f"syncengine-testing-{next(_numbers)}", self.below, makedefault=True)

    def excepthook(
        self,
        etype: type[BaseException] | None,
        evalue: BaseException | None,
        etraceback: TracebackType | None,
    ) -> bool:
        """What SQLite cannot hand on, such as a failure while it closes a file, ends here."""
        return True

    def name_of(self, path: str) -> str:
        """The file's name as the log has it: from the folder, with slashes."""
        return Path(os.path.realpath(path)).relative_to(self.folder).as_posix()

    def xOpen(self, name: "str | apsw.URIFilename | None", flags: list[int]) -> apsw.VFSFile:  # noqa: N802  (SQLite's)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None or not flags[0] & _KEPT or not _is_in(path, self.folder):
            return apsw.VFSFile(self.below, name, flags)
        return _File(self, name, path, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802  (SQLite's)
        inside = _is_in(filename, self.folder)
        if inside:
            self.before("delete", filename)
            if not Path(filename).exists():
                return  # SQLite takes that for success, but apsw would raise it
        super().xDelete(filename, syncdir)
        if inside:
            self.done(Operation(kind="delete", name=self.name_of(filename), folder_synced=bool(syncdir)))

    def before(self, operation: str, path: str) -> None:
        """Before an operation on one of the folder's files."""

    def done(self, operation: Operation) -> None:
        """After an operation on one of the folder's files."""

    @property
    def syncs(self) -> bool:
        """Whether a sync is done for real."""
        return True


class _File(apsw.VFSFile):
    def __init__(self, disk: _Disk, name: "str | apsw.URIFilename | None", path: str, flags: list[int]) -> None:
        self.disk = disk
        self.path = path
        self.name = disk.name_of(path)
        is_new = not Path(path).exists()
        super().__init__(disk.below, name, flags)
        if is_new and Path(path).exists():
            disk.done(Operation(kind="create", name=self.name))

    def excepthook(
        self,
        etype: type[BaseException] | None,
        evalue: BaseException | None,
        etraceback: TracebackType | None,
    ) -> bool:
        return True

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802  (SQLite's)
        self.disk.before("read", self.path)
        return super().xRead(amount, offset)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802  (SQLite's)
        self.disk.before("write", self.path)
        super().xWrite(data, offset)
        self.disk.done(Operation(kind="write", name=self.name, offset=offset, data=bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802  (SQLite's)
        self.disk.before("truncate", self.path)
        super().xTruncate(newsize)
        self.disk.done(Operation(kind="truncate", name=self.name, size_bytes=newsize))

    def xLock(self, level: int) -> None:  # noqa: N802  (SQLite's)
        try:
            super().xLock(level)
        except apsw.IOError as error:
            # The last to close a file that it may only read: SQLite keeps the failure to itself, apsw would raise it.
            raise apsw.BusyError(str(error)) from None

    def xSync(self, flags: int) -> None:  # noqa: N802  (SQLite's)
        self.disk.before("sync", self.path)
        if self.disk.syncs:
            super().xSync(flags)
        self.disk.done(Operation(kind="sync", name=self.name))


class _Recorder(_Disk):
    def __init__(self, folder: Path, log: DiskLog) -> None:
        self._log = log
        self._opened: set[str] = set()
        super().__init__(folder)
        self._outside = self._seen_outside()

    def xOpen(self, name: "str | apsw.URIFilename | None", flags: list[int]) -> apsw.VFSFile:  # noqa: N802  (SQLite's)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is not None and flags[0] & apsw.SQLITE_OPEN_MAIN_DB and _is_in(path, self.folder):
            self._opened.add(self.name_of(path))
        return super().xOpen(name, flags)

    def done(self, operation: Operation) -> None:
        self._note_outside(besides=operation.name)
        self._log.operations.append(operation)

    @property
    def syncs(self) -> bool:
        return False

    def _note_outside(self, *, besides: str) -> None:
        """What other code has written, renamed or deleted since the last operation; SQLite's files only deleted."""
        seen = self._seen_outside()
        for name in sorted(self._outside.keys() - seen.keys() - {besides}):
            self._log.operations.append(Operation(kind="outside", name=name))
        for name, state in sorted(seen.items()):
            if self._outside.get(name) != state and state != _OF_SQLITE:
                data = (self.folder / name).read_bytes()
                self._log.operations.append(Operation(kind="outside", name=name, data=data))
        self._outside = seen

    def _seen_outside(self) -> dict[str, tuple[int, int, int]]:
        # Only looked at, never opened, where a database is: to close it would drop SQLite's locks.
        of_sqlite = {name + side for name in self._opened for side in _SIDE_FILES}
        found = {}
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            state = _OF_SQLITE if name in of_sqlite else _state_of(path)
            if state is not None:
                found[name] = state
        return found


_OF_SQLITE = (0, 0, 0)


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from what it was; None for a folder, and for what has just gone."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return (state.st_ino, state.st_mtime_ns, state.st_size) if S_ISREG(state.st_mode) else None


class _Failing(_Disk):
    def __init__(self, folder: Path, disk: FailingDisk) -> None:
        self._failing = disk
        super().__init__(folder)

    def before(self, operation: str, path: str) -> None:
        self._failing.look(operation)
