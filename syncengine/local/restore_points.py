"""Restore points: whole copies of the store, checked, sealed in the age format, and opened once to be sure."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

from syncengine.clock import fresh_id, iso, system_random
from syncengine.errors import (
    COPY_FIRST,
    DiskFull,
    KeyUnavailable,
    RestorePointImpossible,
    RestorePointUnknown,
    RestorePointUnusable,
    SourceBroken,
    StoreDamaged,
)
from syncengine.local.identifiers import quoted
from syncengine.local.keys import key_that_is_there, sync_folder
from syncengine.local.private_place import (
    give_to_owner_of,
    make_restore_folder,
    plain_place,
    remove_leftovers,
)
from syncengine.local.regular_file import open_regular
from syncengine.local.restore_folder import restore_folder
from syncengine.local.savepoint import raise_translated
from syncengine.local.sealing import Sealed, seal, sha256_of, unseal
from syncengine.local.statements import statement
from syncengine.local.stored import stored_object

if TYPE_CHECKING:
    from syncengine.clock import Clock
    from syncengine.local.keys import KeyProvider, SealingKey
    from syncengine.local.store import Store

PAGES_OF_ONE_STEP = 1_000
SEALED_ENDS = ".age"
DAMAGED_ENDS = ".damaged" + SEALED_ENDS
"""Of a store that was replaced because it could not be read: a person decides when it goes."""
SEALED_NAME = "sealed"
"""Of the file that is being sealed, in the place of its plain copy."""
DAY_MS = 24 * 60 * 60 * 1000
_FULL = frozenset({"ENOSPC", "EDQUOT", "EFBIG"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePoint:
    """A sealed copy of the store as one moment saw it."""

    restore_point_id: int
    path: str
    """Of the sealed file; `age -d -i KEYFILE` opens it."""
    state: str
    """"good", "missing" or "altered"."""
    size_bytes: int
    recipient: str
    schema_version: str
    rows: dict[str, int] = field(repr=False)
    """How many rows each table had."""
    reason: str
    made_at: str
    verified_at: str
    keep_until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copied:
    rows: dict[str, int]
    schema_version: str
    newest_erasure: int


def make_restore_point(
    store: "Store", *, keys: "KeyProvider", reason: str, between: Callable[[], None] = lambda: None
) -> RestorePoint:
    """Copy the store as it is now, check the copy, seal it, open the sealed file once, and record it.

    Writers are not held out. `between` is called every few megabytes. Takes room for two copies while it is made, and
    for one afterwards. Raises KeyUnavailable, RestorePointImpossible, DiskFull, StoreDamaged; nothing is left then.
    """
    key = keys.identity()
    folder = make_restore_folder(store.path)
    check_room(store, folder)
    made_at = iso(store.clock.now_ms())
    name = sealed_name(store.clock)
    try:
        with plain_place(folder) as place:
            plain_path = os.path.join(place, "plain.db")
            copied = _copy(store, plain_path, between=between)
            sealed = seal_copy(store.path, plain_path, key=key, between=between)
            os.rename(os.path.join(place, SEALED_NAME), os.path.join(folder, name))
            sync_folder(folder)
    except OSError as error:
        raise no_disk(error) from error
    try:
        return _record(store, name, copied, sealed, keys=keys, key=key, reason=reason, made_at=made_at)
    except BaseException:
        os.unlink(os.path.join(folder, name))
        raise


def sealed_name(clock: "Clock") -> str:
    """The time, and something that no other file has."""
    moment = iso(clock.now_ms()).replace(":", "").replace(".", "")
    return f"{moment}-{fresh_id(system_random())[:12]}{SEALED_ENDS}"


def check_room(store: "Store", folder: str) -> None:
    """Is there space for two copies, and what stays free? Raises RestorePointImpossible."""
    pages, page_bytes = store.query("PRAGMA page_count")[0][0], store.query("PRAGMA page_size")[0][0]
    _check_free(store, folder, needed_bytes=2 * pages * page_bytes, done="made")


def _check_free(store: "Store", folder: str, *, needed_bytes: int, done: str) -> None:
    free, kept_free = shutil.disk_usage(folder).free, store.settings.restore_point_free_bytes_min
    if free < needed_bytes + kept_free:
        raise RestorePointImpossible(
            "There is not enough space on the disk for a restore point.",
            why=f"it needs {_megabytes(needed_bytes)} MB while it is {done}, {_megabytes(kept_free)} MB stay free, "
            f"and {_megabytes(free)} MB are free",
            fix="Free some space beside the store and try again. The store was not changed.",
        )


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1_000_000:,.0f}"


def no_disk(error: OSError) -> Exception:
    """DiskFull, or RestorePointImpossible, for what the disk said."""
    import errno

    if errno.errorcode.get(error.errno or 0) in _FULL:
        return DiskFull(
            "The disk is full.",
            why=error.strerror or type(error).__name__,
            fix="Nothing was kept, and the store was not changed. Free some space beside it and try again.",
        )
    return RestorePointImpossible(
        "A restore point could not be written or opened.",
        why=error.strerror or type(error).__name__,
        fix="Look at the folder beside the store that ends in -restore. The store was not changed.",
    )


# Copying.


def _copy(store: "Store", path: str, *, between: Callable[[], None]) -> _Copied:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    source = store.reader()
    try:
        # One read transaction for all steps: else the backup begins anew whenever somebody commits.
        source.execute("BEGIN")
        rows = _row_counts(source)
        copy_pages(source, path, between=between)
        version = source.execute("SELECT max(schema_version) FROM _sync_version WHERE scope = 'store'").get
        newest_erasure = source.execute(statement("restore_points", "newest_erasure")).get
    except apsw.Error as error:
        raise_translated(error)
    finally:
        source.close(True)
    between()
    check_copy(path, rows=rows)
    return _Copied(rows=rows, schema_version=str(version or ""), newest_erasure=int(newest_erasure))


def copy_pages(source: apsw.Connection, path: str, *, between: Callable[[], None]) -> None:
    """All pages of a connection's main database, as one file that is not in WAL mode."""
    target = apsw.Connection(path)
    try:
        # What a crash leaves of it is deleted, so it needs neither a journal nor the disk.
        target.execute("PRAGMA synchronous = OFF").fetchall()
        target.execute("PRAGMA journal_mode = OFF").fetchall()
        with target.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(PAGES_OF_ONE_STEP)
                between()
        # A copy is one file: leave WAL mode, so that no -wal appears beside it.
        target.execute("PRAGMA journal_mode = DELETE").fetchall()
    finally:
        target.close(True)


