"""A small import from a legacy store, its upload, and the tables and row functions around it."""

import json
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from syncengine import BaseMigrationExecutor, Item, MigrationDefinition, Put, Quarantine, migration, tables, upload

V2 = """
CREATE TABLE journeys (
  user_id TEXT NOT NULL, id TEXT NOT NULL, minutes REAL NOT NULL, title TEXT UNIQUE, PRIMARY KEY (user_id, id)
) STRICT;
"""
V3 = """
CREATE TABLE journeys (
  user_id TEXT NOT NULL, id TEXT NOT NULL, seconds INTEGER NOT NULL, title TEXT UNIQUE, PRIMARY KEY (user_id, id)
) STRICT;
CREATE INDEX journeys_by_seconds ON journeys (seconds);
"""
PROFILE = """
CREATE TABLE profile (user_id TEXT NOT NULL, id TEXT NOT NULL, status TEXT, PRIMARY KEY (user_id, id)) STRICT
"""


class JourneyV2(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    minutes: float
    title: str | None


class JourneyV3(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    seconds: int
    title: str | None


class ImportExecutor(BaseMigrationExecutor):
    """`@walks`, an array of {id, minutes, title}: a row each; those of no minutes are dropped."""

    definition = MigrationDefinition(
        id="import-walks",
        name="Import of walks",
        description="Walks of the old app",
        from_version="1.0.0",
        to_version="2.0.0",
        collections=("journeys",),
        after=("tables-v2",),
        critical=True,
        scope="user",
        source="phone",
        quarantine_rows_max=100,
    )

    def items(self, work) -> Iterator[Item]:
        yield from work.elements("@walks")

    def convert(self, item, work):
        walk = item.value
        if walk["minutes"] == 0:
            return None
        if walk["minutes"] == 13:
            raise Quarantine("thirteen minutes", field="minutes")
        row = JourneyV2(user_id=work.user, id=walk["id"], minutes=float(walk["minutes"]), title=walk.get("title"))
        return Put("journeys", row, if_exists="merge")


def to_seconds(old: JourneyV2) -> JourneyV3:
    return JourneyV3(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 60), title=old.title)


def make_v2(*also):
    return tables(id="tables-v2", from_version="1.0.0", to_version="2.0.0", create=(V2, *also))


def upload_walks(**facts):
    facts = {"id": "upload-walks", "from_version": "1.0.0", "to_version": "2.0.0", **facts}
    return upload(collections=("journeys",), after=("import-walks",), **facts)


def seconds_v3(function=to_seconds, **facts):
    facts = {"id": "seconds-v3", "table": V3, "critical": True, **facts}
    return migration(collection="journeys", from_version="2.0.0", to_version="3.0.0", **facts)(function)


def walk(number, minutes=1, **more):
    return {"id": f"w-{number:05}", "minutes": minutes, **more}


def write_phone(path, walks, **values):
    """A JSON dump of an AsyncStorage; `walks` may be text that is no whole JSON."""
    text = walks if isinstance(walks, str) else json.dumps(walks)
    path.write_text(json.dumps({"@walks": text, **values}), encoding="utf-8")
    return path
