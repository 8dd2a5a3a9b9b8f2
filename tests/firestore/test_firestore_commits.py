"""What happens between a device and Firestore: lost, late and refused answers, many writers, large pushes."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from migrations import registry
from simulator.emulator import PROJECT, FirestoreEmulator, id_token
from syncengine import Engine
from syncengine.clock import SystemClock
from syncengine.errors import (
    AuthRequired,
    BackendAddressRefused,
    BackendUnavailable,
    BackendUnreachable,
    BatchRefused,
    NotOurServer,
    ProtocolViolation,
    RateLimited,
    SyncEngineError,
)
from syncengine.firestore.backend import ATTEMPTS_MAX, FirestoreBackend
from syncengine.settings import Settings
from syncengine.vocabulary import TimestampMs
from tests.conformance.device_requests import change, changes, delete, hello, migration, patch, pull, push, put, rows
from tests.firestore.between import Between

Open = Callable[..., FirestoreBackend]


@pytest.fixture
def between(emulator: FirestoreEmulator) -> Iterator[Between]:
    with Between(emulator.host) as proxy:
        yield proxy


@pytest.fixture
def opened(emulator: FirestoreEmulator) -> Iterator[Open]:
    """A device of ann's, by itself or behind a proxy."""
    backends: list[FirestoreBackend] = []

    def open_backend(host: str | None = None, *, user: str = "ann", **more: Any) -> FirestoreBackend:
        at = host or emulator.host
        backends.append(FirestoreBackend(PROJECT, token=lambda: id_token(user), emulator=at, **more))
        return backends[-1]

    yield open_backend
    for backend in backends:
        backend.close()


def bodies(backend: FirestoreBackend) -> dict[str, dict]:
    return {row.key: row.body for row in backend.rows(rows(limit=1000)).rows}


def error(word: str, code: int, message: str = "said so") -> tuple[int, bytes]:
    return code, json.dumps({"error": {"code": code, "message": message, "status": word}}).encode()


def test_a_lost_answer_after_the_commit_delivers_each_entry_once(between: Between, opened: Open) -> None:
    ann = opened(between.host)
    ann.push(push(put(1, "a", {"n": 1})))
    entries = (patch(2, "a", {"n": 2}), put(3, "b", {"n": 3}))
    between.lose_answer("commit")
    with pytest.raises(BackendUnreachable):
        ann.push(push(*entries))
    opened().push(push(patch(1, "a", {"n": 7}, base=2), device="laptop"))
    again = ann.push(push(*entries))
    assert [(each.status, each.outcome, each.version) for each in again.results] == [
        ("duplicate", "applied", 2),
        ("duplicate", "applied", 3),
    ]
    assert bodies(ann) == {"a": {"n": 7}, "b": {"n": 3}}


def test_a_commit_that_arrives_after_its_own_repetition_is_refused(between: Between, opened: Open) -> None:
    ann = opened(between.host)
    ann.push(push(put(1, "a", {"n": 1})))
    send_on = between.hold_back("commit")
    with pytest.raises(BackendUnreachable):
        ann.push(push(patch(2, "a", {"n": 2})))
    assert [each.status for each in ann.push(push(patch(2, "a", {"n": 2}))).results] == ["applied"]
    ann.push(push(patch(3, "a", {"n": 3})))
    status, content = send_on()
    assert status != 200
    assert json.loads(content)["error"]["status"] in ("FAILED_PRECONDITION", "ALREADY_EXISTS", "PERMISSION_DENIED")
    assert bodies(ann) == {"a": {"n": 3}}


@pytest.mark.parametrize(
    ("word", "code", "expected"),
    [
        ("UNAUTHENTICATED", 401, AuthRequired),
        ("PERMISSION_DENIED", 403, AuthRequired),
        ("RESOURCE_EXHAUSTED", 429, RateLimited),
        ("UNAVAILABLE", 503, BackendUnavailable),
        ("DEADLINE_EXCEEDED", 504, BackendUnavailable),
        ("INTERNAL", 500, BackendUnavailable),
        ("INVALID_ARGUMENT", 400, BatchRefused),
        ("UNIMPLEMENTED", 501, ProtocolViolation),
    ],
)
def test_errors_are_told_apart_by_their_word(
    between: Between, opened: Open, word: str, code: int, expected: type[SyncEngineError]
) -> None:
    ann = opened(between.host)
    ann.push(push(put(1, "a", {"n": 1})))
    between.say("commit", *error(word, code))
    with pytest.raises(expected) as refused:
        ann.push(push(put(2, "b", {"secret": "canary"})))
    assert type(refused.value) is expected
    assert "canary" not in str(refused.value)
    assert set(bodies(ann)) == {"a"}
    assert [each.status for each in ann.push(push(put(2, "b", {}))).results] == ["applied"]


