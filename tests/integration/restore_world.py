"""A small app of two versions whose notes are rewritten on the way, for tests of restore points."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from syncengine import Engine, KeyFile, migration, tables
from tests.integration.migrate_world import quiet_write, registry_of

CANARY = "canary-7f3a91"
ROOT = Path(__file__).resolve().parents[2]

OLD_TABLE = (
    "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, text TEXT, minutes REAL, "
    "PRIMARY KEY (user_id, id)) STRICT"
)
MAKE = tables(
    id="make",
    from_version="1.0.0",
    to_version="1.1.0",
    create=(OLD_TABLE,),
)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Old(_Model):
    user_id: str
    id: str
    text: str | None
    minutes: float | None


class New(_Model):
    user_id: str
    id: str
    text: str | None
    seconds: float | None
    stars: int | None


def _seconds(old: Old) -> New:
    seconds = None if old.minutes is None else old.minutes * 60
    return New(user_id=old.user_id, id=old.id, text=old.text, seconds=seconds, stars=None)


NEW_TABLE = (
    "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, text TEXT, seconds REAL, stars INTEGER, "
    "PRIMARY KEY (user_id, id)) STRICT"
)


def rewrite(**facts):
    return migration(
        id="to-seconds", collection="notes", from_version="1.1.0", to_version="2.0.0", table=NEW_TABLE, **facts
    )(_seconds)


def old_app():
    return registry_of(MAKE, target="1.1.0")


def new_app(**facts):
    return registry_of(MAKE, rewrite(**facts))


def note(key, *, user="ann", text=CANARY, **columns):
    return {"user_id": user, "id": key, "text": text, **columns}


def notes_of(count, **columns):
    return [note(f"n-{number:04}", minutes=float(number), **columns) for number in range(count)]


def write(engine, rows):
    with quiet_write(engine) as db:
        db["notes"].insert_all(rows)


def fill(path, rows, **facts):
    """A store of the old version with these notes, closed again."""
    with Engine.open(path, registry=old_app(), user="ann", **facts) as engine:
        engine.migrate()
        write(engine, rows)


def opened(path, *, user="ann", registry=None, **facts):
    return Engine.open(path, registry=registry or new_app(), user=user, **facts)


def key_of(path):
    return KeyFile(f"{path}.key")


def folder_of(path):
    return Path(f"{path}-restore")


def sealed_files(path):
    return sorted(folder_of(path).glob("*.age")) if folder_of(path).exists() else []


def all_notes(engine):
    return engine._store.query("SELECT * FROM notes ORDER BY user_id, id")


def aside(engine):
    return engine._store.query(
        "SELECT owner, row_key, body FROM _sync_quarantine WHERE origin = 'restore' ORDER BY item_id"
    )


def files_with(place, text, *, but=()):
    """Every file below a folder that holds these bytes."""
    found = []
    for folder, _, names in os.walk(place):
        for name in names:
            path = Path(folder) / name
            if name not in but and text.encode() in path.read_bytes():
                found.append(path.relative_to(place).as_posix())
    return sorted(found)