def check_copy(path: str, *, rows: dict[str, int] | None) -> None:
    """Raises StoreDamaged when a copy is not whole, or has not the rows that it should have, where that is known."""
    try:
        found, counts = _examined(path)
    except apsw.Error as error:
        raise_translated(error)
    if found != "ok" or rows not in (None, counts):
        raise StoreDamaged(
            "A copy of the store is not whole.",
            why="SQLite's integrity check finds damage" if found != "ok" else "its tables have other numbers of rows",
            fix=COPY_FIRST,
        )


def _examined(path: str) -> tuple[object, dict[str, int]]:
    """What SQLite's integrity check says of a file, and how many rows each of its tables has."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.execute("PRAGMA temp_store = MEMORY").fetchall()
        return connection.execute("PRAGMA integrity_check(1)").get, _row_counts(connection)
    finally:
        connection.close(True)


def _row_counts(connection: apsw.Connection) -> dict[str, int]:
    # A virtual table has no pages of its own; the tables that it keeps its content in are counted.
    tables = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name"
    ).fetchall()
    names = [str(name) for (name,) in tables]
    return {name: _count(connection, name) for name in names}


def _count(connection: apsw.Connection, table: str) -> int:
    ((count,),) = connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchall()
    assert isinstance(count, int)
    return count


# Sealing.


def seal_copy(
    store_path: str, plain_path: str, *, key: "SealingKey", between: Callable[[], None] = lambda: None
) -> Sealed:
    """Seal a plain copy, which has lost its name by then, and open the sealed file again against its hash.

    The sealed file is `SEALED_NAME` beside the plain one, on the disk, with the store's owner.
    """
    path = os.path.join(os.path.dirname(plain_path), SEALED_NAME)
    with open(plain_path, "rb") as plain, open(path, "xb+", opener=private_file) as target:
        if os.name == "posix":
            os.unlink(plain_path)
        went_in = seal(plain, target, key=key, between=between)
        target.flush()
        os.fsync(target.fileno())
        give_to_owner_of(store_path, path, mode=os.stat(store_path).st_mode & 0o777)
        target.seek(0)
        sealed = unseal(target, None, key=key, between=between)
        if sealed.plain_sha256 != went_in:
            raise RestorePointUnusable(
                "A new restore point does not hold what was sealed.",
                why="the disk, or the memory of this machine, gives back other bytes than were written",
                fix="Check the disk. Nothing was changed.",
            )
    return sealed


def private_file(path: str, flags: int) -> int:
    """An opener for files of 0600, whatever the umask."""
    return os.open(path, flags, 0o600)


def _record(
    store: "Store",
    name: str,
    copied: _Copied,
    sealed: Sealed,
    *,
    keys: "KeyProvider",
    key: "SealingKey",
    reason: str,
    made_at: str,
) -> RestorePoint:
    # 0 days: it may go at once, and the engine prunes only after a migration that succeeded.
    keep_ms = store.clock.now_ms() + store.settings.restore_point_keep_days * DAY_MS
    with store.transaction(durable=True):
        # Inside, so that nobody gives up the old key between this look and the line.
        if keys.identity() != key:
            raise KeyUnavailable(
                "The key was replaced while a restore point was sealed for it.",
                why="another process gave this store a new key meanwhile",
                fix="Try again. Nothing was written.",
            )
        if store.value("restore_points", "newest_erasure") != copied.newest_erasure:
            raise RestorePointImpossible(
                "What a restore point holds was erased while it was made.",
                why="a migration that erases ended meanwhile",
                fix="Try again. Nothing was written.",
            )
        restore_point_id = store.value(
            "restore_points",
            "record",
            path=os.path.join(os.path.basename(restore_folder(store.path)), name),
            sha256=sealed.sealed_sha256,
            size_bytes=sealed.size_bytes,
            recipient=key.recipient,
            schema_version=copied.schema_version,
            rows=json.dumps(copied.rows),
            reason=reason,
            made_at=made_at,
            verified_at=iso(store.clock.now_ms()),
            keep_until=iso(keep_ms),
            newest_erasure=copied.newest_erasure,
        )
    return restore_point(store, int(restore_point_id))


# Looking.


def restore_points(store: "Store") -> tuple[RestorePoint, ...]:
    """Those that are kept, oldest first, each file read and compared with its hash."""
    return tuple(point_of(row, store_path=store.path) for row in store.rows("restore_points", "kept"))


def restore_point(store: "Store", restore_point_id: int) -> RestorePoint:
    """One that is kept. Raises RestorePointUnknown."""
    row = store.row("restore_points", "one", restore_point_id=restore_point_id)
    if row is None:
        raise RestorePointUnknown(
            f"There is no restore point {restore_point_id}.",
            why="it never was, or its time is over and it was deleted",
            fix="List them: syncengine restore-points. Nothing was changed.",
        )
    return point_of(row, store_path=store.path)


def point_of(row: Sequence[Any], *, store_path: str) -> RestorePoint:
    """What a line of the table says, and what has become of its file."""
    number, path, sha256, size_bytes, recipient, version, rows, reason, made_at, verified_at, keep_until = row
    file = _file_of(store_path, path)
    return RestorePoint(
        restore_point_id=number,
        path=file or path,
        state="altered" if file is None else _state_of(file, sha256=sha256),
        size_bytes=size_bytes,
        recipient=recipient,
        schema_version=version,
        rows=stored_object(rows, "_sync_restore_point.rows"),
        reason=reason,
        made_at=made_at,
        verified_at=verified_at,
        keep_until=keep_until,
    )


def _file_of(store_path: str, path: str) -> str | None:
    """The sealed file that a line of the table names; None where that can be none of a store's folder."""
    folder, name = os.path.split(path)
    is_beside = os.path.basename(folder) == folder and folder.endswith(restore_folder(""))
    if not is_beside or not name.endswith(SEALED_ENDS) or "\0" in path:
        return None
    return os.path.join(os.path.dirname(store_path), path)


