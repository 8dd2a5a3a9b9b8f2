"""One JSON document about a store, for whoever helps: what it is, what it holds by number, what went wrong by name.

It never has the body of a row, a token or a key of encryption. Redacted, as it is by default, it has no keys of
rows, no user ids and no paths either: a user is a hash that is the same in all reports about one store and tells
nobody else who it is. Each section stands for itself: what cannot be read says so, and the others are there.
"""

import hashlib
import json
import os
import platform
import shutil
import stat
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncengine.clock import iso
from syncengine.errors import ExportImpossible, SyncEngineError
from syncengine.local.connection import library_version
from syncengine.local.identifiers import quoted
from syncengine.local.process_life import has_ended
from syncengine.local.statements import statement
from syncengine.migrate.drift import drifts_in
from syncengine.settings import Settings

if TYPE_CHECKING:
    from apsw import Connection

    from syncengine.clock import Clock
    from syncengine.local.read_only import ReadOnlyReason
    from syncengine.local.store import Store
    from syncengine.status import Status

FORMAT = 1
ROWS_MAX = 1_000
"""Of history, quarantine and queue: the newest."""
HASH_DIGITS = 12
GONE = "…"
PRAGMAS = (
    *("journal_mode", "page_size", "page_count", "freelist_count", "encoding", "auto_vacuum", "user_version"),
    *("application_id", "schema_version", "wal_autocheckpoint", "cache_size"),
)
PACKAGES = ("syncengine", "apsw", "sqlite-utils", "pydantic", "httpx", "watchdog", "orjson", "pyrage")

Section = Callable[[], Any]
Facts = dict[str, Any]


class Diagnosis:
    """One moment of a store, on a connection that cannot write."""

    def __init__(self, connection: "Connection", *, path: str, clock: "Clock", redact: bool = True) -> None:
        self._connection = connection
        self._path = path
        self._clock = clock
        self._redact = redact
        self._salt = ""

    def rows(self, file: str, name: str, /, **values: Any) -> list[tuple[Any, ...]]:
        """All rows of a named statement."""
        return self._connection.execute(statement(file, name), values).fetchall()

    def document(
        self, *, settings: Settings, status: Section | None = None, read_only: "ReadOnlyReason | None" = None
    ) -> Facts:
        """The whole report as JSON-able values. Never raises for what the store is like."""
        self._salt = str(_tried(self._device))
        sections: dict[str, Section] = {
            "versions": _versions,
            "file": self._file,
            "read_only": lambda: None if read_only is None else _reason(read_only, path=self._path),
            "settings": lambda: {name: getattr(settings, name) for name in sorted(_setting_names())},
            "pragmas": lambda: {name: self._ask(f"PRAGMA {name}")[0][0] for name in PRAGMAS},
            "status": lambda: None if status is None else self._status(status()),
            "facts": lambda: dict(self.rows("diagnostics", "facts")),
            "scopes": self._scopes,
            "collections": lambda: self._named(statement("diagnostics", "collections")),
            "drift": self._drift,
            "schema": lambda: self._named(statement("diagnostics", "schema")),
            "row_counts": self._row_counts,
            "history": self._history,
            "quarantine": self._quarantine,
            "outbox": self._outbox,
            "sending": self._sending,
            "restore_points": self._restore_points,
            "shadows": self._shadows,
            "kept_tables": lambda: self._named(statement("diagnostics", "kept_tables")),
            "leases": self._leases,
        }
        head = {"format": FORMAT, "made_at": iso(self._clock.now_ms()), "redacted": self._redact}
        return head | {name: _tried(section) for name, section in sections.items()}

    # Asking.

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()

    def _named(self, sql: str, /, **values: Any) -> list[Facts]:
        cursor = self._connection.execute(sql, values)
        return [dict(zip((column[0] for column in cursor.description), row, strict=True)) for row in cursor]

    def _device(self) -> str:
        (device,) = self.rows("state", "get", name="device_id")[0]
        return str(device)

    # Leaving out.

    def _who(self, owner: object) -> str | None:
        """A user or a key: itself, or what stands for it in reports about this store."""
        if owner is None or not self._redact:
            return None if owner is None else str(owner)
        return hashlib.sha256(f"{self._salt}\0{owner}".encode()).hexdigest()[:HASH_DIGITS]

    def _scope(self, scope: str | None) -> str | None:
        if scope is None:
            return None
        kind, colon, user = scope.partition(":")
        return f"{kind}:{self._who(user)}" if colon else scope

    def _text(self, text: str | None) -> str | None:
        """A sentence that may name a key."""
        return GONE if self._redact and text is not None else text

    def _code(self, text: str | None) -> str | None:
        """The code of an error; any other word is a sentence."""
        return text if text in _error_codes() else self._text(text)

    def _shown(self, rows: Iterable[Facts], **how: Callable[[Any], Any]) -> list[Facts]:
        return [row | {name: show(row[name]) for name, show in how.items()} for row in rows]

    # The sections.

    def _file(self) -> Facts:
        found = Path(self._path).stat()
        there = [end for end in ("-wal", "-shm", "-journal") if Path(self._path + end).exists()]
        return {
            "name": Path(self._path).name if self._redact else self._path,
            "bytes": found.st_size,
            "mode": f"{stat.S_IMODE(found.st_mode):04o}",
            "beside": {end: Path(self._path + end).stat().st_size for end in there},
            "free_bytes": shutil.disk_usage(Path(self._path).resolve().parent).free,
        }

    def _status(self, status: "Status") -> Facts:
        found: Facts = status.to_json()
        found["user"] = self._who(found["user"])
        found["sync"]["last_error"] = self._code(found["sync"]["last_error"])
        if self._redact:
            # Sentences may name keys; the codes of what failed stand in the history.
            found = dict(_without_sentences(found))
        return found

    def _scopes(self) -> list[Facts]:
        return self._shown(self._named(statement("diagnostics", "scopes")), scope=self._scope)

    def _drift(self) -> list[Facts]:
        return [
            {
                "collection": drift.collection,
                "differences": drift.differences,
                "lost": [name for _, name, _ in drift.lost],
                "noted": drift.noted,
            }
            for drift in drifts_in(self)
            if drift.differences or drift.lost or drift.noted
        ]

    def _row_counts(self) -> Facts:
        names = [str(name) for (name,) in self.rows("diagnostics", "tables")]
        return {name: _tried(self._counter(name)) for name in names}

    def _counter(self, table: str) -> Section:
        sql = f"SELECT count(*) FROM {quoted(table)}"  # noqa: S608  (a name of this very schema)
        return lambda: int(self._ask(sql)[0][0])

    def _history(self) -> list[Facts]:
        rows = self._named(statement("diagnostics", "history"), rows_max=ROWS_MAX)
        return self._shown(rows, scope=self._scope, error_text=self._text)

    def _quarantine(self) -> list[Facts]:
        rows = self._named(statement("diagnostics", "quarantine"), rows_max=ROWS_MAX)
        # A field's path may hold the names that a user gave to parts of a document.
        return self._shown(rows, owner=self._who, row_key=self._who, error_text=self._text, field=self._text)

    def _outbox(self) -> list[Facts]:
        return self._shown(self._named(statement("diagnostics", "outbox"), rows_max=ROWS_MAX), owner=self._who)

    def _sending(self) -> list[Facts]:
        return self._shown(self._named(statement("diagnostics", "sending")), owner=self._who, last_error=self._code)

    def _restore_points(self) -> list[Facts]:
        rows = self._named(statement("diagnostics", "restore_points"))
        folder = Path(self._path).parent
        is_there = [(folder / row["path"]).exists() for row in rows]
        shown = self._shown(rows, path=self._shortened, reason=self._text)
        return [row | {"is_there": there} for row, there in zip(shown, is_there, strict=True)]

    def _shortened(self, path: str) -> str:
        return Path(path).name if self._redact else path

    def _shadows(self) -> list[Facts]:
        return self._shown(self._named(statement("diagnostics", "shadows")), scope=self._scope)

    def _leases(self) -> list[Facts]:
        rows = self._named(statement("diagnostics", "leases"))
        return [row | {"process_has_ended": has_ended(row["pid"])} for row in rows]


