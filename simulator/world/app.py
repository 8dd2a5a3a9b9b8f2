"""The app that lives in the world: notes and marks, in three versions.

1.0.0 makes the tables. 1.1.0 declares: `title` is called `heading`, and notes have a colour. 1.2.0 is a row function:
`span` is split into `begins` and `ends`, and `place` is dropped. `marks` stay as they are.
"""

from functools import cache

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

VERSIONS = ("1.0.0", "1.1.0", "1.2.0")
COLOUR = "grey"
"""Of notes that were made before there were colours."""
FIELDS_OF_VERSION = {
    "1.0.0": ("title", "body", "span", "place"),
    "1.1.0": ("heading", "body", "span", "place", "colour"),
    "1.2.0": ("heading", "body", "begins", "ends", "colour"),
}
"""The columns of a note that people write."""

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

_MARKS = """
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


_tables = tables(id="tables", from_version="0.0.0", to_version="1.0.0", create=(_NOTES, _MARKS))

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


@cache
def registry(version: str) -> MigrationRegistry:
    """The app as it was released with this version: it knows nothing of later ones."""
    known = VERSIONS.index(version) + 1
    return MigrationRegistry(
        app="world",
        baseline="0.0.0",
        target=version,
        collections=(Collection("notes"), Collection("marks")),
        migrations=_MIGRATIONS[:known],
    )