@pytest.mark.parametrize("word", ["ALREADY_EXISTS", "ABORTED"])
def test_both_meanings_of_409_lead_to_a_new_decision(between: Between, opened: Open, word: str) -> None:
    ann = opened(between.host)
    ann.push(push(put(1, "a", {"n": 1})))
    between.say("commit", *error(word, 409))
    assert [each.status for each in ann.push(push(patch(2, "a", {"n": 2}))).results] == ["applied"]
    assert between.asked[-2:].count("commit") == 1
    assert bodies(ann) == {"a": {"n": 2}}


def test_whoever_always_comes_second_is_asked_to_wait(between: Between, opened: Open) -> None:
    ann = opened(between.host)
    ann.push(push(put(1, "a", {"n": 1})))
    for _ in range(ATTEMPTS_MAX):
        between.say("commit", *error("ABORTED", 409))
    with pytest.raises(BackendUnavailable, match="keep writing"):
        ann.push(push(put(2, "b", {})))


def test_a_commit_that_is_too_large_for_the_server_is_cut_by_the_device(between: Between, opened: Open) -> None:
    ann = opened(between.host)
    ann.push(push(put(1, "a", {"n": 1})))
    between.say("commit", *error("RESOURCE_EXHAUSTED", 429, "gRPC message exceeds maximum size 4194304: 5000000"))
    with pytest.raises(BatchRefused) as refused:
        ann.push(push(put(2, "b", {})))
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ((200, b"<html>Welcome to the hotel</html>"), NotOurServer),
        ((404, b"<html>no such page</html>"), NotOurServer),
        ((511, b"<html>log in</html>"), NotOurServer),
        ((502, b"<html>bad gateway</html>"), BackendUnavailable),
        ((200, b'{"writeResults": []}'), ProtocolViolation),
    ],
)
def test_what_firestore_did_not_say_is_not_believed(
    between: Between, opened: Open, said: tuple[int, bytes], expected: type[SyncEngineError]
) -> None:
    ann = opened(between.host)
    ann.hello(hello())
    between.say("commit", *said)
    with pytest.raises(expected):
        ann.push(push(put(1, "a", {})))
    between.say("batchGet", 200, b'[{"missing": "projects/p/databases/d/documents/~health/another"}]')
    with pytest.raises(NotOurServer):
        ann.health("n-1")


def test_no_row_is_passed_by_while_many_devices_write(opened: Open) -> None:
    """Four devices commit at once, in small and in large commits, while a fifth pulls by its cursor all the time.

    The rules refuse a commit that came second before its conditions do: that is no lost sign-in.
    """
    written: dict[str, set[str]] = {}

    def write(device: str) -> None:
        ann = opened()
        written[device] = set()
        sequence = 1
        for turn in range(6):
            entries = [put(sequence + n, f"{device}-{turn}-{n}", {"n": n}) for n in range(1 if turn % 3 else 20)]
            for _ in range(20):  # as the next rounds would
                with contextlib.suppress(BackendUnavailable):
                    ann.push(push(*entries, device=device))
                    break
            written[device] |= {entry.key for entry in entries}
            sequence += len(entries)

    threads = [threading.Thread(target=write, args=(f"device-{n}",)) for n in range(4)]
    reader, cursor = opened(), None
    seen: list[str] = []
    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):
        page = reader.pull(pull(cursor, limit=25))
        seen += [item.key for item in page.items]
        cursor = page.cursor
    more = True
    while more:
        page = reader.pull(pull(cursor, limit=1000))
        seen += [item.key for item in page.items]
        cursor, more = page.cursor, page.more
    everything = {key for keys in written.values() for key in keys}
    assert len(everything) == 4 * (2 * 20 + 4)
    assert set(seen) == everything
    assert len(seen) == len(everything)


