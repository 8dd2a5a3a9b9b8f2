"""The work that all ways of migrating are compared by: walks as JSON payloads become rows of twelve columns."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import orjson

OLD_TABLE = "CREATE TABLE walks (id TEXT NOT NULL PRIMARY KEY, payload TEXT NOT NULL) STRICT"
COLUMNS = {
    "id": "TEXT NOT NULL PRIMARY KEY",
    "name": "TEXT NOT NULL",
    "started_at": "TEXT NOT NULL",
    "seconds": "INTEGER NOT NULL",
    "meters": "REAL NOT NULL",
    "latitude": "REAL NOT NULL",
    "longitude": "REAL NOT NULL",
    "mood": "TEXT",
    "steps": "INTEGER NOT NULL",
    "tags": "TEXT NOT NULL",
    "favourite": "INTEGER NOT NULL",
    "note": "TEXT",
}


def new_table(name: str) -> str:
    """The CREATE TABLE of the new shape under a name."""
    return f"CREATE TABLE {name} ({', '.join(f'{column} {kind}' for column, kind in COLUMNS.items())}) STRICT"


def old_rows(count: int) -> Iterator[tuple[str, str]]:
    """Invented walks, the same at each call; about 260 bytes each."""
    chance = random.Random(7)
    for number in range(count):
        walk = {
            "title": f"Walk {number} along the river",
            "start": 1_700_000_000_000 + number * 60_000,
            "minutes": chance.randrange(1, 9_000) / 10,
            "km": chance.randrange(1, 40_000) / 1_000,
            "position": {"lat": chance.uniform(-90, 90), "lng": chance.uniform(-180, 180)},
            "mood": chance.choice(["calm", "happy", None]),
            "steps": chance.randrange(20_000),
            "tags": ["river", "morning"],
            "favourite": chance.random() < 0.1,
            "note": "Met a heron at the weir." if number % 3 == 0 else None,
        }
        yield f"walk-{number:08}", orjson.dumps(walk).decode()


def converted(old: dict[str, Any]) -> dict[str, Any]:
    """What each way makes of one row: the same function for all."""
    walk = orjson.loads(old["payload"])
    position = walk["position"]
    return {
        "id": old["id"],
        "name": walk["title"],
        "started_at": str(walk["start"]),
        "seconds": round(walk["minutes"] * 60),
        "meters": walk["km"] * 1_000,
        "latitude": position["lat"],
        "longitude": position["lng"],
        "mood": walk["mood"],
        "steps": walk["steps"],
        "tags": orjson.dumps(walk["tags"]).decode(),
        "favourite": 1 if walk["favourite"] else 0,
        "note": walk["note"],
    }


def make_plain_database(path: Path, count: int) -> None:
    """A database with the old table and nothing else."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute(OLD_TABLE)
    with connection:
        connection.executemany("INSERT INTO walks VALUES (?, ?)", old_rows(count))
    connection.close()
