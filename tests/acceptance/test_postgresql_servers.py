"""Two servers on one PostgreSQL and eight devices of four users, while the servers are killed again and again."""

import random
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from simulator.postgresql import PostgresqlCluster
from syncengine import Collection, Engine, MigrationRegistry, Settings, tables
from syncengine.errors import WillRetry
from syncengine.migrate.registry import ListedMigration
from tests.conformance.server_process import ServerProcess

pytestmark = pytest.mark.acceptance

USERS = ("ann", "bob", "cem", "dora")
WALKS = "CREATE TABLE walks (user_id TEXT, id TEXT, step INTEGER, text TEXT, PRIMARY KEY (user_id, id)) STRICT"
ROUNDS, ROWS_A_ROUND = 8, 12
KILLS_MIN, KILLS_MAX = 4, 9
SECONDS_MAX = 60.0
QUICK = Settings(retry_wait_ms_min=20, retry_wait_ms_max=100)


def registry() -> MigrationRegistry:
    make = tables(id="make-walks", from_version="1.0.0", to_version="2.0.0", create=(WALKS,))
    listed = [ListedMigration("make-walks", "1.0.0 > 2.0.0", make)]
    return MigrationRegistry(
        app="walks", baseline="1.0.0", target="2.0.0", collections=[Collection("walks")], migrations=listed
    )


class Device:
    """One user's store on one of two devices, which knows one of the two servers."""

    def __init__(self, folder: Path, *, user: str, name: str, url: str, token: str) -> None:
        self.user, self.name = user, name
        self.path = folder / f"{user}-{name}.db"
        self.engine = Engine.open(
            str(self.path), registry=registry(), user=user, cloud_url=url, token=lambda: token, settings=QUICK
        )
        self.engine.migrate()

    def canary(self) -> str:
        return f"canary-of-{self.user}"

    def work(self) -> None:
        """Rounds of new rows, with older ones changed and one deleted, each round a group; then a try to sync."""
        for step in range(ROUNDS):
            with self.engine.write() as db:
                for n in range(ROWS_A_ROUND):
                    key = f"{self.name}-{step}-{n}"
                    db["walks"].insert({"user_id": self.user, "id": key, "step": step, "text": self.canary()})
                if step:
                    for n in (1, 2):
                        db["walks"].update((self.user, f"{self.name}-{step - 1}-{n}"), {"step": 100 + step})
                    db["walks"].delete((self.user, f"{self.name}-{step - 1}-0"))
            self.is_drained()

    def is_drained(self) -> bool:
        """After one try; its server may be dead."""
        try:
            return self.engine.sync_now().ended == "drained"
        except WillRetry:
            return False

    def drain(self) -> None:
        """Until everything of both devices of the user is here and at the cloud."""
        end = time.monotonic() + SECONDS_MAX
        while time.monotonic() < end:
            if self.is_drained():
                return
            time.sleep(0.05)
        raise AssertionError(f"{self.name} of {self.user} could not send: {self.engine.status()}")

    def rows(self) -> dict[str, tuple[Any, ...]]:
        with self.engine.read() as db:
            return {row["id"]: (row["user_id"], row["step"], row["text"]) for row in db["walks"].rows}


def expected(user: str) -> dict[str, tuple[Any, ...]]:
    """What both devices of the user have made, without any engine."""
    rows: dict[str, tuple[Any, ...]] = {}
    for name in ("laptop", "phone"):
        for step in range(ROUNDS):
            for n in range(ROWS_A_ROUND):
                rows[f"{name}-{step}-{n}"] = (user, step, f"canary-of-{user}")
            if step:
                for n in (1, 2):
                    rows[f"{name}-{step - 1}-{n}"] = (user, 100 + step, f"canary-of-{user}")
                del rows[f"{name}-{step - 1}-0"]
    return rows


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def kill_in_turn(servers: list[ServerProcess], *, chance: random.Random, is_over: Callable[[], bool]) -> int:
    """kill -9 of either server at moments of chance, each started again at once; how often."""
    kills = 0
    while kills < KILLS_MAX and (kills < KILLS_MIN or not is_over()):
        time.sleep(chance.uniform(0.05, 0.8))
        server = servers[chance.randrange(len(servers))]
        server.kill()
        server.start()
        kills += 1
    return kills


def test_servers_that_are_killed_lose_nothing_do_nothing_twice_and_mix_nobody_up(
    postgresql: PostgresqlCluster, database: str, tmp_path: Path
) -> None:
    with postgresql.as_superuser(database_name(database)) as operator, ExitStack() as running:
        ports = [free_port(), free_port()]
        servers = [
            running.enter_context(ServerProcess(tmp_path, "--port", str(port), database=database)) for port in ports
        ]
        note_every_writing(operator)
        devices = [
            Device(tmp_path, user=user, name=name, url=servers[n].url, token=token)
            for user in USERS
            for token in [servers[0].sign_in(user)]
            for n, name in enumerate(("laptop", "phone"))
        ]
        with ThreadPoolExecutor(len(devices)) as pool:
            at_work = [pool.submit(device.work) for device in devices]
            kills = kill_in_turn(
                servers, chance=random.Random(8), is_over=lambda: all(each.done() for each in at_work)
            )
            for each in at_work:
                each.result()
            for each in [pool.submit(device.drain) for device in devices]:
                each.result()
            for each in [pool.submit(device.drain) for device in devices]:  # what the other one sent last
                each.result()
        assert kills >= KILLS_MIN
        for device in devices:
            assert device.rows() == expected(device.user), f"{device.name} of {device.user}"
            device.engine.close()
        for user in USERS:
            assert_each_once(operator, user)
        assert_nobody_has_what_is_anothers(devices, operator)


