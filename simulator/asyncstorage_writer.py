"""Writes the AsyncStorage store of an invented Hero's Path user, in the library's own files for each platform.

RKStorage and Room databases on Android, by the library's own SQL; a manifest folder on iOS. The same seed gives
the same bytes of values.
"""

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

from simulator.heros_path_values import (
    BROKEN_KEYS,
    FAKE_API_KEY,
    Place,
    WalkKind,
    WalkPlan,
    Walks,
    compact_json,
    make_dismissed,
    make_places,
    plan_walks,
    settings_values,
)
from syncengine.local.copies import open_foreign

Kind = Literal["android", "android-room", "ios"]

SPOOLED_BYTES_MAX = 4 * 1024 * 1024
"""A longer value goes to a temporary file first, and from there in pieces to its place."""

INLINE_UNITS_MAX = 1024
"""UTF-16 code units of the longest value that iOS keeps in the manifest (`RCTInlineValueThreshold`)."""

_PIECE_BYTES = 1024 * 1024
_NO_CHECKPOINT_ON_CLOSE = 1006  # SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE in sqlite3.h: the -wal stays

_CATALYST_TABLE = "CREATE TABLE catalystLocalStorage (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
_ROOM_TABLE = "CREATE TABLE Storage (key TEXT NOT NULL, value TEXT, PRIMARY KEY(key))"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenStore:
    """What was written, counted while it was written: what an import has to account for.

    A walk or place counts in each line that is true of it; repeated ones count in their total too.
    """

    path: Path
    """The file or folder of the store; `open_source` finds it from any folder above, too."""
    digests: tuple[tuple[str, str], ...]
    """Each key with the SHA-256 of its value's UTF-8, sorted."""
    value_bytes: int
    walks_total: int
    walks_bare_array: int
    walks_empty: int
    walks_repeated_id: int
    walks_long: int
    walks_null_latitude: int
    walks_at_dst_change: int
    points_total: int
    places_total: int
    places_repeated_id: int
    places_without_coordinates: int
    places_with_category_object: int
    thumbnails_with_key: int
    dismissed_total: int
    dismissed_objects: int
    broken_keys: tuple[str, ...]


def write_store(
    directory: str | Path,
    *,
    kind: Kind = "android",
    walks: int = 60,
    places: int = 40,
    dismissed: int = 8,
    seed: int = 1,
    leave_wal: bool = False,
) -> WrittenStore:
    """Write a store below `directory`, where the platform has it below an app's own folder.

    `leave_wal` leaves all rows of an Android database in the `-wal` beside it, as when copied from a running app.
    A walk history of any length needs memory for one walk; SQLite itself takes twice the longest value for a
    moment. Raises FileExistsError when there is a store already, and leaves it as it is.
    """
    if leave_wal and kind == "ios":
        raise ValueError("only a database has a -wal")
    chance = random.Random(seed)
    walk_plan = plan_walks(walks, chance=chance)
    walk_values = Walks(walk_plan, chance=chance)
    place_values = make_places(places, chance=chance)
    values = _values(walk_values, places=place_values, dismissed=make_dismissed(dismissed))
    path = _path_of(Path(directory), kind)
    value_bytes, digests = _write_values(path, values, kind=kind, leave_wal=leave_wal)
    return WrittenStore(
        path=path,
        digests=digests,
        value_bytes=value_bytes,
        points_total=walk_values.points_total,
        dismissed_total=dismissed,
        dismissed_objects=len(range(0, dismissed, 3)),
        broken_keys=BROKEN_KEYS,
        **_walk_counts(walk_plan),
        **_place_counts(place_values),
    )


def write_values(directory: str | Path, values: Mapping[str, str], *, kind: Kind) -> Path:
    """Write a store that holds these texts, where the platform has it; its file or folder."""
    path = _path_of(Path(directory), kind)
    _write_values(path, ((key, (text,)) for key, text in values.items()), kind=kind, leave_wal=False)
    return path


def _values(
    walks: Walks, *, places: list[Place], dismissed: list[str | Place]
) -> Iterator[tuple[str, Iterable[str]]]:
    """Each key with its value in pieces, which have to be taken before the next key is asked for."""
    yield "@saved_routes", walks.pieces()
    if walks.last_route:
        yield "lastRoute", (walks.last_route,)
    yield "savedPlaces", (compact_json(places),)
    yield "dismissedPlaces", (compact_json(dismissed),)
    for key, value in settings_values():
        yield key, (value,)


def _walk_counts(plan: WalkPlan) -> dict[str, int]:
    return {
        "walks_total": plan.total,
        "walks_bare_array": plan.count(WalkKind.BARE_ARRAY),
        "walks_empty": plan.count(WalkKind.EMPTY),
        "walks_repeated_id": plan.count(WalkKind.REPEATED_ID),
        "walks_long": plan.count(WalkKind.LONG),
        "walks_null_latitude": plan.count(WalkKind.NULL_LATITUDE),
        "walks_at_dst_change": plan.count(WalkKind.AT_DST_CHANGE),
    }