def diagnosed(store: "Store", *, status: Section, redact: bool) -> Facts:
    """The report about an open store, from a connection of its own: what it cannot read harms nobody else."""
    connection = store.reader()
    try:
        diagnosis = Diagnosis(connection, path=store.path, clock=store.clock, redact=redact)
        return diagnosis.document(settings=store.settings, status=status, read_only=store.read_only)
    finally:
        connection.close(True)


def write_document(document: Facts, path: str) -> None:
    """Into a new file, for its owner alone. Raises ExportImpossible, also where there is a file already."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
    except OSError as error:
        raise ExportImpossible(
            f"The report cannot be written to {Path(path).name}.",
            why=error.strerror or type(error).__name__,
            fix="Name a file that is not there yet, in a folder that this user may write.",
        ) from error


def _tried(section: Section) -> Any:
    """What a section says, or that it cannot be read: damage in one place must not hide the others."""
    try:
        return section()
    except Exception as error:  # noqa: BLE001  (whatever damage makes of a section, the others are there)
        return {"unreadable": type(error).__name__}


def _versions() -> Facts:
    found = {name: _version(name) for name in PACKAGES}
    system = {"python": platform.python_version(), "platform": platform.platform(), "sqlite": library_version()}
    return system | found


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _reason(reason: "ReadOnlyReason", *, path: str) -> Facts:
    folder = str(Path(path).parent) + os.sep
    shown = {name: getattr(reason, name).replace(folder, "") for name in ("code", "what", "why", "fix")}
    return shown | {"family": reason.error.__mro__[1].__name__}


def _setting_names() -> list[str]:
    return list(Settings.__annotations__)


def _error_codes() -> frozenset[str]:
    found, families = set(), [SyncEngineError]
    while families:
        family = families.pop()
        found.add(family.code())
        families += family.__subclasses__()
    return frozenset(found)


def _without_sentences(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_sentences(part) for name, part in value.items() if name not in ("why", "fix", "what")}
    if isinstance(value, list | tuple):
        return [_without_sentences(part) for part in value]
    return value
