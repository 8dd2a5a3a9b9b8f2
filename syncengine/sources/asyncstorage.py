"""Finds the one living AsyncStorage store at a path, in whichever of its forms, and opens it."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from syncengine.errors import SourceBroken, SourceMissing
from syncengine.sources.asyncstorage_manifest import MANIFEST, holds_manifest_store, open_manifest_store
from syncengine.sources.asyncstorage_sqlite import ROOM_TABLE, open_sqlite_store
from syncengine.sources.source import Source

SQLITE_MAGIC = b"SQLite format 3\0"
FOLDERS_SEARCHED_MAX = 10_000
"""More folders than an app's container has: then the path is wrong, and SourceBroken says so."""


class Form(IntEnum):
    """Where the library kept its data, the newest place first; an older one beside it is a stale copy."""

    ROOM = 1
    RKSTORAGE = 2
    EXPO_SCOPED = 3
    WINDOWS = 4
    APPLE_SUPPORT = 5
    APPLE = 6
    APPLE_OLD = 7
    NAMED = 8


_FILE_FORMS = {"AsyncStorage": Form.ROOM, "RKStorage": Form.RKSTORAGE, "AsyncStorage.db": Form.WINDOWS}
_EXPO_SCOPED_PREFIX = "RKStorage-scoped-experience-"
_SQLITE_SIDE_FILES = ("-wal", "-shm", "-journal")
_FOLDER_FORMS = {
    "RCTAsyncLocalStorage_V1": Form.APPLE,
    "RNCAsyncLocalStorage_V1": Form.APPLE_OLD,
    "RCTAsyncLocalStorage": Form.APPLE_OLD,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStore:
    """One store on disk. Stores of the same `app` are copies of one another, of different age."""

    form: Form
    path: Path
    app: Path
    changed_ns: int

    @property
    def age(self) -> tuple[int, int]:
        """Sorts the living one first: by place, then the last one written."""
        return (self.form, -self.changed_ns)


def open_asyncstorage(path: str | Path) -> Source:
    """The AsyncStorage store at a path: the file or folder itself, or any folder above it, as an app's container.

    Of an app's several copies the one that the library itself would read is opened; `problems()` names the
    others. Raises SourceMissing when there is none; SourceBroken when it cannot be read, or when stores of
    different apps are found, because guessing could import a stranger's data.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if path.name == MANIFEST and path.exists():
        return open_manifest_store(path.parent)
    return open_sqlite_store(path)


def _open_folder(folder: Path) -> Source:
    found = [_found(Form.APPLE, folder)] if _is_manifest_folder(folder) else _search(folder)
    unnamed = [store for store in found if store.form is not Form.NAMED]
    living = sorted(unnamed or found, key=lambda store: store.age)
    if not living:
        raise SourceMissing(
            f"There is no AsyncStorage store in {folder}.",
            why="neither RKStorage, AsyncStorage nor a folder like RCTAsyncLocalStorage_V1 was found",
            fix="Check the path that the app gave; nothing was changed.",
        )
    _refuse_strangers(folder, living)
    apart = [store for store in found if store not in living]
    named = tuple(f"the named storage {store.path} was not read: open it by its own path" for store in apart)
    return _open_living(living, problems=named)


def _is_manifest_folder(folder: Path) -> bool:
    if folder.name in _FOLDER_FORMS:
        return True
    manifest = folder / MANIFEST
    return manifest.exists() and not manifest.is_dir() and not any((folder / name).exists() for name in _FILE_FORMS)


def _search(folder: Path) -> list[FoundStore]:
    """All stores in a folder and below, by their names."""
    found: list[FoundStore] = []
    for count, (parent, folders, files) in enumerate(os.walk(folder, onerror=_refuse_unreadable)):
        if count >= FOLDERS_SEARCHED_MAX:
            raise SourceBroken(
                f"{folder} has too many folders to search for AsyncStorage.",
                why=f"more than {FOLDERS_SEARCHED_MAX}",
                fix="Give the path of the app's container, or of the store itself; nothing was changed.",
            )
        folders.sort()
        found += _stores_in(Path(parent), files=sorted(files), folders=folders)
    return found


def _refuse_unreadable(error: OSError) -> None:
    raise SourceBroken(
        f"The folder {error.filename} cannot be searched for AsyncStorage.",
        why=error.strerror or type(error).__name__,
        fix="Give this user the right to read it, or give the path of the store itself.",
    ) from error


def _stores_in(parent: Path, *, files: Iterable[str], folders: Iterable[str]) -> Iterator[FoundStore]:
    for name in files:
        form = _form_of_file(parent / name)
        if form is not None:
            yield _found(form, parent / name)
    for name in folders:
        if name in _FOLDER_FORMS and holds_manifest_store(parent / name):
            in_support = parent.parent.name == "Application Support"
            yield _found(Form.APPLE_SUPPORT if in_support else _FOLDER_FORMS[name], parent / name)


def _form_of_file(path: Path) -> Form | None:
    if path.name.endswith(_SQLITE_SIDE_FILES):
        return None
    if path.name.startswith(_EXPO_SCOPED_PREFIX):
        return Form.EXPO_SCOPED
    if path.suffix == ".sqlite" and path.parts[-4:-2] == ("async-storage", "databases"):
        return Form.NAMED
    return _FILE_FORMS.get(path.name)


def _found(form: Form, path: Path) -> FoundStore:
    dated = path / MANIFEST if (path / MANIFEST).exists() else path
    return FoundStore(form=form, path=path, app=_app_of(form, path), changed_ns=dated.stat().st_mtime_ns)


def _app_of(form: Form, path: Path) -> Path:
    """The folder that holds all copies of one app's store."""
    if form is Form.NAMED:
        return path
    if form is Form.APPLE_SUPPORT:
        return path.parents[3]  # <app>/Library/Application Support/<bundle id>/RCTAsyncLocalStorage_V1
    if path.parent.name in ("Documents", "Caches"):
        return path.parents[1] if path.parent.name == "Documents" else path.parents[2]
    return path.parent


def _refuse_strangers(folder: Path, living: list[FoundStore]) -> None:
    strangers = [living[0], *(store for store in living[1:] if not _copies(living[0], store))]
    if len(strangers) > 1:
        raise SourceBroken(
            f"{folder} holds more than one AsyncStorage store.",
            why="found " + " and ".join(str(store.path) for store in strangers),
            fix="Give the path of the one to import; nothing was changed.",
        )


def _copies(one: FoundStore, other: FoundStore) -> bool:
    if one.form is other.form and one.form in (Form.APPLE_SUPPORT, Form.ROOM, Form.RKSTORAGE):
        return False
    return one.app == other.app and _is_apple(one) == _is_apple(other)


def _is_apple(store: FoundStore) -> bool:
    return store.form in (Form.APPLE_SUPPORT, Form.APPLE, Form.APPLE_OLD)


def _open_living(living: list[FoundStore], *, problems: tuple[str, ...]) -> Source:
    first, *others = living
    stale = _stale(others)
    if first.form is not Form.ROOM or not others:
        return _open_store(first, problems=problems + stale)
    room = open_sqlite_store(first.path, problems=problems + stale)
    if room.table == ROOM_TABLE:
        return room
    # Room makes its file from RKStorage first and its own table after: it was stopped between the two.
    room.close()
    return _open_store(others[0], problems=problems + _stale([first, *others[1:]]))


def _stale(stores: list[FoundStore]) -> tuple[str, ...]:
    return tuple(f"the older copy {store.path} was not read" for store in stores)


def _open_store(store: FoundStore, *, problems: tuple[str, ...]) -> Source:
    if _is_apple(store):
        return open_manifest_store(store.path, problems=problems)
    return open_sqlite_store(store.path, problems=problems)
