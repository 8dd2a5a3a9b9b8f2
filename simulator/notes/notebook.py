"""What the app knows of notes: their table, how two versions of one become one, and the words about syncing."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from syncengine import Clock, Collection, Engine, ListedMigration, MigrationRegistry, tables
from syncengine.clock import fresh_id
from syncengine.status import Status

if TYPE_CHECKING:
    from sqlite_utils import Database

NOTES_SHOWN_MAX = 500
BETWEEN = "\n\n— meanwhile on another device —\n\n"

NOTES_SQL = """
CREATE TABLE notes (
  user_id       TEXT NOT NULL,
  id            TEXT NOT NULL,
  title         TEXT NOT NULL,
  text          TEXT NOT NULL,
  written_at_ms INTEGER NOT NULL,
  PRIMARY KEY (user_id, id)
) STRICT
"""

NOTE_SQL = "SELECT id, title, text FROM notes WHERE user_id = :user"

Fields = Mapping[str, Any]


def keep_both(base: Fields | None, local: Fields | None, server: Fields | None) -> Fields | None:
    """Of a note that was written on two devices no word is lost: one text under the other.

    A note that one device deleted and the other one went on writing stays. A field that is not in the answer is that
    of the side that changed it.
    """
    if local is None or server is None:
        return local or server
    mine, theirs = local["text"], server["text"]
    if mine in theirs or (base is not None and base["text"] in (mine, theirs)):
        return {}
    return {"text": BETWEEN.join((mine, theirs))}


make_notes = tables(id="make-notes", from_version="1.0.0", to_version="2.0.0", create=(NOTES_SQL,))

REGISTRY = MigrationRegistry(
    app="notes",
    baseline="1.0.0",
    target="2.0.0",
    collections=[Collection("notes", merge=keep_both)],
    migrations=[ListedMigration("make-notes", "1.0.0 > 2.0.0", make_notes)],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One note as a person sees it."""

    id: str
    title: str
    text: str


class Notebook:
    """One user's notes in an engine's store."""

    def __init__(self, engine: Engine, *, user: str, clock: Clock, chance: random.Random) -> None:
        self._engine = engine
        self._user = user
        self._clock = clock
        self._chance = chance

    def notes(self) -> list[Note]:
        """The newest notes, newest first."""
        with self._engine.read() as db:
            rows = db.query(
                f"{NOTE_SQL} ORDER BY written_at_ms DESC, id LIMIT :most",
                {"user": self._user, "most": NOTES_SHOWN_MAX},
            )
            return [Note(**row) for row in rows]

    def add(self) -> Note:
        """A new, empty note."""
        note = Note(id=fresh_id(self._chance), title="", text="")
        with self._engine.write() as db:
            self._insert(db, note)
        return note

    def save(self, note: Note, *, before: Note) -> Note:
        """Keep what was typed into `before`; the note as it is then.

        Only what was changed is written, for another device may have written the rest meanwhile. A note that was
        deleted meanwhile is there again.
        """
        changed = {name: value for name, value in asdict(note).items() if value != getattr(before, name)}
        with self._engine.write() as db:
            there = next(db.query(f"{NOTE_SQL} AND id = :id", {"user": self._user, "id": note.id}), None)
            if there is None:
                self._insert(db, note)
                return note
            now = Note(**{**there, **changed, **(keep_both(asdict(before), asdict(note), there) or {})})
            db.execute(
                "UPDATE notes SET title = ?, text = ? WHERE user_id = ? AND id = ?",
                (now.title, now.text, self._user, now.id),
            )
        return now

    def _insert(self, db: "Database", note: Note) -> None:
        owned = {"user_id": self._user, "written_at_ms": self._clock.now_ms()}
        db.table("notes").insert({**owned, **asdict(note)})

    def delete(self, note_id: str) -> None:
        """Here now, and everywhere later."""
        with self._engine.write() as db:
            db.execute("DELETE FROM notes WHERE user_id = ? AND id = ?", (self._user, note_id))


def status_line(status: Status) -> str:
    """What the line at the bottom of the window says. Pure."""
    waiting = status.outbox.waiting + status.outbox.claimed + status.outbox.held
    changes = f"{waiting} change{'' if waiting == 1 else 's'}"
    if status.read_only is not None:
        said = "These notes can only be read"
    elif status.quarantined or status.reading.parked:
        said = "Something needs attention"
    elif status.sync.activity == "no_backend":
        said = "Only on this device"
    elif waiting:
        said = f"{changes} waiting: offline" if status.connectivity.verdict == "offline" else f"{changes} waiting"
    elif status.synced:
        said = "Synced"
    else:
        said = "Looking for changes"
    kept = status.reading.conflicts
    return said if not kept else f"{said} · {kept} place{'' if kept == 1 else 's'} written twice: both kept"