def _place_counts(places: list[Place]) -> dict[str, int]:
    return {
        "places_total": len(places),
        "places_repeated_id": len(places) - len({place["placeId"] for place in places}),
        "places_without_coordinates": sum("latitude" not in place for place in places),
        "places_with_category_object": sum(isinstance(place["category"], dict) for place in places),
        "thumbnails_with_key": sum(FAKE_API_KEY in (place["thumbnail"] or "") for place in places),
    }


def _path_of(directory: Path, kind: Kind) -> Path:
    if kind == "ios":
        support = directory / "Library" / "Application Support" / "com.example.herospath"
        return support / "RCTAsyncLocalStorage_V1"
    return directory / "databases" / ("RKStorage" if kind == "android" else "AsyncStorage")


class _Files(Protocol):
    """The files of one store, being written."""

    def put(self, key: str, value: IO[bytes], *, size: int) -> None: ...

    def close(self) -> None: ...


def _write_values(
    path: Path, values: Iterable[tuple[str, Iterable[str]]], *, kind: Kind, leave_wal: bool
) -> tuple[int, tuple[tuple[str, str], ...]]:
    value_bytes = 0
    digests = []
    with closing(_new_files(path, kind=kind, leave_wal=leave_wal)) as files:
        for key, pieces in values:
            with tempfile.SpooledTemporaryFile(max_size=SPOOLED_BYTES_MAX) as spool:
                digest = hashlib.sha256()
                for piece in pieces:
                    digest.update(piece.encode())
                    spool.write(piece.encode())
                size = spool.tell()
                spool.seek(0)
                files.put(key, spool, size=size)
            digests.append((key, digest.hexdigest()))
            value_bytes += size
    return value_bytes, tuple(sorted(digests))


def _new_files(path: Path, *, kind: Kind, leave_wal: bool) -> _Files:
    if path.exists():
        raise FileExistsError(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "ios":
        return _ManifestFiles(path)
    if kind == "android":
        return _DatabaseFile(path, schema=(_CATALYST_TABLE,), user_version=1, leave_wal=leave_wal)
    return _room_files(path, leave_wal=leave_wal)


def _room_files(path: Path, *, leave_wal: bool) -> "_DatabaseFile":
    """Room's file, made from RKStorage: the old file and the old table stay, with the old values."""
    stale = ("INSERT INTO catalystLocalStorage VALUES ('@user_language', 'en'), ('@saved_routes', '[]')",)
    beside = path.with_name("RKStorage")
    _DatabaseFile(beside, schema=(_CATALYST_TABLE, *stale), user_version=1, leave_wal=False).close()
    room = "CREATE TABLE room_master_table (id INTEGER PRIMARY KEY, identity_hash TEXT)"
    schema = (_CATALYST_TABLE, *stale, room, _ROOM_TABLE)
    return _DatabaseFile(path, schema=schema, user_version=2, leave_wal=leave_wal)


class _DatabaseFile:
    """An Android database; the last table of its schema gets the values."""

    def __init__(self, path: Path, *, schema: tuple[str, ...], user_version: int, leave_wal: bool) -> None:
        self._table = schema[-1].split()[2]
        self._connection = open_foreign(str(path))
        self._connection.execute("PRAGMA journal_mode = WAL").fetchall()
        if leave_wal:
            self._connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
            self._connection.config(_NO_CHECKPOINT_ON_CLOSE, 1)
        with self._connection:
            self._connection.execute("CREATE TABLE android_metadata (locale TEXT)")
            self._connection.execute("INSERT INTO android_metadata VALUES ('ja_JP')")
            for statement in schema:
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {user_version}")

    def put(self, key: str, value: IO[bytes], *, size: int) -> None:
        insert = f"INSERT OR REPLACE INTO {self._table} VALUES"
        with self._connection:
            if size <= SPOOLED_BYTES_MAX:
                self._connection.execute(f"{insert} (?, ?)", (key, value.read().decode()))
            else:
                # Room for the text first, because SQLite cannot append to a value.
                self._connection.execute(f"{insert} (?, CAST(zeroblob(?) AS TEXT))", (key, size))
                self._fill(self._connection.last_insert_rowid(), value)

    def _fill(self, rowid: int, value: IO[bytes]) -> None:
        with self._connection.blob_open("main", self._table, "value", rowid, True) as blob:
            while piece := value.read(_PIECE_BYTES):
                blob.write(piece)

    def close(self) -> None:
        self._connection.close()


class _ManifestFiles:
    """The folder of an iOS store; its manifest is written last, with the slashes escaped as Apple does."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._manifest: dict[str, str | None] = {}

    def put(self, key: str, value: IO[bytes], *, size: int) -> None:
        # UTF-8 has at most three bytes for each UTF-16 code unit.
        text = value.read().decode() if size <= 3 * INLINE_UNITS_MAX else None
        inline = text is not None and len(text.encode("utf-16-le")) <= 2 * INLINE_UNITS_MAX
        self._manifest[key] = text if inline else None
        if not inline:
            value.seek(0)
            name = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
            with (self._folder / name).open("xb") as file:
                shutil.copyfileobj(value, file, _PIECE_BYTES)

    def close(self) -> None:
        manifest = json.dumps(self._manifest, ensure_ascii=False, separators=(",", ":"))
        (self._folder / "manifest.json").write_text(manifest.replace("/", "\\/"), encoding="utf-8")
