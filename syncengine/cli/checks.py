"""What `doctor` looks at, one function for each; every one only reads."""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from syncengine.cli import migration_checks
from syncengine.cli.finding import Finding, Verdict
from syncengine.cli.looking import Look, opened, refuse_foreign
from syncengine.cli.showing import counted
from syncengine.clock import SystemClock, iso
from syncengine.errors import PragmaRefused, SourceBroken, SourceMissing, StoreDamaged, StoreForeign, StoreMissing
from syncengine.local.connection import APPLICATION_ID, set_pragma
from syncengine.local.copies import open_copy
from syncengine.local.engine_tables import UPGRADES
from syncengine.local.identifiers import quoted
from syncengine.local.private_folder import is_left_behind
from syncengine.local.sqlite_errors import SqliteError
from syncengine.sources.near_miss import near_misses

DAMAGES_SHOWN_MAX = 5
UNREADABLE = "cannot be read: "
WAY_BACK = (
    "copy the file with its -wal before anything else; then `syncengine restore-points` "
    "says which copy can take its place"
)
NEIGHBOURS_MAX = 1_000
"""Files of the store's folder that are looked at."""
LEFTOVERS_SHOWN_MAX, TABLES_SHOWN_MAX = 2, 10
OLD_ENTRY_MS = 7 * 24 * 3600 * 1000
STALE_COPY_MS = 3600 * 1000
"""A private copy of the engine is gone within seconds, unless its process was killed."""
SQLITE_WITHOUT_WAL_RESET_BUG = (3, 51, 3)
"""Before, two connections that write and checkpoint at one instant can damage a WAL file (SQLite 3.51.3 notes)."""
HEADER_BYTES = 72
"""As far as the application id, which is at offset 68 (sqlite.org/fileformat2.html#the_database_header)."""


def examined(path: str) -> list[Finding]:
    """The findings of all checks, in their order. Raises StoreMissing, and StoreForeign for what is no store."""
    with opened(path) as look:
        return [_carried_out(name, check, look) for name, check in CHECKS]


def _carried_out(name: str, check: "Callable[[Look], Finding]", look: Look) -> Finding:
    try:
        return check(look)
    except (StoreForeign, StoreMissing):
        raise  # there is nothing to look over
    except Exception as error:  # noqa: BLE001  (whatever damage does to one check, the others are made)
        return Finding(
            check=name,
            verdict=Verdict.BAD,
            found=f"{UNREADABLE}{type(error).__name__}",
            fix=WAY_BACK,
        )


def _kind(look: Look) -> Finding:
    refuse_foreign(look)
    return Finding(check="kind", verdict=Verdict.OK, found=f"a store of this engine ({APPLICATION_ID:#x})")


def _edition(look: Look) -> Finding:
    edition, known = look.edition(), len(UPGRADES)
    if edition > known:
        return Finding(
            check="engine tables",
            verdict=Verdict.BAD,
            found=f"edition {edition}; this engine knows {known}",
            fix="update syncengine; until then only look",
        )
    later = "" if edition == known else f"; the app's next start makes it {known}"
    return Finding(check="engine tables", verdict=Verdict.OK, found=f"edition {edition}{later}")


def _library(look: Look) -> Finding:
    text = str(look.ask("SELECT sqlite_version()")[0][0])
    is_sound = tuple(int(part) for part in text.split(".")) >= SQLITE_WITHOUT_WAL_RESET_BUG
    return Finding(
        check="SQLite library",
        verdict=Verdict.OK if is_sound else Verdict.WARN,
        found=text,
        fix="" if is_sound else "update apsw: this SQLite can damage a WAL file that several processes write",
    )


def _integrity(look: Look) -> Finding:
    damages = [str(row[0]) for row in look.ask(f"PRAGMA integrity_check({DAMAGES_SHOWN_MAX})")]
    if damages == ["ok"]:
        return Finding(check="integrity", verdict=Verdict.OK, found="no damage")
    return Finding(
        check="integrity",
        verdict=Verdict.BAD,
        found="; ".join(damages),
        fix=WAY_BACK,
    )


