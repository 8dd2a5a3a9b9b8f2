"""One way of doing the work, in a process of its own: `python -m tests.benchmarks.one_way plain-ours 100000 folder`.

Prints JSON: processor and wall seconds of the work alone, without imports, and the peak of memory above its start.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

from tests.benchmarks.walks import COLUMNS, converted, make_plain_database, new_table, old_rows

BATCH_ROWS = 1_000
MARKS = ", ".join("?" * len(COLUMNS))
VALUES = itemgetter(*COLUMNS)


def peak_kb() -> int:
    """The most memory that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# Ours.


def ours(kind: str, path: Path, count: int) -> Callable[[], None]:
    import tests.benchmarks.walk_migrations as listed
    from syncengine import Engine, Settings

    import syncengine.migrate.service  # isort: skip  # noqa: F401  (imports are not what is measured)

    with Engine.open(path, registry=listed.registry(kind, "2.0.0")) as engine:
        engine.migrate()
        with engine.write() as db:
            rows: Any = old_rows(count)
            if kind == "by_sql":
                rows = (VALUES(converted({"id": key, "payload": payload})) for key, payload in rows)
            db.conn.executemany(f"INSERT INTO walks VALUES ({MARKS if kind == 'by_sql' else '?, ?'})", rows)
    engine = Engine.open(path, registry=listed.registry(kind, "3.0.0"), settings=Settings(batch_rows=BATCH_ROWS))

    def work() -> None:
        report = engine.migrate()
        assert report is not None
        assert [result.counts.written for result in report.results] == [count]
        engine.close()

    return work


# By hand.