def database_name(address: str) -> str:
    return address.split("/")[3].split("?", maxsplit=1)[0]


def note_every_writing(operator: Any) -> None:
    """A witness in the database, whatever the servers' code says: which version of a row was written when."""
    operator.execute("CREATE TABLE witness (tenant TEXT, collection TEXT, key TEXT, version BIGINT)")
    operator.execute("GRANT INSERT ON witness TO syncengine")
    operator.execute(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO witness VALUES (NEW.tenant, NEW.collection, NEW.key, NEW.version); RETURN NEW; END $$"
    )
    operator.execute("CREATE TRIGGER note AFTER INSERT OR UPDATE ON document FOR EACH ROW EXECUTE FUNCTION note()")


def assert_each_once(operator: Any, user: str) -> None:
    """Each sequence that took effect gave one version, each version was written at most once, and none is missing."""
    (head,) = operator.execute("SELECT row_version FROM tenant WHERE tenant = %s", (user,)).fetchone()
    effects = operator.execute(
        "SELECT version, entries FROM receipt WHERE tenant = %s AND version IS NOT NULL", (user,)
    ).fetchall()
    given = sorted(version + n for version, entries in effects for n in range(entries))
    assert given == [*range(1, head + 1)], "a version was given twice, or to nobody"
    runs = operator.execute(
        "SELECT device, epoch, sequence, entries FROM receipt WHERE tenant = %s ORDER BY 1, 2, 3", (user,)
    ).fetchall()
    next_of: dict[tuple[str, int], int] = {}
    for device, epoch, sequence, entries in runs:
        assert sequence == next_of.get((device, epoch), 1), "a sequence was taken twice, or left out"
        next_of[device, epoch] = sequence + entries
    written = operator.execute(
        "SELECT version, count(*) FROM witness WHERE tenant = %s GROUP BY version HAVING count(*) > 1", (user,)
    ).fetchall()
    assert written == []
    living = operator.execute("SELECT key FROM document WHERE tenant = %s AND body IS NOT NULL", (user,)).fetchall()
    assert {key for (key,) in living} == expected(user).keys()
    counted = operator.execute(
        "SELECT stored_rows, stored_bytes FROM tenant WHERE tenant = %s"
        " UNION ALL SELECT count(*), sum(body_bytes) FROM document WHERE tenant = %s AND body IS NOT NULL",
        (user, user),
    ).fetchall()
    assert counted[0] == counted[1], "what the user has was miscounted"


def assert_nobody_has_what_is_anothers(devices: list[Device], operator: Any) -> None:
    for device in devices:
        for path in device.path.parent.glob(f"{device.path.name}*"):
            if path.is_file():
                content = path.read_bytes()
                assert not [user for user in USERS if user != device.user and f"canary-of-{user}".encode() in content]
    mixed = operator.execute(
        "SELECT tenant, key FROM document WHERE body IS NOT NULL AND body NOT LIKE '%canary-of-' || tenant || '%'"
    ).fetchall()
    assert mixed == []


def test_a_pulled_row_is_never_skipped_however_many_write(database: str, tmp_path: Path) -> None:
    """Six devices push through two servers while a seventh reads on: it sees every version, in order, each once."""
    from tests.conformance.device_requests import pull, push, put

    with ExitStack() as running:
        servers = [running.enter_context(ServerProcess(tmp_path, database=database)) for _ in range(2)]
        token = servers[0].sign_in("ann")
        pushes, batch, writers = 12, 5, 6

        def write(number: int) -> None:
            cloud = servers[number % 2].backend(token)
            for n in range(pushes):
                first = n * batch + 1
                entries = [put(s, f"{number}-{s}", {"n": s}) for s in range(first, first + batch)]
                cloud.push(push(*entries, device=f"device-{number}"))

        reader = servers[1].backend(token)
        seen: list[int] = []
        cursor: str | None = None
        with ThreadPoolExecutor(writers) as pool:
            at_work = [pool.submit(write, number) for number in range(writers)]
            while True:
                is_last = all(each.done() for each in at_work)
                page = reader.pull(pull(cursor=cursor, limit=7))
                seen += [item.version for item in page.items]
                cursor = page.cursor
                if is_last and not page.more:
                    break
            for each in at_work:
                each.result()
    assert seen == [*range(1, writers * pushes * batch + 1)]
