"""An app whose tables refer to each other: lists, and what belongs to a list by each kind of foreign key.

Items go with their list, notes stay without it, and a list that has pins may not go. 1.0.0 makes the tables. 1.1.0
declares: lists have a colour, and the `text` of items is called `title`.
"""

from simulator.world.app import COLOUR, MARKS_TABLE, Columns, Reading, Shape, Step, WorldApp, marks_of
from syncengine import Collection, ListedMigration, MigrationRegistry, add, declared, rename, tables

_VERSIONS = _OLD, _NEW = ("1.0.0", "1.1.0")

_LISTS = """
CREATE TABLE lists (
  user_id TEXT NOT NULL,
  id      TEXT NOT NULL UNIQUE,
  name    TEXT,
  PRIMARY KEY (user_id, id)
) STRICT;
"""

_ITEMS = """
CREATE TABLE items (
  user_id TEXT NOT NULL,
  id      TEXT NOT NULL,
  text    TEXT,
  up      TEXT,
  PRIMARY KEY (user_id, id),
  FOREIGN KEY (user_id, up) REFERENCES lists (user_id, id) ON DELETE CASCADE
) STRICT;
"""

_NOTES = """
CREATE TABLE notes (
  user_id TEXT NOT NULL,
  id      TEXT NOT NULL,
  body    TEXT,
  up      TEXT REFERENCES lists (id) ON DELETE SET NULL,
  PRIMARY KEY (user_id, id)
) STRICT;
"""

_PINS = """
CREATE TABLE pins (
  user_id TEXT NOT NULL,
  id      TEXT NOT NULL,
  label   TEXT,
  up      TEXT,
  PRIMARY KEY (user_id, id),
  FOREIGN KEY (user_id, up) REFERENCES lists (user_id, id)
) STRICT;
"""

_MIGRATIONS = (
    ListedMigration(
        "tables",
        "0.0.0 > 1.0.0",
        tables(
            id="tables",
            from_version="0.0.0",
            to_version=_OLD,
            create=(_LISTS, _ITEMS, _NOTES, _PINS, MARKS_TABLE),
        ),
    ),
    ListedMigration(
        "colours",
        "1.0.0 > 1.1.0",
        declared(
            id="colours",
            collection="lists",
            from_version=_OLD,
            to_version=_NEW,
            changes=(add("colour", "TEXT", default=COLOUR),),
            backup="never",
        ),
    ),
    ListedMigration(
        "titles",
        "1.0.0 > 1.1.0",
        declared(
            id="titles",
            collection="items",
            from_version=_OLD,
            to_version=_NEW,
            changes=(rename("text", "title"),),
            backup="never",
        ),
    ),
)


def _registry(version: str) -> MigrationRegistry:
    return MigrationRegistry(
        app="world",
        baseline="0.0.0",
        target=version,
        collections=tuple(map(Collection, ("lists", "items", "notes", "pins", "marks"))),
        migrations=_MIGRATIONS[: 1 if version == _OLD else None],
    )


def _read_list(body: Reading, shape: str, version: str) -> Reading:
    return {**body, "colour": COLOUR} if (shape, version) == (_OLD, _NEW) else dict(body)


def _read_item(body: Reading, shape: str, version: str) -> Reading:
    row = dict(body)
    if (shape, version) == (_OLD, _NEW):
        row["title"] = row.pop("text")
    return row


def _both(*columns: str) -> dict[str, Columns]:
    return dict.fromkeys(_VERSIONS, columns)


KIN_APP = WorldApp(
    versions=_VERSIONS,
    shapes={
        "lists": Shape(
            columns={_OLD: ("name",), _NEW: ("name", "colour")},
            read=_read_list,
            takes_along=frozenset({"items"}),
            stays_for=frozenset({"pins"}),
        ),
        "items": Shape(
            columns={_OLD: ("text",), _NEW: ("title",)},
            fields={"text": ("title",)},
            others=_both("up"),
            read=_read_item,
            parent="lists",
        ),
        "notes": Shape(columns=_both("body"), others=_both("up"), parent="lists"),
        "pins": Shape(columns=_both("label"), others=_both("up"), parent="lists"),
        "marks": marks_of(_VERSIONS),
    },
    steps=(
        Step(migration="tables", version=_OLD, collections=("lists", "items", "notes", "pins", "marks")),
        Step(migration="colours", version=_NEW, collections=("lists",)),
        Step(migration="titles", version=_NEW, collections=("items",)),
    ),
    registry_at=_registry,
    written=("lists", "lists", "items", "notes", "pins"),
    keys_name_users=True,
)