def _state_of(path: str, *, sha256: str) -> str:
    try:
        with open_regular(path) as file:
            return "good" if sha256_of(file) == sha256 else "altered"
    except SourceBroken:
        return "altered"
    except OSError:
        return "missing"


# Opening.


@contextmanager
def opened_restore_point(
    store: "Store", restore_point_id: int, *, keys: "KeyProvider", copies: int = 1
) -> Iterator[Path]:
    """A private plain copy (0600, beside the store) of what a restore point holds, checked; gone when the block ends.

    `copies` is how many there will be: room is looked for before.
    Raises RestorePointUnknown, RestorePointUnusable when its file is missing, altered or sealed for another key,
    KeyUnavailable, RestorePointImpossible, DiskFull.
    """
    point = restore_point(store, restore_point_id)
    if point.state != "good":
        raise RestorePointUnusable(
            f"Restore point {restore_point_id} is {point.state}.",
            why="its file is not there"
            if point.state == "missing"
            else "its file is not the one that was made: another hash, another kind, or another place",
            fix="Take another restore point: syncengine restore-points. Nothing was changed.",
        )
    key = key_that_is_there(keys)
    folder = make_restore_folder(store.path)
    _check_free(store, folder, needed_bytes=copies * point.size_bytes, done="opened")
    with ExitStack() as until_closed:
        try:
            place = until_closed.enter_context(plain_place(folder))
            path = os.path.join(place, "opened.db")
            with open_regular(point.path) as sealed, open(path, "xb", opener=private_file) as target:
                unseal(sealed, target, key=key)
        except OSError as error:
            raise no_disk(error) from error
        check_copy(path, rows=point.rows)
        yield Path(path)