def test_a_push_of_many_groups_takes_several_commits_and_each_is_whole(between: Between, opened: Open) -> None:
    ann = opened(between.host)
    entries = [put(n, f"k{n}", {"n": n}, group=n // 200) for n in range(1, 700)]
    between.lose_answer("batchGet")  # the first one: nothing has happened yet
    with pytest.raises(BackendUnreachable):
        ann.push(push(*entries))
    told = ann.push(push(*entries))
    assert [each.version for each in told.results] == list(range(1, 700))
    assert between.asked.count("commit") >= 3  # the user's first state is one
    page = ann.pull(pull(limit=5_000))
    assert [item.version for item in page.items] == list(range(1, 700))
    assert [each.outcome for each in ann.push(push(*entries)).results] == ["applied"] * 699


def test_a_group_that_no_commit_can_hold_is_rejected_and_its_neighbours_are_not(opened: Open) -> None:
    ann = opened()
    text = "x" * 900_000
    large = [put(n, f"k{n}", {"text": text}, group=2) for n in range(2, 8)]
    told = ann.push(push(put(1, "before", {}), *large, put(8, "after", {})))
    codes = [each.code for each in told.results]
    assert sorted(codes[1:-1]) == [*["group_rejected"] * 5, "group_too_large"]
    assert (codes[0], codes[-1]) == (None, None)
    assert set(bodies(ann)) == {"before", "after"}


def test_pages_of_large_rows_are_read_in_several_answers(opened: Open) -> None:
    ann = opened(settings=Settings(answer_bytes_max=500_000))
    text = "x" * 150_000
    ann.push(push(*(put(n, f"k{n:02d}", {"text": text}) for n in range(1, 22))))
    seen, cursor, more = [], None, True
    while more:
        page = ann.pull(pull(cursor, limit=100))
        seen += [item.key for item in page.items]
        cursor, more = page.cursor, page.more
    assert seen == [f"k{n:02d}" for n in range(1, 22)]
    patched = ann.push(push(*(patch(21 + n, f"k{n:02d}", {"n": n}) for n in range(1, 22))))
    assert {each.status for each in patched.results} == {"applied"}


def test_only_the_fields_that_changed_are_written(emulator: FirestoreEmulator, opened: Open) -> None:
    """Another program's field in the row's document stays: the mask of a patch does not name it."""
    ann = opened()
    ann.push(push(put(1, "a", {"x": 1, "y": 1, "odd name`s \\": 1})))
    name = f"{emulator.documents}/users/ann/journeys/a"
    beside = {"name": name, "fields": {"of_a_function": {"stringValue": "kept"}}}
    assert emulator.commit([{"update": beside, "updateMask": {"fieldPaths": ["of_a_function"]}}]).status_code == 200
    ann.push(push(patch(2, "a", {"y": 2, "odd name`s \\": 2})))
    assert bodies(ann) == {"a": {"x": 1, "y": 2, "odd name`s \\": 2, "of_a_function": "kept"}}


def test_a_body_that_firestore_cannot_hold_comes_back_exactly(emulator: FirestoreEmulator, opened: Open) -> None:
    odd = [
        {"list": [[1, 2], [3]]},
        {"minus_zero": -0.0},
        {"__reserved__": 1},
        {"_sync": {"version": 99}},
        {"": "no name"},
        {"deep": json.loads("[" + '{"a":[' * 12 + "]}" * 12 + "]")},
        {"many": list(range(12_000))},
        {"$blob": "AAEC"},
        {"blob": {"$blob": "AAEC"}, "no_blob": {"$blob": "not base64"}},
        {"nested": {"__x__": [{"y": [[]]}]}},
    ]
    ann = opened()
    ann.push(push(*(put(n, f"k{n:02d}", body) for n, body in enumerate(odd, 1))))
    assert list(bodies(ann).values()) == odd
    assert repr(bodies(ann)["k02"]) == "{'minus_zero': -0.0}"
    assert [item.body for item in ann.pull(pull()).items] == odd
    ann.push(push(*(patch(10 + n, f"k{n:02d}", {"more": n}) for n in range(1, 11))))
    assert list(bodies(ann).values()) == [{**body, "more": n} for n, body in enumerate(odd, 1)]


@pytest.mark.parametrize("key", ["a/b", "..", ".", "__x__", "%2F", "a%", "50% off/day", "é日😀", "~", "k:1"])
def test_any_key_comes_back(opened: Open, key: str) -> None:
    ann = opened()
    ann.push(push(put(1, key, {"n": 1}), patch(2, key, {"n": 2})))
    assert bodies(ann) == {key: {"n": 2}}
    ann.push(push(delete(3, key)))
    assert [(item.key, item.body) for item in ann.pull(pull()).items] == [(key, None)]


def test_pages_of_rows_are_in_byte_order_of_keys(opened: Open) -> None:
    """Also where UTF-16 would order otherwise, and where the ids of documents differ from the keys."""
    keys = ["a/b", "a", "a0", "a.b", "%", "\uffee", "😀", "é", "Z", "__x__"]
    ann = opened()
    ann.push(push(*(put(n, key, {}) for n, key in enumerate(keys, 1))))
    found, after = [], None
    for _ in range(20):
        page = ann.rows(rows(after=after, limit=3))
        found += [row.key for row in page.rows]
        after = page.next
        if after is None:
            break
    assert found == sorted(keys)


def test_what_cannot_be_named_in_firestore_is_rejected_alone(opened: Open) -> None:
    ann = opened()
    told = ann.push(push(put(1, "left", {}), put(2, "/" * 600, {}), put(3, "right", {})))
    assert [each.code for each in told.results] == [None, "bad_key", None]


def test_changes_and_migrations_reach_rows_of_several_collections_in_one_commit(
    between: Between, opened: Open
) -> None:
    ann = opened(between.host)
    ann.push(push(put(1, "a", {"n": 1})))
    asked = len(between.asked)
    told = ann.push(
        push(
            changes(2, "a", change("delete", "a"), change("put", "b", {"n": 2}), base=1),
            migration(3, change("patch", "b", {"m": 3}, if_version=3), cloud_version="2.0.0"),
        )
    )
    assert [each.status for each in told.results] == ["applied", "applied"]
    assert between.asked[asked:].count("commit") == 1
    assert bodies(ann) == {"b": {"n": 2, "m": 3}}
    assert ann.hello(hello()).cloud_version == "2.0.0"


@pytest.mark.parametrize("address", ["firestore.example.com:8080", "10.0.0.7:8080", "nothing"])
def test_an_emulator_elsewhere_would_show_the_token(address: str) -> None:
    with pytest.raises(BackendAddressRefused):
        FirestoreBackend(PROJECT, token=lambda: "t", emulator=address)


@pytest.mark.parametrize("project", ["", "a/b", "../x", "a b", "a?b", "a#b", "x" * 200])
def test_a_project_that_could_lead_elsewhere_is_refused(project: str) -> None:
    with pytest.raises(BackendAddressRefused):
        FirestoreBackend(project, token=lambda: "t")


def test_googles_variable_for_the_emulator_counts(
    emulator: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)
    backend = FirestoreBackend(PROJECT, token=lambda: id_token("ann"))
    assert backend.hello(hello()).device_seq == 0
    backend.close()


@pytest.mark.parametrize("user", ["a/b", ".", "..", "__x__", "/"])
def test_a_user_who_cannot_be_a_documents_name_is_refused_before_anything_is_sent(opened: Open, user: str) -> None:
    backend = opened("127.0.0.1:1", user=user)  # where nobody answers
    for call in (
        lambda: backend.hello(hello(user=user)),
        lambda: backend.push(push(put(1, "a", {}), user=user)),
        lambda: backend.forget_deleted(user, keep_days=1),
    ):
        with pytest.raises(AuthRequired, match="cannot be the name of a document") as refused:
            call()
        assert refused.value.status == 0


@pytest.mark.parametrize("user", ["a%2Fb", "%", "...", "_x_", "~sync", "ü", "a b"])
def test_any_other_user_has_rows_of_their_own(opened: Open, user: str) -> None:
    backend = opened(user=user)
    assert backend.hello(hello(user=user)).device_seq == 0
    backend.push(push(put(1, "a", {"of": user}), user=user))
    assert [row.body for row in backend.rows(rows(user=user)).rows] == [{"of": user}]


class BehindClock(SystemClock):
    """Of a device whose battery was empty."""

    def now_ms(self) -> TimestampMs:
        return TimestampMs(super().now_ms() - 400 * 24 * 60 * 60 * 1000)


def test_lives_are_counted_by_firestores_clock_and_not_by_the_devices(opened: Open) -> None:
    slow, now_ms = opened(clock=BehindClock()), SystemClock().now_ms()
    first = slow.hello(hello()).server_epoch
    assert abs(first - now_ms) < 60 * 60 * 1000
    slow.push(push(put(1, "a", {}), epoch=3))
    assert abs(slow.hello(hello(confirmed=2)).server_epoch - now_ms) < 60 * 60 * 1000


def test_an_engine_reaches_firestore_by_its_address_alone(
    tmp_path: Path, emulator: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)
    stores = [tmp_path / "one.db", tmp_path / "two.db"]
    for store in stores:
        with Engine.open(
            str(store),
            registry=registry(),
            user="ann",
            cloud_url=f"firestore://{PROJECT}",
            token=lambda: id_token("ann"),
            consent=lambda request: True,
        ) as engine:
            engine.migrate()
            if store is stores[0]:
                with engine.write() as db:
                    db["journeys"].insert({"user_id": "ann", "id": "w1", "name": "by its address"})
            assert engine.sync_now().ended == "drained"
            with engine.read() as db:
                assert [row["name"] for row in db["journeys"].rows] == ["by its address"]
