"""A start with nothing to do and 50 applied migrations, against a hand-written check of the same 50."""

import hashlib
import tempfile
from pathlib import Path

import apsw

from syncengine import Engine, ListedMigration, MigrationRegistry
from tests.benchmarks.paired import Pair, run_in_pairs

RATIO_WANTED = 1.6

_OURS = """
from syncengine import Engine, ListedMigration, MigrationRegistry
registry = MigrationRegistry(app="fifty", baseline="1.0.0", target="51.0.0", collections=(), migrations=tuple(
    ListedMigration(f"m{n}", f"{n}.0.0 > {n + 1}.0.0", f"fifty:m{n}") for n in range(1, 51)))
with Engine.open("ours.db", registry=registry) as engine:
    assert engine.migrate() is None
"""

_BY_HAND = """
import hashlib
import apsw
connection = apsw.Connection("by_hand.db")
for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=5000"):
    connection.execute("PRAGMA " + pragma).fetchall()
rows = connection.execute("SELECT number, hash FROM applied ORDER BY number").fetchall()
assert len(rows) == 50
for number, found in rows:
    assert hashlib.sha256(b"migration %d" % number).hexdigest() == found
connection.close()
"""


def measure(*, rounds: int = 30) -> Pair:
    """Whole processes in turn; our ratio should be at most RATIO_WANTED."""
    with tempfile.TemporaryDirectory() as folder:
        _make_ours(Path(folder))
        _make_by_hand(Path(folder))
        return run_in_pairs(_script(folder, _OURS), _script(folder, _BY_HAND), rounds=rounds)


def _script(folder: str, code: str) -> list[str]:
    path = Path(folder) / f"{hashlib.sha256(code.encode()).hexdigest()[:8]}.py"
    path.write_text(f"import os\nos.chdir({folder!r})\n{code}")
    return [str(path)]


def _make_ours(folder: Path) -> None:
    migrations = tuple(ListedMigration(f"m{n}", f"{n}.0.0 > {n + 1}.0.0", f"fifty:m{n}") for n in range(1, 51))
    registry = MigrationRegistry(
        app="fifty", baseline="1.0.0", target="51.0.0", collections=(), migrations=migrations
    )
    with Engine.open(folder / "ours.db", registry=registry) as engine:
        for migration in migrations:
            engine.migrations.mark_migration_complete(None, migration.id)


def _make_by_hand(folder: Path) -> None:
    connection = apsw.Connection(str(folder / "by_hand.db"))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("CREATE TABLE applied (number INTEGER PRIMARY KEY, hash TEXT NOT NULL)")
    with connection:
        for number in range(50):
            digest = hashlib.sha256(b"migration %d" % number).hexdigest()
            connection.execute("INSERT INTO applied VALUES (?, ?)", (number, digest))
    connection.close()


def report() -> None:
    """Print the ratio."""
    pair = measure()
    print(
        f"idle start, 50 applied migrations: {pair.ours_ms:.1f} ms against {pair.theirs_ms:.1f} ms by hand, "
        f"ratio {pair.ratio:.2f} (wanted: at most {RATIO_WANTED})"
    )


if __name__ == "__main__":
    report()
