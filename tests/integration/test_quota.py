"""A user has no more at the cloud than the operator gives; what was refused waits on the device, whole."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from syncengine import Engine
from syncengine.clock import SystemClock
from syncengine.errors import QuotaExceeded
from syncengine.local.statements import statements
from syncengine.remote.json_text import write_json
from syncengine.remote.wire import PushEntry, PushRequest, lean
from syncengine.server.cloud import Cloud, CloudLimits
from syncengine.server.databases import open_storage
from syncengine.server.push_reading import read_push
from syncengine.server.sqlite_storage import DATABASE_NAME, SERVER_SQL, SqliteStorage
from syncengine.server.storage import ChangedRow, Tenant, Transaction
from syncengine.vocabulary import UserId
from tests.conformance.device_requests import change, changes, delete, hello, patch, pull, push, put, rows
from tests.conformance.server_process import ServerProcess
from tests.integration.sync_world import registry

ANN, BOB = UserId("ann"), UserId("bob")
LARGE = {"text": "x" * 20_000}

OpenCloud = Callable[..., Cloud]


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest) -> str | None:
    """The address of an empty database; None: in SQLite, in a folder of the test."""
    return request.getfixturevalue("database") if request.param == "postgresql" else None


@pytest.fixture
def opened(tmp_path: Path, where: str | None) -> Iterator[OpenCloud]:
    """The cloud of one database, opened again and again with other limits."""
    made: list[Cloud] = []

    def open_cloud(**limits: int) -> Cloud:
        clock = SystemClock()
        storage = open_storage(where or str(tmp_path / DATABASE_NAME), clock=clock)
        cloud = Cloud(storage, clock=clock, limits=CloudLimits(**limits))
        made.append(cloud)
        for user in (ANN, BOB):
            cloud.add_token(user, chance=random.Random(user))
        return cloud

    yield open_cloud
    for cloud in made:
        cloud.close()


def stored(cloud: Cloud, user: UserId = ANN) -> tuple[int, int]:
    """As the counters say, which have to agree with what is there."""

    def look(found: Transaction) -> tuple[Tenant, list[ChangedRow]]:
        rows = found.changes_after(user, group_version=0, version=0, rows_likely=100)
        return found.tenant(user), [row for row in rows if row.body is not None]

    tenant, living = cloud._storage.read(user, look)
    assert (tenant.rows, tenant.bytes) == (len(living), sum(row.bytes for row in living))
    return tenant.rows, tenant.bytes


def test_a_push_beyond_the_rows_of_a_user_is_refused_whole_and_its_numbers_stay_free(opened: OpenCloud) -> None:
    cloud = opened(user_rows_max=2)
    cloud.push(ANN, push(put(1, "a", {"n": 1})))
    with pytest.raises(QuotaExceeded) as refused:
        cloud.push(ANN, push(put(2, "b", {"n": 2}), put(3, "c", {"canary": 3})))
    assert "canary" not in str(refused.value)
    assert refused.value.retry_after_ms
    assert cloud.hello(ANN, hello()).device_seq == 1
    assert [row.key for row in cloud.rows(ANN, rows()).rows] == ["a"]
    assert cloud.push(ANN, push(put(2, "b", {"n": 2}))).device_seq == 2
    assert stored(cloud) == (2, 14)


def test_bytes_count_with_what_lies_beside_a_row(opened: OpenCloud) -> None:
    cloud = opened(user_bytes_max=40)
    cloud.push(ANN, push(put(1, "a", {"n": 1})))
    beside = patch(2, "a", {"n": 22222}).model_copy(update={"shape_version": "9.0.0"})
    cloud.push(ANN, push(beside))
    assert stored(cloud) == (1, 18)
    with pytest.raises(QuotaExceeded):
        cloud.push(ANN, push(put(3, "b", {"text": "more than there is room for"})))
    assert stored(cloud) == (1, 18)


def test_what_takes_away_is_taken_also_from_a_user_who_has_too_much(opened: OpenCloud) -> None:
    opened().push(ANN, push(*(put(n, f"k{n}", {"text": "x" * 100}) for n in range(1, 6))))
    cloud = opened(user_rows_max=2, user_bytes_max=50)
    assert cloud.push(ANN, push(patch(6, "k1", {"text": "shorter"}), delete(7, "k2"))).device_seq == 7
    with pytest.raises(QuotaExceeded):
        cloud.push(ANN, push(patch(8, "k1", {"text": "a little longer"})))
    assert [row.key for row in cloud.rows(ANN, rows()).rows] == ["k1", "k3", "k4", "k5"]


def test_a_deletion_in_the_same_push_makes_room(opened: OpenCloud) -> None:
    cloud = opened(user_rows_max=1)
    cloud.push(ANN, push(put(1, "a", {"n": 1})))
    answer = cloud.push(ANN, push(put(2, "b", {"n": 2}), delete(3, "a")))
    assert [result.status for result in answer.results] == ["applied", "applied"]
    assert stored(cloud) == (1, 7)


def test_what_was_answered_before_is_answered_again_without_room(opened: OpenCloud) -> None:
    opened().push(ANN, push(put(1, "a", {"n": 1}), put(2, "b", {"n": 2})))
    cloud = opened(user_rows_max=1)
    again = cloud.push(ANN, push(put(1, "a", {"n": 1}), put(2, "b", {"n": 2})))
    assert [result.status for result in again.results] == ["duplicate", "duplicate"]


def test_one_users_rows_take_no_room_of_anothers(opened: OpenCloud) -> None:
    cloud = opened(user_rows_max=1)
    for user in (ANN, BOB):
        assert cloud.push(user, push(put(1, "a", {"n": 1}), user=user)).device_seq == 1


def test_the_counters_follow_every_kind_of_change(opened: OpenCloud) -> None:
    cloud = opened()
    cloud.push(ANN, push(put(1, "a", LARGE), put(2, "b", {"n": 1}), put(3, "ü", {"text": "ümläut"})))
    stored(cloud)
    # A large body is not read before it is replaced or deleted.
    cloud.push(ANN, push(put(4, "a", {"n": 1}), put(5, "c", LARGE)))
    cloud.push(ANN, push(delete(6, "c"), patch(7, "b", LARGE)))
    cloud.push(ANN, push(patch(8, "b", {"n": 2}), delete(9, "nothing")))
    lying = patch(10, "b", {"n": 3}).model_copy(update={"shape_version": "9.0.0"})
    several = changes(11, "a", change("delete", "a"), change("put", "a-1", {"n": 1}), change("put", "a-2", {"n": 1}))
    cloud.push(ANN, push(lying, several))
    # A group that is rejected has changed nothing.
    refused = [each.model_copy(update={"group": 99}) for each in (put(12, "x", {"n": 1}), patch(13, "none", {}))]
    cloud.push(ANN, push(*refused))
    found = stored(cloud)
    cloud.push(ANN, push(delete(14, "b"), put(15, "b", {"n": 1}), delete(16, "a-1"), delete(17, "a-1")))
    assert stored(cloud)[0] == found[0] - 1


def test_rows_that_are_new_count_like_all_others(opened: OpenCloud) -> None:
    cloud = opened(user_rows_max=3, user_bytes_max=60)
    pushed_as_text(cloud, push(put(1, "a", {"n": 1}), put(2, "ü", {"text": "ümläut"})))
    assert stored(cloud) == (2, 24)
    for beyond in ([put(3, "b", {}), put(4, "c", {})], [put(3, "b", {"text": "x" * 60})]):
        with pytest.raises(QuotaExceeded):
            pushed_as_text(cloud, push(*beyond))
        assert stored(cloud) == (2, 24)
    pushed_as_text(cloud, push(put(3, "a", {"n": 22}), put(4, "b", {})))
    assert stored(cloud) == (3, 27)


def pushed_as_text(cloud: Cloud, request: PushRequest) -> None:
    """The way of a request over HTTP."""
    cloud.push_text(ANN, read_push(write_json(lean(request))))


def test_a_push_that_is_written_in_parts_is_counted_once(opened: OpenCloud) -> None:
    cloud = opened()
    body = {"text": "y" * 900_000}
    for first in (1, 41):
        cloud.push(ANN, push(*(put(n, f"k{n % 20}", body) for n in range(first, first + 40))))
    assert stored(cloud)[0] == 20


def test_a_database_from_before_the_counters_is_counted_when_it_is_opened(tmp_path: Path) -> None:
    editions = list(statements("schema", directory=SERVER_SQL).values())
    old = SqliteStorage(str(tmp_path), clock=SystemClock(), editions=editions[:1])
    old._connection.execute(
        "INSERT INTO tenant (tenant, row_version, server_epoch, floor) VALUES ('ann', 3, 1, 0), ('bob', 0, 1, 0)"
    )
    for key, body in (("a", '{"n": 1}'), ("b", '{"n": 22}'), ("gone", None)):
        old._connection.execute(
            "INSERT INTO document VALUES ('ann', 'walks', ?, 1, 1, '1.0.0', ?, 0, 'phone:1', 0, 't', ?)",
            (key, len(body or ""), body),
        )
    old.close()
    new = SqliteStorage(str(tmp_path), clock=SystemClock())
    ann, bob = (new.read(user, lambda found, of=user: found.tenant(of)) for user in (ANN, BOB))
    new.close()
    assert (ann.rows, ann.bytes, bob.rows, bob.bytes) == (2, 17, 0, 0)


# A device of the shipped server -----------------------------------------------------------------------------------


def engine_of(folder: Path, server: ServerProcess, token: str) -> Engine:
    engine = Engine.open(
        str(folder / "app.db"), registry=registry("1.0.0"), user="ann", cloud_url=server.url, token=lambda: token
    )
    engine.migrate()
    return engine


def write(engine: Engine, *keys: str) -> None:
    with engine.write() as db:
        for key in keys:
            db["plans"].insert({"user_id": "ann", "id": key, "title": key})


def test_a_refused_queue_is_kept_says_why_and_leaves_when_there_is_room(tmp_path: Path, where: str | None) -> None:
    with ServerProcess(tmp_path / "cloud", "--user-rows-max", "3", database=where) as server:
        token = server.sign_in("ann")
        with engine_of(tmp_path, server, token) as engine:
            write(engine, "a", "b", "c")
            assert engine.sync_now().ended == "drained"
            write(engine, "d", "e")
            with pytest.raises(QuotaExceeded):
                engine.sync_now()
            status = engine.status()
            assert (status.outbox.waiting + status.outbox.claimed, status.quarantined) == (2, 0)
            assert (status.sync.last_error, status.connectivity.verdict) == ("quota_exceeded", "online")
            assert "ask who runs the cloud for more room" in str(engine.explain("plans", "d"))
            # Another device of the user makes room.
            tablet = server.backend(token)
            tablet.push(push(*(_deleted(n, key) for n, key in enumerate("ab", 1)), device="tablet"))
            assert engine.sync_now().ended == "drained"
            assert engine.status().sync.last_error is None
            with engine.read() as db:
                assert [row["id"] for row in db["plans"].rows] == ["c", "d", "e"]


def _deleted(sequence: int, key: str) -> object:
    return delete(sequence, key).model_copy(update={"collection": "plans"})


def test_what_the_same_device_deletes_makes_room_for_what_it_had_no_room_for(
    tmp_path: Path, where: str | None
) -> None:
    with ServerProcess(tmp_path / "cloud", "--user-rows-max", "3", database=where) as server:
        token = server.sign_in("ann")
        with engine_of(tmp_path, server, token) as engine:
            write(engine, "a", "b", "c")
            engine.sync_now()
            write(engine, "d", "e")
            with pytest.raises(QuotaExceeded):
                engine.sync_now()
            with engine.write() as db:
                db.execute("DELETE FROM plans WHERE id IN ('a', 'b')")
            assert engine.sync_now().ended == "drained"
            page = server.backend(token).rows(rows(collection="plans"))
            assert [row.key for row in page.rows] == ["c", "d", "e"]
            assert len(server.backend(token).pull(pull()).items) == 5


def test_a_device_without_room_goes_on_reading_what_others_write(tmp_path: Path, where: str | None) -> None:
    with ServerProcess(tmp_path / "cloud", "--user-rows-max", "4", database=where) as server:
        token = server.sign_in("ann")
        with engine_of(tmp_path, server, token) as engine:
            write(engine, "a", "b", "c")
            engine.sync_now()
            write(engine, "d", "e")
            with pytest.raises(QuotaExceeded):
                engine.sync_now()
            tablet = server.backend(token)
            tablet.push(push(titled(1, "a", "from the tablet"), titled(2, "new", "of the tablet"), device="tablet"))
            with pytest.raises(QuotaExceeded):
                engine.sync_now()
            assert titles(engine) == {
                "a": "from the tablet", "b": "b", "c": "c", "d": "d", "e": "e", "new": "of the tablet",
            }  # fmt: skip
            assert engine.status().sync.last_error == "quota_exceeded"
            tablet.push(push(*(_deleted(n, key) for n, key in enumerate("abc", 3)), device="tablet"))
            assert engine.sync_now().ended == "drained"
            assert sorted(titles(engine)) == ["d", "e", "new"]
            assert {row.key for row in tablet.rows(rows(collection="plans")).rows} == {"d", "e", "new"}


def test_edits_without_room_stand_on_what_is_read_meanwhile(tmp_path: Path, where: str | None) -> None:
    with ServerProcess(tmp_path / "cloud", "--user-rows-max", "2", database=where) as server:
        token = server.sign_in("ann")
        with engine_of(tmp_path, server, token) as engine:
            write(engine, "a", "b")
            engine.sync_now()
            write(engine, "c")
            with engine.write() as db:
                db["plans"].update(("ann", "a"), {"title": "edited here"})
            with pytest.raises(QuotaExceeded):
                engine.sync_now()
            tablet = server.backend(token)
            tablet.push(push(titled(1, "a", "from the tablet"), titled(2, "b", "theirs"), device="tablet"))
            with pytest.raises(QuotaExceeded):
                engine.sync_now()
            assert titles(engine) == {"a": "edited here", "b": "theirs", "c": "c"}
            tablet.push(push(_deleted(3, "b"), device="tablet"))
            assert engine.sync_now().ended == "drained"
            assert titles(engine) == {"a": "edited here", "c": "c"}
            there = {row.key: row.body["title"] for row in tablet.rows(rows(collection="plans")).rows}
            assert there == titles(engine)


def titled(sequence: int, key: str, title: str) -> PushEntry:
    """A tablet's put of a plan."""
    return put(sequence, key, {"id": key, "title": title}).model_copy(update={"collection": "plans"})


