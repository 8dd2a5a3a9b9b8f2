"""An opt-in guard: no second SQLite library and no plain open() may touch a live store in this process.

POSIX locks belong to the process, and closing any handle of the file drops all of them (sqlite.org/howtocorrupt.html,
"Posix advisory locks canceled by a separate thread doing close()" and "Multiple copies of SQLite linked into the same
application"). Then other processes write over our transactions, and commits vanish.
"""

import os
import re
import sys
from collections.abc import Callable
from typing import Any

from syncengine.errors import SecondLibrary

COMPANIONS = ("", "-wal", "-shm")
NEW_FILE_ONLY = os.O_CREAT | os.O_EXCL
"""open(2) with both fails on a file that exists, so it cannot touch one."""

Identity = tuple[int, int]


def guard_store(path: str) -> None:
    """From now on `sqlite3.connect` and `open()` of this store, its -wal or -shm raise SecondLibrary.

    Links count as the file they lead to. apsw, other files and other processes are not affected; ATTACH inside
    the standard library's SQLite and code in C are not seen. Repeating it is safe. The hook behind it stays for the
    life of the process (Python has no way to remove one) and costs one stat() per open() while a store is guarded.
    """
    _GUARD.add(path)


def unguard_store(path: str) -> None:
    """Allow it again, after the store was closed; safe to repeat."""
    _GUARD.discard(path)


class _Guard:
    """The guarded stores; replaced whole, so that the hook in other threads sees one state or the other."""

    def __init__(self) -> None:
        self._stores: frozenset[str] = frozenset()
        self._names: frozenset[str] = frozenset()
        self._installed = False

    def add(self, path: str) -> None:
        self._replace(self._stores | {os.path.realpath(path)})
        if not self._installed:
            self._installed = True
            sys.addaudithook(self.audit)

    def discard(self, path: str) -> None:
        self._replace(self._stores - {os.path.realpath(path)})

    def _replace(self, stores: frozenset[str]) -> None:
        self._stores = stores
        self._names = frozenset(os.path.basename(store) + end for store in stores for end in COMPANIONS)

    def audit(self, event: str, details: tuple[Any, ...]) -> None:
        """Called by Python for every audited act of the process, so the first line is what most of them cost."""
        if event not in ENTRANCES or not self._stores:
            return
        for path in ENTRANCES[event](details):
            store = self._store_at(path)
            if store:
                raise _refusal(event, store)

    def _store_at(self, path: str) -> str | None:
        """The guarded store that this path belongs to, by its name or by its inode."""
        if os.path.basename(path) in self._names:
            real = os.path.realpath(path)
            return next((store for store in self._stores for end in COMPANIONS if real == store + end), None)
        identity = _identity(path)
        if identity is None:
            return None
        return next((store for store in self._stores if identity in _identities(store)), None)


def _identities(store: str) -> set[Identity | None]:
    return {_identity(store + end) for end in COMPANIONS} - {None}


def _identity(path: str) -> Identity | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _opened_path(details: tuple[Any, ...]) -> tuple[str, ...]:
    """Audit event `open`: path, mode, flags; a number is a file that is open already."""
    path, _mode, flags = details
    if isinstance(path, int) or path is None or flags & NEW_FILE_ONLY == NEW_FILE_ONLY:
        return ()
    return (os.fsdecode(path),)


def _connected_paths(details: tuple[Any, ...]) -> tuple[str, ...]:
    """Audit event `sqlite3.connect`: the database as given; whether `uri=True` stood beside it is not told."""
    path = os.fsdecode(details[0])
    if path.startswith("file:"):
        return path, _path_of_uri(path)
    return (path,)


def _path_of_uri(uri: str) -> str:
    """By sqlite.org/uri.html: file:path or file://authority/path, percent-encoded, to the first ? or #."""
    path = re.sub(r"^file:(?://[^/]*)?|[?#].*$", "", uri, flags=re.DOTALL)
    decoded = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes.fromhex(found[1].decode()), os.fsencode(path))
    return os.fsdecode(decoded)


ENTRANCES: dict[str, Callable[[tuple[Any, ...]], tuple[str, ...]]] = {
    "open": _opened_path,
    "sqlite3.connect": _connected_paths,
}


def _refusal(event: str, store: str) -> SecondLibrary:
    name = os.path.basename(store)
    return SecondLibrary(
        f"{event} was about to touch the live store {name}.",
        why="closing it would drop the locks that the engine holds on the file, and commits would be lost",
        fix="use engine.read() or engine.write() for its rows and engine.snapshot() for a copy, or use another "
        "process, such as the sqlite3 command line. The store was not touched.",
    )


_GUARD = _Guard()
