"""`syncengine schema`: what an app's collections look like, from its migrations or as recorded in a store."""

import pytest

from syncengine.migrate.sql_text import column_comments
from tests.integration.cli_process import SECRET, Command

WALKS = '''
from pydantic import BaseModel, ConfigDict

from syncengine import Collection, ListedMigration, MigrationRegistry, add, declared, migration, tables

OLD = """
CREATE TABLE walks (
  user_id TEXT NOT NULL, -- whose walk it is
  id TEXT NOT NULL,
  minutes REAL,
  PRIMARY KEY (user_id, id)
) STRICT
"""
NEW = """
CREATE TABLE walks (
  -- whose walk it is
  user_id TEXT NOT NULL,
  id      TEXT NOT NULL, -- made on the device
  seconds REAL NOT NULL DEFAULT 0, /* of walking,
                                      without pauses */
  PRIMARY KEY (user_id, id)
) STRICT;
CREATE INDEX walks_by_time ON walks (user_id, seconds)
"""


class Old(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)
    user_id: str
    id: str
    minutes: float | None


class New(BaseModel):
    """A walk."""

    model_config = ConfigDict(strict=True, frozen=True)
    user_id: str
    id: str
    seconds: float


make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(OLD,))


@migration(id="seconds", collection="walks", from_version="2.0.0", to_version="3.0.0", table=NEW)
def seconds(old: Old) -> New:
    return New(user_id=old.user_id, id=old.id, seconds=(old.minutes or 0) * 60)


rated = declared(
    id="rated", collection="walks", from_version="3.0.0", to_version="3.1.0", changes=(add("stars", "INTEGER"),)
)


def registry(target):
    return MigrationRegistry(
        app="walking", baseline="1.0.0", target=target,
        collections=(Collection("walks", labels=("health", "location")), Collection("later", owner=None)),
        migrations=[
            ListedMigration("make", "1.0.0 > 2.0.0", make),
            ListedMigration("seconds", "2.0.0 > 3.0.0", seconds),
            ListedMigration("rated", "3.0.0 > 3.1.0", rated),
        ],
        asks_for_major=False,
    )


TWO = registry("2.0.0")
NEWEST = registry("3.1.0")
'''


@pytest.fixture
def command(tmp_path):
    command = Command(tmp_path)
    (tmp_path / "walks_app.py").write_text(WALKS)
    return command


def schema(command, *words, app="NEWEST"):
    return command("schema", "--app", f"walks_app:{app}", *words, SYNCENGINE_STORE="")


def test_the_shapes_that_an_apps_migrations_make_are_told_with_their_comments(command):
    ran = schema(command)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "walking 3.1.0",
        "",
        "walks (health, location): since 3.1.0, key id, owner user_id",
        "  user_id  TEXT, in the key  -- whose walk it is",
        "  id       TEXT, in the key  -- made on the device",
        "  seconds  REAL, required, default 0  -- of walking, without pauses",
        "  stars    INTEGER",
        "  CREATE INDEX walks_by_time ON walks (user_id, seconds)",
    ]
    assert list(command.folder.glob("*.db*")) == [], "no store was made"


def test_as_json_there_is_the_schema_of_its_rows_too(command):
    told = schema(command, "--json", "--to", "3.0.0").json
    assert (told["app"], told["version"], told["store"]) == ("walking", "3.0.0", None)
    [walks] = told["collections"]
    assert (walks["name"], walks["labels"], walks["key"], walks["owner"], walks["shape_version"]) == (
        "walks",
        ["health", "location"],
        "id",
        "user_id",
        "3.0.0",
    )
    assert walks["columns"][2] == {
        "name": "seconds",
        "type": "REAL",
        "required": True,
        "in_key": False,
        "default": "0",
        "comment": "of walking, without pauses",
    }
    assert walks["model"]["properties"]["seconds"] == {"title": "Seconds", "type": "number"}
    assert walks["model"]["required"] == ["user_id", "id", "seconds"]
    assert schema(command, "--json", "--to", "2.0.0").json["collections"][0]["model"] is None


def test_of_a_store_it_says_what_is_recorded_there_and_no_row(command):
    assert command("migrate", "--app", "walks_app:TWO").status == 0
    command.execute_many("INSERT INTO walks VALUES ('ann', ?, 1)", [(SECRET,)])
    before = command.store.read_bytes()
    told = command("schema", "--app", "walks_app:NEWEST", "--json")
    assert (told.json["version"], told.json["store"]) == ("2.0.0", str(command.store))
    [walks] = told.json["collections"]
    assert [column["name"] for column in walks["columns"]] == ["user_id", "id", "minutes"]
    assert (walks["shape_version"], walks["labels"]) == ("2.0.0", ["health", "location"])
    assert SECRET not in told.out
    assert command.store.read_bytes() == before


def test_a_store_that_is_not_there_is_not_made(command):
    ran = command("schema", "--app", "walks_app:NEWEST", "--json")
    assert (ran.status, ran.error["code"]) == (1, "store_missing")
    assert not command.store.exists()


def test_a_store_has_one_version(command):
    command("migrate", "--app", "walks_app:TWO")
    assert command("schema", "--app", "walks_app:TWO", "--to", "2.0.0").status == 2


def test_a_version_that_is_none_is_an_error_and_no_traceback(command):
    assert schema(command, "--to", "newest").status in (1, 2)


def test_a_comment_belongs_to_the_column_on_its_line_or_behind_it():
    sql = """CREATE TABLE "a -- name" ( -- opening
      a TEXT CHECK (a <> '--' AND length(a) IN (1, 2)), -- one, two
      "b, c" TEXT, [d] TEXT /* d's */, e TEXT
      -- behind the last
    ) STRICT -- end
    """
    found = column_comments(sql)
    assert {name: found.get(name) for name in ("a", "b, c", "d", "e")} == {
        "a": "opening one, two",
        "b, c": None,
        "d": "d's",
        "e": None,
    }
