"""The lock file: what a migration does cannot change unseen, and what is for people may."""

import importlib
import json
import sys
import textwrap
from pathlib import Path

import pytest

from syncengine import Collection, ListedMigration, MigrationRegistry
from syncengine.errors import MigrationChanged, MigrationInvalid
from syncengine.testing import freeze, frozen
from syncengine.testing.code_of import _module

SHAPES = """
    from pydantic import BaseModel

    class Old(BaseModel):
        user_id: str
        id: str
        minutes: float

    class New(BaseModel):
        user_id: str
        id: str
        seconds: int

    class NobodysShape(BaseModel):
        id: str
"""
UNITS = """
    PER_MINUTE = 60

    def seconds_of(minutes):
        '''Seconds.'''
        return round(minutes * PER_MINUTE)

    def nobody_calls_this():
        return 1
"""
STEPS = """
    from {name} import units
    from {name}.shapes import New, Old
    from syncengine import Work, migration, tables

    make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(
        "CREATE TABLE notes (user_id TEXT, id TEXT, minutes REAL, PRIMARY KEY (user_id, id))",
    ))

    @migration(
        id="seconds", description="In seconds.", collection="notes", from_version="2.0.0", to_version="3.0.0"
    )
    def in_seconds(old: Old) -> New:
        # Rounded.
        return New(user_id=old.user_id, id=old.id, seconds=units.seconds_of(old.minutes))

    @in_seconds.down
    def in_minutes(new: New) -> Old:
        return Old(user_id=new.user_id, id=new.id, minutes=new.seconds / 60)
"""


class App:
    """A package with migrations that can be edited."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.lock = folder / "lock.json"
        self.folder = folder / name
        self.folder.mkdir()
        (self.folder / "__init__.py").write_text("")
        for module, text in (("shapes", SHAPES), ("units", UNITS), ("steps", STEPS.replace("{name}", name))):
            (self.folder / f"{module}.py").write_text(textwrap.dedent(text))

    def edit(self, module: str, old: str, new: str) -> None:
        file = self.folder / f"{module}.py"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        _module.cache_clear()

    def registry(self, *, ids=("make", "seconds"), **more):
        known = {
            "make": ListedMigration("make", "1.0.0 > 2.0.0", f"{self.name}.steps:make"),
            "seconds": ListedMigration("seconds", "2.0.0 > 3.0.0", f"{self.name}.steps:in_seconds"),
            **more,
        }
        return MigrationRegistry(
            app="t",
            baseline="1.0.0",
            target="3.0.0" if "seconds" in ids else "2.0.0",
            collections=[Collection("notes")],
            migrations=[known[name] for name in ids],
        )


@pytest.fixture
def app(tmp_path, monkeypatch, request):
    name = f"locked_{abs(hash(request.node.name)):x}"
    made = App(tmp_path, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    freeze(made.registry(), made.lock)
    yield made
    for module in [found for found in sys.modules if found.partition(".")[0] == name]:
        del sys.modules[module]
    _module.cache_clear()


def test_what_was_frozen_and_not_touched_passes(app):
    frozen(app.registry(), app.lock)
    assert set(json.loads(app.lock.read_text())["migrations"]) == {"make", "seconds"}


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("steps", "# Rounded.", "# To whole ones, as the stopwatch does."),
        ("steps", "In seconds.", "In whole seconds."),
        ("units", "'''Seconds.'''", "'''Whole seconds, rounded to even.'''"),
        ("steps", "units.seconds_of(old.minutes)", "units.seconds_of(\n            old.minutes\n        )"),
        ("units", "return 1", "return 2"),
        ("shapes", "class NobodysShape(BaseModel):\n    id: str", "class NobodysShape(BaseModel):\n    id: int"),
    ],
    ids=["comment", "description", "docstring", "format", "a function that it does not use", "another model"],
)
def test_what_says_nothing_about_the_data_may_change(app, module, old, new):
    app.edit(module, old, new)
    frozen(app.registry(), app.lock)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("units", "PER_MINUTE = 60", "PER_MINUTE = 61"),
        ("units", "round(", "int("),
        ("shapes", "seconds: int", "seconds: float"),
        ("steps", "new.seconds / 60", "new.seconds // 60"),
        ("steps", 'collection="notes"', 'collection="Notes"'),
    ],
    ids=["a constant of another module", "a function of another module", "a model", "its way back", "its facts"],
)
def test_what_changes_the_data_is_found_and_the_migration_named(app, module, old, new):
    app.edit(module, old, new)
    with pytest.raises(MigrationChanged) as found:
        frozen(app.registry(), app.lock)
    assert found.value.why == "seconds"
    assert "write the change as a new migration" in found.value.fix


def test_only_the_migration_that_changed_is_named(app):
    app.edit("steps", "minutes REAL", "minutes TEXT")
    with pytest.raises(MigrationChanged) as found:
        frozen(app.registry(), app.lock)
    assert found.value.why == "make"


def test_a_migration_that_was_taken_out_is_missed(app):
    with pytest.raises(MigrationChanged, match="not in the registry any more") as found:
        frozen(app.registry(ids=("make",)), app.lock)
    assert found.value.why == "seconds"


def test_a_new_migration_has_to_be_frozen_and_leaves_the_others_as_they_are(app):
    (app.folder / "later.py").write_text(
        f"from {app.name}.shapes import New\nfrom syncengine import migration\n"
        '@migration(id="later", collection="notes", from_version="3.0.0", to_version="4.0.0")\n'
        "def later(old: New) -> New:\n    return old\n"
    )
    listed = ListedMigration("later", "3.0.0 > 4.0.0", f"{app.name}.later:later")
    wider = app.registry(ids=("make", "seconds", "later"), later=listed)
    before = json.loads(app.lock.read_text())["migrations"]
    with pytest.raises(MigrationChanged, match="not frozen yet") as found:
        frozen(wider, app.lock)
    assert found.value.why == "later"
    assert freeze(wider, app.lock) == ("later",)
    frozen(wider, app.lock)
    after = json.loads(app.lock.read_text())["migrations"]
    assert {name: after[name] for name in before} == before


def test_a_changed_migration_is_frozen_anew_only_by_its_name(app):
    app.edit("units", "PER_MINUTE = 60", "PER_MINUTE = 61")
    text = app.lock.read_text()
    with pytest.raises(MigrationChanged, match="nothing was frozen"):
        freeze(app.registry(), app.lock)
    assert app.lock.read_text() == text
    assert freeze(app.registry(), app.lock, again=("seconds",)) == ("seconds",)
    frozen(app.registry(), app.lock)


@pytest.mark.parametrize("text", [None, "", "[]", '{"migrations": 1}'], ids=["gone", "empty", "a list", "a number"])
def test_a_lock_file_that_cannot_be_read_is_no_proof_of_anything(app, text):
    app.lock.unlink()
    if text is not None:
        app.lock.write_text(text)
    with pytest.raises(MigrationChanged, match="cannot be read"):
        frozen(app.registry(), app.lock)


def test_a_list_that_points_nowhere_cannot_be_frozen(app):
    astray = ListedMigration("seconds", "2.0.0 > 3.0.0", f"{app.name}.steps:no_such_thing")
    with pytest.raises(MigrationInvalid, match="no_such_thing"):
        freeze(app.registry(seconds=astray), app.lock)
