"""The same on PostgreSQL: pushes and pulls at the server against a handler written by hand on the same database.

`python -m tests.benchmarks.server_push_postgresql` prints the ratios. Processor time is that of the server and of
PostgreSQL, which keeps its own settings (fsync on). The handler by hand has a pool as well, counts versions in a row
that it locks, and writes each push in two statements with lists, the cheapest of four ways that were tried.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from tests.benchmarks.drain import server, started
from tests.benchmarks.server_push import NOW, Side, compared, memory, page_of, serve

if TYPE_CHECKING:
    from simulator.postgresql import PostgresqlCluster

TABLES = """
CREATE TABLE head (tenant TEXT PRIMARY KEY, version BIGINT NOT NULL);
CREATE TABLE document (
  tenant TEXT COLLATE "C" NOT NULL, collection TEXT COLLATE "C" NOT NULL, key TEXT COLLATE "C" NOT NULL,
  version BIGINT NOT NULL, shape_version TEXT NOT NULL, changed_at TEXT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (tenant, collection, key)
);
CREATE INDEX document_by_version ON document (tenant, version);
INSERT INTO head VALUES ('ann', 0);
"""
COUNT = "UPDATE head SET version = version + %s WHERE tenant = %s RETURNING version"
WRITE = """
INSERT INTO document (tenant, changed_at, collection, key, version, shape_version, body)
SELECT %(tenant)s, %(at)s, made.*
FROM unnest(
  %(collections)b::text[], %(keys)b::text[], %(versions)b::bigint[], %(shapes)b::text[], %(bodies)b::text[]
) AS made
ON CONFLICT (tenant, collection, key) DO UPDATE
SET version = excluded.version, shape_version = excluded.shape_version, changed_at = excluded.changed_at,
    body = excluded.body
"""
PATCH = """
UPDATE document AS d
SET version = made.version, changed_at = %(at)s, body = (d.body::jsonb || made.body::jsonb)::text
FROM unnest(%(collections)b::text[], %(keys)b::text[], %(versions)b::bigint[], %(bodies)b::text[])
  AS made (collection, key, version, body)
WHERE d.tenant = %(tenant)s AND d.collection = made.collection AND d.key = made.key
"""
READ = """
SELECT collection, key, version, shape_version, body FROM document
WHERE tenant = %s AND version > %s ORDER BY version LIMIT %s
"""


def serve_by_hand(database: str) -> None:
    """The handler by hand on a free port, which it says like the shipped server."""
    from psycopg_pool import ConnectionPool

    pool = ConnectionPool(database, min_size=1, max_size=10, open=True)
    with pool.connection() as connection:
        connection.execute(TABLES)

    def pushed(raw: bytes) -> bytes:
        asked = orjson.loads(raw)
        tenant, entries = asked["user"], asked["entries"]
        with pool.connection() as connection:
            (head,) = connection.execute(COUNT, (len(entries), tenant)).fetchone() or (0,)
            numbered = list(enumerate(entries, head - len(entries) + 1))
            for kind, statement in (("put", WRITE), ("patch", PATCH)):
                made = [(n, e) for n, e in numbered if e["kind"] == kind]
                if made:
                    connection.execute(statement, _columns(tenant, made))
        results = [{"sequence": e["sequence"], "status": "applied", "version": n} for n, e in numbered]
        return orjson.dumps({"request_id": asked["request_id"], "results": results})

    def pulled(tenant: str, after: int, limit: int) -> bytes:
        with pool.connection() as connection:
            rows = connection.execute(READ, (tenant, after, limit)).fetchall()
        return page_of(rows, after=after, limit=limit)

    serve(pushed, pulled)


def _columns(tenant: str, made: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "at": NOW,
        "collections": [e["collection"] for _, e in made],
        "keys": [e["key"] for _, e in made],
        "versions": [n for n, _ in made],
        "shapes": [e["shape_version"] for _, e in made],
        "bodies": [orjson.dumps(e["set"]).decode() for _, e in made],
    }


def by_hand(database: str) -> AbstractContextManager[tuple[str, int]]:
    """The handler by hand in a process of its own: its address and its process."""
    return started([sys.executable, "-m", "tests.benchmarks.server_push_postgresql", "--by-hand", database])


@contextmanager
def both() -> "Iterator[tuple[httpx.Client, Side, Side, PostgresqlCluster]]":
    """A client, the shipped server and the one by hand, with empty databases of one PostgreSQL."""
    from simulator.postgresql import PostgresqlCluster

    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name, ExitStack() as running:
        folder = Path(name)
        folder.chmod(0o755)
        cluster = running.enter_context(PostgresqlCluster(folder / "c", durable=True))
        sides = [
            running.enter_context(server(folder, database=cluster.make_database("ours"))),
            running.enter_context(by_hand(cluster.make_database("theirs"))),
        ]
        ours, theirs = (Side(url=url, pid=pid, database_seconds=cluster.processor_seconds) for url, pid in sides)
        yield running.enter_context(httpx.Client()), ours, theirs, cluster


def report(*, entries: int = 20_000, rounds: int = 5, many: int = 1_000_000) -> None:
    """Puts, patches, pages and memory, printed."""
    for batch in (500, 5_000):
        with both() as (client, ours, theirs, cluster):
            compared(client, ours, theirs, entries=entries, rounds=rounds, batch=batch)
            if batch == 5_000:
                memory(rows=many, database=cluster.make_database("many"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--by-hand", metavar="DATABASE")
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=1_000_000)
    asked = parser.parse_args()
    if asked.by_hand:
        serve_by_hand(asked.by_hand)
    else:
        report(entries=asked.entries, rounds=asked.rounds, many=asked.many)