def _references(look: Look) -> Finding:
    lost = look.rows("shapes", "lost_parents")
    if lost:
        return Finding(
            check="foreign keys",
            verdict=Verdict.BAD,
            found="; ".join(
                f"{child} refers to {parent}, which is not there: no write to it" for child, parent in lost
            ),
            fix="run the migration that makes the missing table, or restore: see `syncengine restore-points`",
        )
    tables = [str(row[0]) for row in look.ask("PRAGMA foreign_key_check")]
    if not tables:
        return Finding(check="foreign keys", verdict=Verdict.OK, found="every row refers to one that is there")
    return Finding(
        check="foreign keys",
        verdict=Verdict.BAD,
        found=f"{counted(len(tables), 'row', 'rows')} without what it refers to, in {', '.join(sorted(set(tables)))}",
        fix="write the missing rows, or delete these, through the app",
    )


def _settings(look: Look) -> Finding:
    journal = look.ask("PRAGMA journal_mode")[0][0]
    refused = [name for name in ("foreign_keys", "recursive_triggers") if not _takes(look, name)]
    if journal == "wal" and not refused:
        return Finding(check="settings", verdict=Verdict.OK, found="journal_mode wal; foreign_keys can be set")
    refusals = f"; not taken: {', '.join(refused)}" if refused else ""
    return Finding(
        check="settings",
        verdict=Verdict.BAD if refused else Verdict.WARN,
        found=f"journal_mode {journal}{refusals}",
        fix="the app's next start sets WAL; on a network folder it cannot",
    )


def _takes(look: Look, name: str) -> bool:
    try:
        set_pragma(look.connection, name, "ON", 1)
    except PragmaRefused:
        return False
    return True


def _modes(look: Look) -> Finding:
    if os.name != "posix":
        return Finding(check="file modes", verdict=Verdict.OK, found="not looked at on this system")
    open_to_others = [
        f"{path.name} is {stat.S_IMODE(found.st_mode):04o}"
        for path, found in _own_files(look)
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    ]
    if not open_to_others:
        return Finding(check="file modes", verdict=Verdict.OK, found="open to their owner alone")
    return Finding(
        check="file modes", verdict=Verdict.WARN, found=", ".join(open_to_others), fix="chmod 600 these files"
    )


def _own_files(look: Look) -> list[tuple[Path, os.stat_result]]:
    """Those that are there; the last app that closes takes -wal and -shm away at any moment."""
    files = []
    for end in ("", "-wal", "-shm"):
        path = Path(look.path + end)
        with suppress(FileNotFoundError):
            files.append((path, path.stat()))
    return files


def _copies(look: Look) -> Finding:
    """A copy that is opened counts its entries on from the same number as the same device."""
    device = look.value("state", "get", name="device_id")
    twins = sorted(path.name for path in _neighbours(look) if _device_of(path) == device)
    if not twins:
        return Finding(check="copies", verdict=Verdict.OK, found=f"none beside it; this is device {device}")
    return Finding(
        check="copies",
        verdict=Verdict.WARN,
        found=f"{', '.join(twins)}: the same device {device}",
        fix="let no app open the copy: both would send as one device",
    )


def _neighbours(look: Look) -> Iterator[Path]:
    """Other stores of this engine in the same folder. The store itself is never opened as a plain file: closing it
    would drop the locks of SQLite in this process."""
    own = {(found.st_dev, found.st_ino) for _, found in _own_files(look)}
    with os.scandir(Path(look.path).resolve().parent) as entries:
        for _, entry in zip(range(NEIGHBOURS_MAX), entries, strict=False):
            with suppress(FileNotFoundError):  # a neighbour that goes while we look is none
                found = entry.stat(follow_symlinks=False)
                is_other = stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) not in own
                if is_other and _is_store(Path(entry.path)):
                    yield Path(entry.path)


