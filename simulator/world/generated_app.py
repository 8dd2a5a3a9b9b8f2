"""An app whose migrations are drawn from the seed: declared changes that nobody has thought of."""

import random
from collections.abc import Callable
from functools import cache

from simulator.world.app import MARKS_TABLE, Columns, Reading, Shape, Step, WorldApp, marks_of
from syncengine import Collection, ListedMigration, MigrationRegistry, add, archive, declared, rename, tables
from syncengine.migrate.declared import Add, Archive, Rename

Change = Add | Rename | Archive
FIRST_COLUMNS = ("title", "body", "place", "mood", "tone")
CHANGES_MAX = 3
LATER_VERSIONS = (1, 3)
COLUMNS_MIN = 2


def generated_app(seed: int) -> WorldApp:
    """The same seed, the same app."""
    chance = random.Random(f"{seed}/app")
    draft = _Draft(chance)
    versions = ["1.0.0"]
    columns: dict[str, Columns] = {"1.0.0": draft.columns}
    steps: list[tuple[Change, ...]] = []
    for number in range(1, chance.randint(*LATER_VERSIONS) + 1):
        versions.append(f"1.{number}.0")
        steps.append(draft.next_changes(number, versions[-1]))
        columns[versions[-1]] = draft.columns
    migrations = _migrations(versions, steps)

    @cache
    def registry_at(version: str) -> MigrationRegistry:
        return MigrationRegistry(
            app="world",
            baseline="0.0.0",
            target=version,
            collections=(Collection("notes"), Collection("marks")),
            migrations=migrations[: versions.index(version) + 1],
        )

    return WorldApp(
        versions=tuple(versions),
        shapes={
            "notes": Shape(
                columns=columns,
                fields={name: (own,) for name, own in draft.own_names.items()},
                gone=draft.gone,
                read=_reader(versions, steps),
            ),
            "marks": marks_of(versions),
        },
        steps=(
            Step(migration="tables", version="1.0.0", collections=("notes", "marks")),
            *(Step(migration=f"notes-{each}", version=each, collections=("notes",)) for each in versions[1:]),
        ),
        registry_at=registry_at,
    )


class _Draft:
    """The shape of the notes while changes are drawn."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.columns: Columns = FIRST_COLUMNS
        self.own_names = {name: name for name in FIRST_COLUMNS}
        """By column, what it is called in the values that people write."""
        self.gone: dict[str, str] = {}

    def next_changes(self, number: int, version: str) -> tuple[Change, ...]:
        touched: set[str] = set()
        changes: list[Change] = []
        for at in range(self._chance.randint(1, CHANGES_MAX)):
            name = self._chance.choice(self.columns)
            kind = self._chance.choice(("add", "rename", "archive"))
            if kind == "add" or name in touched or (kind == "archive" and len(self.columns) <= COLUMNS_MIN):
                # Letters only: a value names its field so.
                added = f"more{'abcdefgh'[number]}{'abcdefgh'[at]}"
                changes.append(self._added(added))
                touched.add(added)
            elif kind == "rename":
                renamed = f"{name}_{number}"
                changes.append(self._renamed(name, renamed))
                touched.add(renamed)
            else:
                changes.append(self._archived(name, version))
        return tuple(changes)

    def _added(self, name: str) -> Add:
        self.columns = (*self.columns, name)
        self.own_names[name] = name
        return add(name, "TEXT", default=f"no {name}")

    def _renamed(self, name: str, to: str) -> Rename:
        self.columns = tuple(to if each == name else each for each in self.columns)
        self.own_names[to] = self.own_names[name]
        return rename(name, to)

    def _archived(self, name: str, version: str) -> Archive:
        self.columns = tuple(each for each in self.columns if each != name)
        self.gone[self.own_names[name]] = version
        return archive(name)


def _migrations(versions: list[str], steps: list[tuple[Change, ...]]) -> tuple[ListedMigration, ...]:
    columns = ", ".join(f"{name} TEXT" for name in FIRST_COLUMNS)
    notes = (
        f"CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, {columns}, PRIMARY KEY (user_id, id)) STRICT;"
    )
    made = [
        ListedMigration(
            "tables",
            "0.0.0 > 1.0.0",
            tables(id="tables", from_version="0.0.0", to_version="1.0.0", create=(notes, MARKS_TABLE)),
        )
    ]
    for before, after, changes in zip(versions, versions[1:], steps, strict=False):
        step = declared(
            id=f"notes-{after}",
            collection="notes",
            from_version=before,
            to_version=after,
            changes=changes,
            backup="never",
        )
        made.append(ListedMigration(f"notes-{after}", f"{before} > {after}", step))
    return tuple(made)


def _reader(versions: list[str], steps: list[tuple[Change, ...]]) -> Callable[[Reading, str, str], Reading]:
    def read(body: Reading, shape: str, version: str) -> Reading:
        row = dict(body)
        for changes in steps[versions.index(shape) : versions.index(version)]:
            for change in changes:
                if isinstance(change, Rename):
                    row[change.to] = row.pop(change.column)
                elif isinstance(change, Archive):
                    del row[change.column]
                else:
                    row[change.column] = change.default
        return row

    return read