# Pruning.


def prune_restore_points(store: "Store") -> int:
    """Delete those whose time is over, and the oldest above the limit; how many. What killed processes left goes too.

    The file goes first: a crash in between leaves a line without a file, and no file without a line.
    """
    remove_leftovers(restore_folder(store.path))
    young_ms = store.clock.now_ms() - max(store.settings.restore_point_keep_days, 1) * DAY_MS
    _remove_unrecorded(store, made_before=iso(young_ms))
    over = store.rows(
        "restore_points", "over", now=iso(store.clock.now_ms()), kept_max=store.settings.restore_points_max
    )
    _delete(store, [*store.rows("restore_points", "erased"), *over])
    return len(over)


def forget_erased_points(store: "Store") -> None:
    """Delete those that hold what a migration has erased since; also plain copies and files that nobody recorded.

    Raises DiskFull, RestorePointImpossible.
    """
    remove_leftovers(restore_folder(store.path))
    _delete(store, store.rows("restore_points", "erased"))
    erased_at = store.value("restore_points", "erased_at")
    if erased_at is not None:
        _remove_unrecorded(store, made_before=str(erased_at))


def _delete(store: "Store", points: "Sequence[Sequence[Any]]") -> None:
    for restore_point_id, path, why in points:
        file = _file_of(store.path, path)
        try:
            with suppress(FileNotFoundError):
                if file is not None:
                    os.unlink(file)
        except OSError as error:
            raise no_disk(error) from error
        now = iso(store.clock.now_ms())
        with store.transaction():
            store.run("restore_points", "gone", restore_point_id=restore_point_id, now=now, why=why)


def _remove_unrecorded(store: "Store", *, made_before: str) -> None:
    """A process that was killed before it could record its sealed file leaves one that nobody would ever delete."""
    recorded = {os.path.basename(path) for (path,) in store.rows("restore_points", "paths")}
    with suppress(OSError), os.scandir(restore_folder(store.path)) as entries:
        for entry in entries:
            is_ours = entry.name.endswith(SEALED_ENDS) and not entry.name.endswith(DAMAGED_ENDS)
            if entry.name in recorded:
                continue
            if is_ours and iso(entry.stat(follow_symlinks=False).st_mtime_ns // 1_000_000) < made_before:
                os.unlink(entry.path)
