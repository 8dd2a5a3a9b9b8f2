"""The apps that live in worlds. Each has notes and marks, in several versions.

The one that is written by hand has three.

1.0.0 makes the tables. 1.1.0 declares: `title` is called `heading`, and notes have a colour. 1.2.0 is a row function:
`span` is split into `begins` and `ends`, and `place` is dropped. `marks` stay as they are.
"""

import json
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from syncengine import (
    Collection,
    ListedMigration,
    MigrationRegistry,
    add,
    declared,
    migration,
    rename,
    tables,
)

Reading = dict[str, Any]
"""A row as an app shows it."""
Columns = tuple[str, ...]

COLOUR = "grey"
"""Of notes that were made before there were colours."""


def _as_it_is(body: Reading, shape: str, version: str) -> Reading:
    return dict(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What judges have to know of one collection of an app.

    `columns`: by version, those that people write. `fields`: what a column holds, by names that stay the same in all
    versions. `gone`: by such a name, the version that has no room for it any more. `read`: a row of one version as
    another shows it, by other hands than the migrations.
    """

    columns: dict[str, Columns]
    fields: dict[str, Columns] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    read: Callable[[Reading, str, str], Reading] = field(default=_as_it_is, repr=False)
    others: dict[str, Columns] = field(default_factory=dict)
    """By version, the columns that people do not write, but for user and id."""
    lists: frozenset[str] = frozenset()
    """Columns that hold a JSON array of what people write."""
    also: Callable[[str, str], Reading] = field(default=lambda version, key: {}, repr=False)
    """What else a new row of a version has, by its key."""
    parent: str = ""
    """The collection that its column `up` refers to."""
    takes_along: frozenset[str] = frozenset()
    """Collections whose rows the database deletes with the row of this one that they refer to."""
    stays_for: frozenset[str] = frozenset()
    """Collections whose rows do not let the row of this one go that they refer to."""
    is_made: bool = True
    """People make and delete its rows; else they change those that are there."""
    is_merged: bool = True
    """A device keeps its own edits while it waits to send them; else those of the cloud win."""

    def fields_of(self, column: str) -> Columns:
        return self.fields.get(column, (column,))

    def value(self, column: str, words: Sequence[str]) -> str:
        """What stands in a column that holds these."""
        return json.dumps(list(words)) if column in self.lists else "/".join(words)

    def table(self, version: str) -> Columns:
        """All columns of its table."""
        return ("user_id", "id", *self.columns[version], *self.others.get(version, ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A migration of the whole store. `rewrites`: it makes every row of its collection anew."""

    migration: str
    version: str
    collections: Columns
    rewrites: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldApp:
    """One app: what its versions are, the shapes of its collections, and its migrations in their order.

    `written`: the collections that people write, `marks` the one whose rows they make in groups and never change.
    """

    versions: tuple[str, ...]
    shapes: dict[str, Shape]
    steps: tuple[Step, ...]
    registry_at: Callable[[str], MigrationRegistry] = field(repr=False)
    uploads: dict[str, Columns] = field(default_factory=dict)
    """By migration, the collections of which it sends all rows of a user, each as often as they are sent."""
    keeps_copies: bool = False
    """Its migrations want a sealed copy before they make rows anew."""
    is_installed: bool = False
    """Its devices begin with a store that the app has made before."""
    keys_name_users: bool = False
    """No two users have rows of the same key: others refer to them by it alone."""
    written: Columns = ("notes",)
    marks: str = "marks"

    def rewritten_by(self, migration: str) -> str:
        """The collection that a migration makes anew; empty where it makes none."""
        return next((step.collections[0] for step in self.steps if step.migration == migration and step.rewrites), "")

    def reached(self, done: Set[str]) -> str:
        """The version of which all migrations are done; empty before the first."""
        reached = ""
        for version in self.versions:
            if any(step.version == version and step.migration not in done for step in self.steps):
                break
            reached = version
        return reached

    def shape_after(self, name: str, done: Set[str]) -> str:
        """The version whose table a collection has then; empty where it has none."""
        made = [step.version for step in self.steps if name in step.collections and step.migration in done]
        return made[-1] if made else ""

    def has_no_room(self, name: str, *, written: str, now: str) -> bool:
        """What an app of one version wrote is left out by a migration that came since."""
        gone = next((shape.gone[name] for shape in self.shapes.values() if name in shape.gone), None)
        return gone is not None and self._at(written) < self._at(gone) <= self._at(now)

    @property
    def gone(self) -> frozenset[str]:
        """All fields that some version has no room for."""
        return frozenset(name for shape in self.shapes.values() for name in shape.gone)

    def is_newer(self, version: str, than: str) -> bool:
        return self._at(version) > self._at(than)

    def _at(self, version: str) -> int:
        return self.versions.index(version)


def registry_of(app: WorldApp, version: str) -> MigrationRegistry:
    """The app as it was released with this version: it knows nothing of later ones."""
    return app.registry_at(version)


_NOTES = """
CREATE TABLE notes (
  user_id TEXT NOT NULL,
  id      TEXT NOT NULL,
  title   TEXT,
  body    TEXT,
  span    TEXT NOT NULL,
  place   TEXT,
  PRIMARY KEY (user_id, id)
) STRICT;
"""

MARKS_TABLE = """
CREATE TABLE marks (
  user_id TEXT NOT NULL,
  id      TEXT NOT NULL,
  word    TEXT NOT NULL,
  PRIMARY KEY (user_id, id)
) STRICT;
"""

_NOTES_1_2 = """
CREATE TABLE notes (
  user_id TEXT NOT NULL,
  id      TEXT NOT NULL,
  heading TEXT,
  body    TEXT,
  begins  TEXT NOT NULL,
  ends    TEXT NOT NULL,
  colour  TEXT NOT NULL,
  PRIMARY KEY (user_id, id)
) STRICT;
"""


class _NoteBefore(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    user_id: str
    id: str
    heading: str | None
    body: str | None
    span: str
    place: str | None
    colour: str


class _NoteSplit(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    user_id: str
    id: str
    heading: str | None
    body: str | None
    begins: str
    ends: str
    colour: str


_tables = tables(id="tables", from_version="0.0.0", to_version="1.0.0", create=(_NOTES, MARKS_TABLE))

_headings = declared(
    id="headings",
    collection="notes",
    from_version="1.0.0",
    to_version="1.1.0",
    changes=(rename("title", "heading"), add("colour", "TEXT", default=COLOUR)),
    backup="never",
)


@migration(
    id="spans-split",
    collection="notes",
    from_version="1.1.0",
    to_version="1.2.0",
    table=_NOTES_1_2,
    backup="never",
)
def _spans_split(old: _NoteBefore) -> _NoteSplit:
    begins, _, ends = old.span.partition("/")
    return _NoteSplit(
        user_id=old.user_id,
        id=old.id,
        heading=old.heading,
        body=old.body,
        begins=begins,
        ends=ends,
        colour=old.colour,
    )


@_spans_split.down
def _spans_joined(new: _NoteSplit) -> _NoteBefore:
    return _NoteBefore(
        user_id=new.user_id,
        id=new.id,
        heading=new.heading,
        body=new.body,
        span=f"{new.begins}/{new.ends}",
        place=None,
        colour=new.colour,
    )


_MIGRATIONS = (
    ListedMigration("tables", "0.0.0 > 1.0.0", _tables),
    ListedMigration("headings", "1.0.0 > 1.1.0", _headings),
    ListedMigration("spans-split", "1.1.0 > 1.2.0", _spans_split),
)


_VERSIONS = ("1.0.0", "1.1.0", "1.2.0")


def _registry(version: str) -> MigrationRegistry:
    known = _VERSIONS.index(version) + 1
    return MigrationRegistry(
        app="world",
        baseline="0.0.0",
        target=version,
        collections=(Collection("notes"), Collection("marks")),
        migrations=_MIGRATIONS[:known],
    )


def _read(body: Reading, shape: str, version: str) -> Reading:
    row = dict(body)
    reached, wanted = _VERSIONS.index(shape), _VERSIONS.index(version)
    if reached < 1 <= wanted:
        row["heading"] = row.pop("title")
        row["colour"] = COLOUR
    if reached < 2 <= wanted:
        row["begins"], _, row["ends"] = row.pop("span").partition("/")
        del row["place"]
    return row


def marks_of(versions: Sequence[str]) -> Shape:
    """Marks are the same in all versions."""
    return Shape(columns=dict.fromkeys(versions, ("word",)))


NOTES_APP = WorldApp(
    versions=_VERSIONS,
    shapes={
        "notes": Shape(
            columns={
                "1.0.0": ("title", "body", "span", "place"),
                "1.1.0": ("heading", "body", "span", "place", "colour"),
                "1.2.0": ("heading", "body", "begins", "ends", "colour"),
            },
            fields={"span": ("begins", "ends"), "heading": ("title",)},
            gone={"place": "1.2.0"},
            read=_read,
        ),
        "marks": marks_of(_VERSIONS),
    },
    steps=(
        Step(migration="tables", version="1.0.0", collections=("notes", "marks")),
        Step(migration="headings", version="1.1.0", collections=("notes",)),
        Step(migration="spans-split", version="1.2.0", collections=("notes",), rewrites=True),
    ),
    registry_at=_registry,
)