def titles(engine: Engine) -> dict[str, str]:
    with engine.read() as db:
        return {row["id"]: row["title"] for row in db["plans"].rows}


def test_the_servers_answer_is_507_with_a_wait_and_no_contents(tmp_path: Path, where: str | None) -> None:
    with ServerProcess(tmp_path / "cloud", "--user-bytes-max", "10", database=where) as server:
        token = server.sign_in("ann")
        body = push(put(1, "a", {"canary": "canary"})).model_dump(exclude_none=True, mode="json")
        answer = httpx.post(f"{server.url}/v1/push", json=body, headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (507, "300")
        assert json.loads(answer.content)["error"]["code"] == "quota_exceeded"
        assert b"canary" not in answer.content
        with pytest.raises(QuotaExceeded) as refused:
            server.backend(token).push(push(put(1, "a", {"canary": "canary"})))
        assert refused.value.retry_after_ms == 300_000


def test_two_servers_at_once_give_one_user_no_more_than_there_is(database: str, tmp_path: Path) -> None:
    room, each = 12, 20
    options = ("--user-rows-max", str(room))
    with (
        ServerProcess(tmp_path / "a", *options, database=database) as one,
        ServerProcess(tmp_path / "b", *options, database=database) as other,
    ):
        token = one.sign_in("ann")
        taken: list[str] = []

        def push_all(server: ServerProcess, device: str) -> None:
            backend, sequence = server.backend(token), 1
            for number in range(each):
                try:
                    backend.push(push(put(sequence, f"{device}-{number}", {"n": number}), device=device))
                except QuotaExceeded:
                    continue
                sequence += 1
                taken.append(f"{device}-{number}")

        writers = [
            threading.Thread(target=push_all, args=(server, device)) for server, device in ((one, "a"), (other, "b"))
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        page = other.backend(token).rows(rows())
        assert len(taken) == room
        assert sorted(row.key for row in page.rows) == sorted(taken)