def by_hand(kind: str, path: Path, count: int) -> Callable[[], None]:
    import apsw

    make_plain_database(path, count)
    if kind == "by_sql":
        filling = apsw.Connection(str(path))
        filling.execute("DROP TABLE walks")
        filling.execute(new_table("walks"))
        with filling:
            rows = (VALUES(converted({"id": key, "payload": payload})) for key, payload in old_rows(count))
            filling.executemany(f"INSERT INTO walks VALUES ({MARKS})", rows)
        filling.close()
    # Like ours, it begins on a file that nobody has open.
    connection = apsw.Connection(str(path))
    for pragma in ("synchronous = NORMAL", "foreign_keys = ON", "busy_timeout = 5000"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    convert = {"plain": plain_batch, "models": models_batch()}.get(kind)

    def work() -> None:
        if convert is None:
            casts = {"started_at": "CAST(started_at AS INTEGER)", "steps": "CAST(steps AS REAL)"}
            types = new_table("walks_2").replace("started_at TEXT", "started_at INTEGER")
            connection.execute(types.replace("steps INTEGER", "steps REAL"))
            asked = ", ".join(casts.get(column, column) for column in COLUMNS)
            with connection:
                connection.execute(f"INSERT INTO walks_2 SELECT {asked} FROM walks")
                swap(connection)
            connection.close()
            return
        connection.execute(new_table("walks_2"))
        connection.execute("CREATE TABLE progress (rows INTEGER NOT NULL)")
        connection.execute("INSERT INTO progress VALUES (0)")
        loop(connection, convert)
        with connection:
            swap(connection)
        connection.close()

    return work


def loop(connection: Any, convert: Callable[[list[tuple[str, str]]], list[tuple[Any, ...]]]) -> None:
    """Keyset pages, a progress row and a commit per batch."""
    last, done = "", 0
    while True:
        sql = f"SELECT id, payload FROM walks WHERE id > ? ORDER BY id LIMIT {BATCH_ROWS}"
        rows = connection.execute(sql, (last,)).fetchall()
        if not rows:
            return
        with connection:
            connection.executemany(f"INSERT INTO walks_2 VALUES ({MARKS})", convert(rows))
            last, done = rows[-1][0], done + len(rows)
            connection.execute("UPDATE progress SET rows = ?", (done,))


def swap(connection: Any) -> None:
    connection.execute("DROP TABLE walks")
    connection.execute("ALTER TABLE walks_2 RENAME TO walks")


def plain_batch(rows: list[tuple[str, str]]) -> list[tuple[Any, ...]]:
    return [VALUES(converted({"id": key, "payload": payload})) for key, payload in rows]


def models_batch() -> Callable[[list[tuple[str, str]]], list[tuple[Any, ...]]]:
    from pydantic import TypeAdapter

    from tests.benchmarks.walk_migrations import OldWalk, to_new

    adapter = TypeAdapter(list[OldWalk])

    def convert(rows: list[tuple[str, str]]) -> list[tuple[Any, ...]]:
        old = adapter.validate_python([{"id": key, "payload": payload} for key, payload in rows])
        return [VALUES(to_new(walk).__dict__) for walk in old]

    return convert


# Peers, each as its own documentation does it.


def sqlite_utils_way(path: Path, count: int) -> Callable[[], None]:
    """A generator into `insert_all`, with its batches."""
    import sqlite_utils

    make_plain_database(path, count)
    db = sqlite_utils.Database(str(path))
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(new_table("walks_2"))

    def work() -> None:
        rows = (converted(row) for row in db["walks"].rows)
        db["walks_2"].insert_all(rows, batch_size=BATCH_ROWS)
        db["walks"].drop()
        db.rename_table("walks_2", "walks")
        db.conn.commit()

    return work


def alembic_way(path: Path, count: int) -> Callable[[], None]:
    """Read all, then `op.bulk_insert` (the cookbook's data migration)."""
    import sqlalchemy as sa
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    make_plain_database(path, count)
    engine = sa.create_engine(f"sqlite:///{path}")
    columns = [
        sa.Column(name, {"TEXT": sa.Text, "INTEGER": sa.Integer, "REAL": sa.Float}[kind.split()[0]])
        for name, kind in COLUMNS.items()
    ]

    def work() -> None:
        with engine.begin() as connection:
            op = Operations(MigrationContext.configure(connection))
            op.execute(new_table("walks_2"))
            table = sa.table("walks_2", *columns)
            found = connection.execute(sa.text("SELECT id, payload FROM walks")).mappings().all()
            op.bulk_insert(table, [converted(dict(row)) for row in found])
            op.drop_table("walks")
            op.rename_table("walks_2", "walks")

    return work


def django_way(path: Path, count: int) -> Callable[[], None]:
    """`iterator` and `bulk_create` in batches, as RunPython migrations do it."""
    import django
    from django.conf import settings
    from django.db import connection, models, transaction

    make_plain_database(path, count)
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
    settings.configure(DATABASES={"default": database}, DEFAULT_AUTO_FIELD="django.db.models.AutoField")
    django.setup()
    fields = {"TEXT": models.TextField, "INTEGER": models.IntegerField, "REAL": models.FloatField}
    old = type("Old", (models.Model,), _django("walks", {"id": "TEXT", "payload": "TEXT"}, fields))
    new = type("New", (models.Model,), _django("walks_2", COLUMNS, fields))

    def work() -> None:
        with transaction.atomic():
            connection.cursor().execute(new_table("walks_2"))
            batch = []
            for row in old.objects.values("id", "payload").iterator(chunk_size=BATCH_ROWS):
                batch.append(new(**converted(row)))
                if len(batch) == BATCH_ROWS:
                    new.objects.bulk_create(batch)
                    batch = []
            new.objects.bulk_create(batch)
            connection.cursor().execute("DROP TABLE walks")
            connection.cursor().execute("ALTER TABLE walks_2 RENAME TO walks")

    return work


def _django(table: str, columns: dict[str, str], fields: dict[str, Any]) -> dict[str, Any]:
    made = {
        name: fields[kind.split()[0]](primary_key=name == "id", null="NOT NULL" not in kind)
        for name, kind in columns.items()
    }
    meta = type("Meta", (), {"app_label": "bench", "db_table": table, "managed": False})
    return {**made, "Meta": meta, "__module__": __name__}


WAYS: dict[str, Callable[[Path, int], Callable[[], None]]] = {
    "sqlite-utils": sqlite_utils_way,
    "alembic": alembic_way,
    "django": django_way,
}


def main() -> None:
    way, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    path = folder / f"{way}.db"
    kind, _, whose = way.partition("-")
    if way in WAYS:
        work = WAYS[way](path, count)
    else:
        work = {"ours": ours, "by_hand": by_hand}[whose](kind, path, count)
    start_kb, start_cpu, start = peak_kb(), time.process_time(), time.perf_counter()
    work()
    cpu, wall = time.process_time() - start_cpu, time.perf_counter() - start
    print(json.dumps({"cpu": cpu, "wall": wall, "megabytes": (peak_kb() - start_kb) / 1_024}))


if __name__ == "__main__":
    main()