def _is_store(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError:
        return False
    return header.startswith(b"SQLite format 3\0") and header[68:72] == APPLICATION_ID.to_bytes(4, "big")


def _device_of(path: Path) -> str | None:
    """Asked of a private copy: opening it in place would leave files beside it."""
    try:
        with open_copy(str(path)) as connection:
            return Look(connection, path=str(path)).value("state", "get", name="device_id")  # type: ignore[no-any-return]  # TEXT NOT NULL
    except (SourceBroken, SourceMissing, StoreDamaged, SqliteError):
        return None


def _leftovers(look: Look) -> Finding:
    stale = iso(SystemClock().now_ms() - STALE_COPY_MS)
    folder = Path(tempfile.gettempdir())
    found = [
        path.name
        for kind in ("syncengine-snapshot-*", "syncengine-copy-*")
        for path in folder.glob(kind)
        if is_left_behind(path.name) or _was_made_before(path, stale)
    ]
    if not found:
        return Finding(check="leftovers", verdict=Verdict.OK, found="none")
    return Finding(
        check="leftovers",
        verdict=Verdict.WARN,
        found=_some_of(sorted(found), most=LEFTOVERS_SHOWN_MAX),
        fix=f"delete the folders syncengine-snapshot-* and -copy-* of no running app in {folder}: they hold rows",
    )


def _some_of(names: list[str], *, most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _was_made_before(path: Path, moment: str) -> bool:
    try:
        return iso(int(path.stat().st_mtime * 1000)) < moment
    except OSError:
        return False  # it went while we looked


def _tables(look: Look) -> Finding:
    """A write to a table whose name is misspelt makes one that nobody declared, and nothing of it is ever sent."""
    loose = [str(name) for (name,) in look.rows("looks", "loose_tables")]
    collections = [str(name) for (name,) in look.rows("looks", "collections")]
    alike = {name: near_misses(name, collections) for name in loose}
    misspelt = [f"{name} (did you mean {each[0]}?)" for name, each in alike.items() if each]
    if misspelt:
        return Finding(
            check="tables",
            verdict=Verdict.WARN,
            found=f"in no collection, so never sent: {_some_of(misspelt, most=TABLES_SHOWN_MAX)}",
            fix="correct the name where the app writes, and move the rows; or declare the collection in a migration",
        )
    return Finding(
        check="tables",
        verdict=Verdict.OK,
        found=f"in no collection, so never sent: {_some_of(loose, most=TABLES_SHOWN_MAX)}"
        if loose
        else "each is a collection",
    )


def _row_keys(look: Look) -> Finding:
    """The cloud tells rows by owner and key, as text; a table without such a constraint may hold others."""
    odd = []
    for collection, key, owner in look.rows("outbox", "synced_collections"):
        name, of_owner = quoted(key), f"FROM {quoted(collection)} WHERE {quoted(owner)} <> ''"
        each = f"CAST({quoted(owner)} AS TEXT) || char(0) || CAST({name} AS TEXT)"
        keyless, alike = look.ask(
            f"SELECT count(*) - count({name}), count({name}) - count(DISTINCT {each}) {of_owner}"
        )[0]
        odd += [f"{collection}: {keyless} without a key, so never sent"] if keyless else []
        odd += [f"{collection}: {counted(alike, 'has', 'have')} the key of another row"] if alike else []
    return Finding(
        check="row keys",
        verdict=Verdict.WARN if odd else Verdict.OK,
        found=_some_of(odd, most=TABLES_SHOWN_MAX) if odd else "each row of a collection has one of its own",
        fix="give each a key of its own, and the table PRIMARY KEY (owner, key), both TEXT NOT NULL" if odd else "",
    )


def _oldest_entry(look: Look) -> Finding:
    waiting, claimed, held, oldest_at, _ = look.rows("looks", "queue", user=None)[0]
    if oldest_at is None:
        return Finding(check="outbox", verdict=Verdict.OK, found="nothing waits")
    is_old = oldest_at < iso(SystemClock().now_ms() - OLD_ENTRY_MS)
    return Finding(
        check="outbox",
        verdict=Verdict.WARN if is_old else Verdict.OK,
        found=f"{counted(waiting + claimed + held, 'waits', 'wait')}, the oldest since {oldest_at}",
        fix="see `syncengine outbox` for the reason" if is_old else "",
    )


def _quarantine(look: Look) -> Finding:
    count = look.value("looks", "quarantined", user=None)
    return Finding(
        check="quarantine",
        verdict=Verdict.WARN if count else Verdict.OK,
        found=f"{counted(count, 'waits', 'wait')} for a person" if count else "nothing",
        fix="see `syncengine quarantine`" if count else "",
    )


CHECKS: tuple[tuple[str, Callable[[Look], Finding]], ...] = (
    ("kind", _kind),
    ("engine tables", _edition),
    ("versions", migration_checks.versions),
    ("SQLite library", _library),
    ("integrity", _integrity),
    ("foreign keys", _references),
    ("shapes", migration_checks.shapes),
    ("tables", _tables),
    ("row keys", _row_keys),
    ("settings", _settings),
    ("file modes", _modes),
    ("key file", migration_checks.key_file),
    ("disk space", migration_checks.space),
    ("copies", _copies),
    ("leftovers", _leftovers),
    ("unfinished", migration_checks.unfinished),
    ("kept tables", migration_checks.kept_tables),
    ("restore points", migration_checks.restore_points),
    ("erasures", migration_checks.erasures),
    ("leases", migration_checks.leases),
    ("outbox", _oldest_entry),
    ("quarantine", _quarantine),
)
