"""The reference server as people run it: start, stop, kill, bad requests, and what it leaves on the disk."""

import contextlib
import gzip
import hashlib
import itertools
import json
import os
import random
import re
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import httpx
import orjson
import pytest

from syncengine.clock import SystemClock
from syncengine.errors import AuthRequired, BackendUnavailable, BackendUnreachable, BatchRefused, StoreSuperseded
from syncengine.local.connection import open_server_db
from syncengine.local.statements import statements
from syncengine.remote.http_backend import HttpBackend
from syncengine.remote.wire import CloudRow, PullItem
from syncengine.server.__main__ import main
from syncengine.server.cloud import Cloud, CloudLimits
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.server.stored_forms import SERVER_SQL
from syncengine.settings import Settings
from syncengine.vocabulary import TimestampMs, UserId
from tests.conformance.device_requests import change, changes, delete, hello, migration, patch, pull, push, put, rows
from tests.conformance.server_process import ServerProcess

ANN = UserId("ann")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """The rules without HTTP; its user ann exists."""
    made = Cloud(
        SqliteStorage(str(tmp_path / "data"), clock=SystemClock()),
        clock=SystemClock(),
        limits=CloudLimits(entries_max=10, page_bytes_max=1_000, group_bytes_max=5_000),
    )
    made.add_token(ANN, chance=random.Random(1))
    yield made
    made.close()


_numbers = itertools.count(1)


@pytest.fixture
def someone() -> str:
    """A user that no other test has."""
    return f"someone {next(_numbers)}"


def entry(sequence: int, **changes: object) -> dict[str, object]:
    """One entry as a device would write it."""
    return {
        "sequence": sequence,
        "group": sequence,
        "kind": "put",
        "collection": "journeys",
        "key": f"k{sequence}",
        "set": {"n": sequence},
        "shape_version": "1.0.0",
        **changes,
    }


def push_body(*entries: dict[str, object], **changes: object) -> dict[str, object]:
    return {
        "protocol": 1,
        "request_id": "r1",
        "user": "ann",
        "device": "phone",
        "epoch": 1,
        "schema_version": "1.0.0",
        "entries": list(entries),
        **changes,
    }


def post(server: ServerProcess, user: str, body: bytes, *, path: str = "push") -> httpx.Response:
    """A request by plain httpx, so that nothing of our client stands between."""
    headers = {"Authorization": f"Bearer {server.sign_in(user)}", "Content-Type": "application/json"}
    return httpx.post(f"{server.url}/v1/{path}", content=body, headers=headers, trust_env=False, timeout=30)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b'{"x": NaN}', "bad_value"),
        (b'{"x": -Infinity}', "bad_value"),
        (b'{"x": 1e999}', "bad_value"),
        (b'{"x": 9223372036854775808}', "bad_value"),
        (b'{"x": ' + b"9" * 5_000 + b"}", "bad_value"),
        (b'{"x": "\\u0000"}', "bad_value"),
        (b'{"x\\u0000": 1}', "bad_value"),
        (b'{"x": ["\\ud800"]}', "bad_value"),
        (b"null", "bad_entry"),
    ],
)
def test_a_bad_value_rejects_its_own_entry_only(server: ServerProcess, someone: str, bad: bytes, code: str) -> None:
    body = push_body(entry(1), entry(2, set="BAD"), entry(3), user=someone)
    answer = post(server, someone, orjson.dumps(body).replace(b'"BAD"', bad))
    results = answer.json()["results"]
    assert [result["status"] for result in results] == ["applied", "rejected", "applied"]
    assert results[1]["code"] == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"collection": 'x"; DROP TABLE document; --'}, "bad_key"),
        ({"collection": ""}, "bad_key"),
        ({"collection": "c" * 65}, "bad_key"),
        ({"kind": "delete"}, "bad_entry"),
        ({"kind": "patch", "set": None}, "bad_entry"),
        ({"kind": "migration"}, "bad_entry"),
        ({"kind": "migration", "set": None}, "bad_entry"),
        ({"cloud_version": "2.0.0"}, "bad_entry"),
        ({"shape_version": "two"}, "bad_value"),
        ({"kind": "migration", "set": None, "migration": "m", "cloud_version": "new"}, "bad_value"),
        ({"kind": "migration", "set": None, "migration": "m", "cloud_version": ""}, "bad_value"),
    ],
)
def test_an_entry_that_makes_no_sense_is_rejected_by_itself(
    server: ServerProcess, someone: str, changes: dict[str, object], code: str
) -> None:
    answer = post(server, someone, orjson.dumps(push_body(entry(1), entry(2, **changes), user=someone)))
    results = answer.json()["results"]
    assert [result["status"] for result in results] == ["applied", "rejected"]
    assert results[1]["code"] == code


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"canary", id="no JSON"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"protocol":1,"protocol":1}', id="repeated name"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(orjson.dumps(push_body(canary=1)), id="unknown field"),
        pytest.param(orjson.dumps(push_body(protocol=2)), id="protocol 2"),
        pytest.param(orjson.dumps(push_body(epoch="canary")), id="text for a number"),
        pytest.param(orjson.dumps(push_body(epoch=2**63)), id="epoch of 65 bit"),
        pytest.param(orjson.dumps(push_body(device="")), id="no device"),
        pytest.param(orjson.dumps(push_body(user="")), id="no user"),
        pytest.param(orjson.dumps(push_body(user="canary" * 34)), id="a user of 204 characters"),
        pytest.param(orjson.dumps(push_body(user="ann\n")), id="a user with a line break"),
        pytest.param(orjson.dumps(push_body(user="ann\x85")), id="a user with a control character beyond ASCII"),
        pytest.param(orjson.dumps(push_body(entry(0))), id="sequence 0"),
        pytest.param(orjson.dumps(push_body(entry(1, kind="canary"))), id="unknown kind"),
    ],
)
def test_a_malformed_request_is_400_with_our_marker_and_without_its_contents(
    server: ServerProcess, body: bytes
) -> None:
    answer = post(server, "malformed", body)
    assert answer.status_code == 400
    assert answer.headers["Syncengine-Protocol"] == "1"
    assert answer.json()["error"]["code"] == "malformed"
    assert "canary" not in answer.text


@pytest.mark.parametrize("path", ["rows", "pull", "health"])
@pytest.mark.parametrize(
    "bad",
    ["{}=%ff", "{}=canary%ff", "{}=%c3", "{}=%ed%a0%80", "other=%ff", "%ff=1", "{}=a&{}=b", "&".join(["x=1"] * 101)],
)
def test_a_query_that_cannot_be_read_is_400_and_is_not_taken_for_another(
    server: ServerProcess, someone: str, path: str, bad: str
) -> None:
    name = {"rows": "collection", "pull": "cursor", "health": "nonce"}[path]
    good = {
        "rows": f"request_id=r&user={someone}&after=k",
        "pull": f"request_id=r&user={someone}&device=d",
        "health": "request_id=r",
    }
    headers = {"Authorization": f"Bearer {server.sign_in(someone)}"}
    asked = f"{server.url}/v1/{path}?{good[path]}&{bad.replace('{}', name)}"
    answer = httpx.get(asked, headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")
    assert answer.json()["error"]["message"].startswith("The query ")
    assert "canary" not in answer.text


@pytest.mark.parametrize("key", ["ü €", "%ff", "a+b&c=d", "\ufffd"])
def test_a_query_that_can_be_read_is_taken_as_it_is(server: ServerProcess, someone: str, key: str) -> None:
    backend = server.backend(server.sign_in(someone))
    backend.push(push(put(1, key, {"x": 1}), put(2, f"{key}1", {"x": 2}), user=someone))
    found = backend.rows(rows(user=someone, after=key))
    assert [row.key for row in found.rows] == [f"{key}1"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("hello", {"app": "a", "device": "phone", "epoch": 1, "schema_version": "1.0.0"}),
        ("push", {"device": "phone", "epoch": 1, "schema_version": "1.0.0", "entries": [entry(1)]}),
    ],
)
def test_a_request_for_another_user_than_the_tokens_is_403_and_names_nobody(
    server: ServerProcess, someone: str, path: str, body: dict[str, object]
) -> None:
    asked = {"protocol": 1, "request_id": "r1", "user": "canary", **body}
    answer = post(server, someone, orjson.dumps(asked), path=path)
    assert answer.status_code == 403
    assert answer.headers["Syncengine-Protocol"] == "1"
    assert answer.json()["error"]["code"] == "wrong_user"
    assert "canary" not in answer.text
    assert someone not in answer.text
    assert server.backend(server.sign_in(someone)).hello(hello(user=someone)).device_seq == 0


def test_a_gap_is_409_with_the_sequence_expected(server: ServerProcess) -> None:
    answer = post(server, "gap", orjson.dumps(push_body(entry(5), user="gap")))
    assert answer.status_code == 409
    assert answer.json()["error"]["expected"] == 1
    assert answer.json()["error"]["code"] == "sequence_gap"


def test_a_request_beyond_the_cap_is_413_and_changes_nothing(server: ServerProcess) -> None:
    backend = server.backend(server.sign_in("large"))
    most = backend.hello(hello(user="large")).limits.bytes_max
    entries = [put(n, f"k{n}", {"x": "y" * 900_000}) for n in range(1, most // 900_000 + 3)]
    with pytest.raises(BatchRefused) as refused:
        backend.push(push(*entries, user="large"))
    assert refused.value.status == 413
    assert backend.hello(hello(user="large")).device_seq == 0


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("user=rows&collection=journeys&request_id=r&limit=1000", 200),
        ("user=rows&collection=journeys&request_id=r&limit=1001", 400),
        ("user=rows&collection=journeys&request_id=r&limit=0", 400),
        ("user=rows&collection=journeys&request_id=r&limit=x", 400),
        ("user=rows&collection=journeys", 400),
        ("user=rows&request_id=r", 400),
        ("collection=journeys&request_id=r", 400),
        ("user=ann&collection=journeys&request_id=r", 403),
    ],
)
def test_rows_need_their_own_user_a_collection_a_request_id_and_a_sane_limit(
    server: ServerProcess, query: str, status: int
) -> None:
    headers = {"Authorization": f"Bearer {server.sign_in('rows')}"}
    assert httpx.get(f"{server.url}/v1/rows?{query}", headers=headers, trust_env=False).status_code == status


@pytest.mark.parametrize(
    "asked",
    ["health?nonce=a%00b", "rows?user=ann&collection=c&request_id=%00", "pull?user=ann&device=d&request_id=a%00"],
    ids=["health", "rows", "pull"],
)
def test_an_address_with_what_no_answer_could_repeat_is_malformed(server: ServerProcess, asked: str) -> None:
    headers = {"Authorization": f"Bearer {server.sign_in('ann')}"}
    answer = httpx.get(f"{server.url}/v1/{asked}", headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/v2/pull", "/v1/"])
def test_every_other_path_is_404_by_the_protocol(server: ServerProcess, path: str) -> None:
    answer = httpx.get(server.url + path, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_such_call")
    assert answer.headers["Syncengine-Protocol"] == "1"


def test_users_of_device_tokens_see_their_own_canaries_and_no_byte_of_the_others(server: ServerProcess) -> None:
    users = ["canary-1", "CANARY-1", "canary-1 ", "canary-11", "canary_1", "cänary-1", "canary-1%"]
    tokens = {user: server.sign_in(user) for user in users}
    canaries = {user: f"feathers-of-{number:02d}" for number, user in enumerate(users)}
    for user in users:
        body = {"text": canaries[user]}
        server.backend(tokens[user]).push(push(put(1, "same-key", body), user=user))
    for user in users:
        everything = server.all_answers(user, token=tokens[user])
        assert [other for other in users if canaries[other].encode() in everything] == [user]
        for other in users:
            with contextlib.suppress(AuthRequired):
                server.backend(tokens[user]).pull(pull(user=other))
                assert other == user


def test_a_token_of_one_user_is_not_a_prefix_pass_to_another(server: ServerProcess) -> None:
    token = server.sign_in("ann")
    for wrong in (token[:-1], token.upper(), token + "0", "none"):
        headers = {"Authorization": f"Bearer {wrong}"}
        answer = httpx.post(f"{server.url}/v1/hello", headers=headers, content=b"{}", trust_env=False)
        assert answer.status_code == 401


class CutAfterCommit:
    """Passes one request on to the server, waits for its whole answer, and cuts instead of passing it back."""

    def __init__(self, server_url: str) -> None:
        self._target = httpx.URL(server_url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.answered = b""
        self._thread = threading.Thread(target=self._relay_once, daemon=True)
        self._thread.start()

    def _relay_once(self) -> None:
        with self._listener, self._listener.accept()[0] as device:
            request = device.recv(65_536)
            length = int(re.findall(rb"(?i)content-length: (\d+)", request)[0])
            while len(request.partition(b"\r\n\r\n")[2]) < length:
                request += device.recv(65_536)
            with socket.create_connection((self._target.host, self._target.port or 0), timeout=30) as server:
                server.sendall(request)
                while not self.answered.endswith(b"}"):
                    self.answered += server.recv(65_536)

    def join(self) -> None:
        self._thread.join(30)


def test_a_lost_answer_after_commit_delivers_the_entry_once(server: ServerProcess) -> None:
    token = server.sign_in("lost answer")
    relay = CutAfterCommit(server.url)
    cut = HttpBackend(relay.url, token=lambda: token, settings=Settings(), clock=SystemClock())
    direct = server.backend(token)
    with pytest.raises(BackendUnreachable):
        cut.push(push(put(1, "a", {"n": 1}), user="lost answer"))
    cut.close()
    relay.join()
    assert b'"applied"' in relay.answered
    again = direct.push(push(put(1, "a", {"n": 1}), user="lost answer"))
    assert [(result.status, result.outcome) for result in again.results] == [("duplicate", "applied")]
    assert [(row.key, row.version) for row in direct.rows(rows(user="lost answer")).rows] == [("a", 1)]


def living_rows(backend: HttpBackend) -> list[CloudRow]:
    found: list[CloudRow] = []
    after = None
    for _ in range(100):
        page = backend.rows(rows(after=after, limit=500))
        found += page.rows
        after = page.next
        if after is None:
            return found
    raise AssertionError("paging did not end")


def test_after_kill_9_in_the_middle_of_pushes_receipts_and_rows_agree(tmp_path: Path) -> None:
    """20 pushes of 200 entries; the server is killed while it works on one; the device sends on after hello."""
    pushes, size = 20, 200
    with ServerProcess(tmp_path / "cloud") as server:
        token = server.sign_in("ann")
        backend = server.backend(token)
        kill_at = threading.Event()
        killer = threading.Thread(target=lambda: (kill_at.wait(30), time.sleep(0.012), server.kill()))
        killer.start()
        answered = 0
        with contextlib.suppress(BackendUnreachable):
            for number in range(pushes):
                first = number * size + 1
                if number == 8:
                    kill_at.set()
                answer = backend.push(push(*(put(n, f"k{n}", {"n": n}) for n in range(first, first + size))))
                answered = answer.device_seq
        killer.join(30)
        assert 8 * size <= answered < pushes * size, "the kill came too early or too late to test anything"

        server.start()
        back = server.backend(token)
        device_seq = back.hello(hello()).device_seq
        assert device_seq >= answered
        assert device_seq % size == 0, "a push was applied in part"
        assert sorted(row.body["n"] for row in living_rows(back)) == list(range(1, device_seq + 1))

        for first in range(1, pushes * size, size):
            back.push(push(*(put(n, f"k{n}", {"n": n}) for n in range(first, first + size))))
        found = living_rows(back)
        assert sorted(row.body["n"] for row in found) == list(range(1, pushes * size + 1))
        assert sorted(row.version for row in found) == list(range(1, pushes * size + 1))


def test_a_push_that_fails_half_way_leaves_nothing_behind(server: ServerProcess) -> None:
    backend = server.backend(server.sign_in("half way"))
    beside = open_server_db(str(server.folder / "cloud.db"))
    beside.execute(
        "CREATE TRIGGER fails BEFORE INSERT ON receipt WHEN new.tenant = 'half way'"
        " BEGIN SELECT RAISE(ABORT, 'canary'); END"
    )
    entries = [put(n, f"k{n}", {"n": n}) for n in range(1, 6)]
    try:
        with pytest.raises(BackendUnavailable) as failed:
            backend.push(push(*entries, user="half way"))
    finally:
        beside.execute("DROP TRIGGER fails")
        beside.close()
    assert "canary" not in str(failed.value)
    assert backend.hello(hello(user="half way")).device_seq == 0
    assert backend.rows(rows(user="half way")).rows == ()
    assert {result.status for result in backend.push(push(*entries, user="half way")).results} == {"applied"}


def test_sigterm_ends_the_server_cleanly_and_its_data_is_there_again(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "cloud") as server:
        token = server.sign_in("ann")
        server.backend(token).push(push(put(1, "a", {"n": 1})))
        assert server.stop() == 0
        assert [file.name for file in server.folder.iterdir()] == ["cloud.db"], "it was not closed"
        assert "Traceback" not in server.stderr
        server.start()
        assert server.backend(token).hello(hello()).device_seq == 1


def test_nothing_secret_reaches_the_servers_log(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "cloud") as server:
        token = server.sign_in("ann")
        backend = server.backend(token)
        backend.push(push(put(1, "canary", {"canary": 1}), patch(2, "canary-2", {})))
        backend.rows(rows(after="canary"))
        post(server, "ann", b'{"canary": 1}')
        server.stop()
        assert "canary" not in server.stderr
        assert token not in server.stderr


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_the_database_is_private_and_holds_no_token(cloud: Cloud, tmp_path: Path) -> None:
    token = cloud.add_token(ANN, chance=random.Random(2))
    assert cloud.user_of(token) == ANN
    files = list((tmp_path / "data").iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert all(token.encode() not in file.read_bytes() for file in files)
    hashed = hashlib.sha256(token.encode()).hexdigest()
    assert any(hashed.encode() in file.read_bytes() for file in files)


def test_the_command_line_prints_a_token_that_works(server: ServerProcess) -> None:
    token = server.run_command("add-token", "--user", "by hand")
    assert server.backend(token).hello(hello(user="by hand")).device_seq == 0


def test_tokens_of_a_file_are_accepted_from_the_start_on(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("# who token\nann first-token\n\nbob second-token\n")
    with ServerProcess(tmp_path / "cloud", "--token-file", str(tokens)) as server:
        server.backend("first-token").push(push(put(1, "a", {})))
        assert server.backend("first-token").hello(hello()).device_seq == 1
        assert server.backend("second-token").hello(hello(user="bob")).device_seq == 0


def test_too_many_entries_are_refused_whole(cloud: Cloud) -> None:
    with pytest.raises(BatchRefused) as refused:
        cloud.push(ANN, push(*(put(n, f"k{n}", {}) for n in range(1, 12))))
    assert refused.value.status == 413
    assert cloud.hello(ANN, hello()).device_seq == 0


def test_a_page_ends_at_its_bytes_and_a_larger_row_comes_alone(cloud: Cloud) -> None:
    cloud.push(ANN, push(*(put(n, f"k{n}", {"x": "y" * size}) for n, size in enumerate((600, 300, 600, 2_000), 1))))
    pages = []
    after = None
    for _ in range(4):
        page = cloud.rows(ANN, rows(after=after))
        pages.append([row.key for row in page.rows])
        after = page.next
    assert pages == [["k1", "k2"], ["k3"], ["k4"], ["k1", "k2"]]


def test_the_server_epoch_stays_and_is_another_for_another_database(cloud: Cloud, tmp_path: Path) -> None:
    class Later(SystemClock):
        def now_ms(self):  # type: ignore[no-untyped-def] - the Clock's own signature
            return super().now_ms() + 5_000

    epoch = cloud.hello(ANN, hello()).server_epoch
    reopened = SqliteStorage(str(tmp_path / "data"), clock=Later())
    other = SqliteStorage(str(tmp_path / "other"), clock=Later())
    other.add_token(ANN, token_hash="")
    assert reopened.tenant(ANN).server_epoch == epoch
    assert other.tenant(ANN).server_epoch != epoch
    reopened.close()
    other.close()


def test_a_database_of_a_newer_server_is_left_alone(tmp_path: Path) -> None:
    SqliteStorage(str(tmp_path), clock=SystemClock()).close()
    newer = open_server_db(str(tmp_path / "cloud.db"))
    newer.execute("PRAGMA user_version = 99").fetchall()
    newer.close()
    with pytest.raises(StoreSuperseded):
        SqliteStorage(str(tmp_path), clock=SystemClock())


def test_every_primary_key_begins_with_the_tenant(cloud: Cloud, tmp_path: Path) -> None:
    connection = open_server_db(str(tmp_path / "data" / "cloud.db"))
    first_columns = connection.execute(
        "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c"
        " WHERE t.type = 'table' AND c.pk = 1 AND t.name <> 'cloud_state'"
    ).fetchall()
    connection.close()
    assert len(first_columns) == 7
    assert {column for _, column in first_columns} == {"tenant"}


def test_an_answer_is_json_that_names_its_request(server: ServerProcess) -> None:
    answer = post(server, "echo", orjson.dumps(push_body(request_id="mine", user="echo")))
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.content)["request_id"] == "mine"


def packed_post(server: ServerProcess, user: str, body: bytes, *, encoding: str = "gzip") -> httpx.Response:
    headers = {"Authorization": f"Bearer {server.sign_in(user)}", "Content-Encoding": encoding}
    return httpx.post(f"{server.url}/v1/push", content=body, headers=headers, trust_env=False, timeout=30)


def test_a_packed_request_is_taken(server: ServerProcess) -> None:
    body = gzip.compress(orjson.dumps(push_body(entry(1), user="packed")))
    answer = packed_post(server, "packed", body)
    assert (answer.status_code, answer.json()["results"][0]["status"]) == (200, "applied")


GOOD = orjson.dumps(push_body(entry(1, set={"x": "canary"}), user="bomber"))


def bomb() -> bytes:
    """Packed only by who throws it: that takes seconds."""
    return gzip.compress(b" " * 1_000_000_000, 1)


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        pytest.param(bomb, "gzip", 413, id="a bomb of a gigabyte"),
        pytest.param(lambda: gzip.compress(GOOD)[:-4], "gzip", 400, id="cut off"),
        pytest.param(lambda: gzip.compress(GOOD) + b"canary", "gzip", 400, id="something behind it"),
        pytest.param(lambda: gzip.compress(GOOD) + gzip.compress(b" "), "gzip", 400, id="two members"),
        pytest.param(lambda: GOOD, "gzip", 400, id="no gzip"),
        pytest.param(lambda: GOOD, "br", 400, id="another coding"),
        pytest.param(lambda: gzip.compress(gzip.compress(GOOD)), "gzip, gzip", 400, id="packed twice"),
    ],
)
def test_a_body_that_is_not_one_small_gzip_is_refused(
    server: ServerProcess, body: Callable[[], bytes], encoding: str, status: int
) -> None:
    answer = packed_post(server, "bomber", body(), encoding=encoding)
    assert answer.status_code == status
    assert "canary" not in answer.text
    assert server.backend(server.sign_in("bomber")).hello(hello(user="bomber")).device_seq == 0


def test_an_answer_is_packed_for_those_who_ask(server: ServerProcess) -> None:
    backend = server.backend(server.sign_in("packing"))
    backend.push(push(*(put(n, f"k{n}", {"n": n}) for n in range(1, 101)), user="packing"))
    url = f"{server.url}/v1/pull?user=packing&device=phone&request_id=r"
    heads = {"Authorization": f"Bearer {server.sign_in('packing')}"}
    answers = {
        asked: httpx.get(url, headers={**heads, "Accept-Encoding": asked}, trust_env=False)
        for asked in ("identity", "gzip", "br, gzip", "gzip;q=0", "")
    }
    packed = {asked for asked, answer in answers.items() if answer.headers.get("Content-Encoding") == "gzip"}
    assert packed == {"gzip", "br, gzip"}
    items = [answer.json()["items"] for answer in answers.values()]
    assert all(each == items[0] for each in items)
    assert len(items[0]) == 100


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("user=pull&device=phone&request_id=r", 200),
        ("user=pull&device=phone&request_id=r&limit=5000", 200),
        ("user=pull&device=phone&request_id=r&limit=5001", 400),
        ("user=pull&device=phone&request_id=r&limit=-1", 400),
        ("user=pull&device=phone&request_id=r&cursor=", 400),
        ("user=pull&device=phone&request_id=r&cursor=" + "A" * 513, 400),
        ("user=pull&device=phone&request_id=r&cursor=" + "A" * 512, 410),
        ("user=pull&device=phone&request_id=r&cursor=%00%F0%9F%98%80", 410),
        ("user=pull&request_id=r", 400),
        ("user=pull&device=phone", 400),
        ("user=ann&device=phone&request_id=r", 403),
    ],
)
def test_a_pull_needs_its_own_user_a_device_a_request_id_and_a_sane_cursor(
    server: ServerProcess, query: str, status: int
) -> None:
    headers = {"Authorization": f"Bearer {server.sign_in('pull')}"}
    answer = httpx.get(f"{server.url}/v1/pull?{query}", headers=headers, trust_env=False)
    assert answer.status_code == status
    assert answer.headers["Syncengine-Protocol"] == "1"
    if status == 410:
        assert answer.json()["error"] | {"message": ""} == {
            "code": "cursor_gone",
            "message": "",
            "reason": "other_epoch",
        }


def test_what_says_nothing_is_left_out_of_answers(server: ServerProcess) -> None:
    body = orjson.dumps(push_body(entry(1, key="a"), entry(2, kind="patch", key="missing"), user="lean"))
    results = post(server, "lean", body).json()["results"]
    assert results[0] == {"sequence": 1, "status": "applied", "version": 1}
    assert set(results[1]) == {"sequence", "status", "code", "message"}
    asked = {"app": "a", "device": "phone", "epoch": 1, "schema_version": "1", "request_id": "r", "user": "lean"}
    said = post(server, "lean", orjson.dumps(asked), path="hello").json()
    assert "cloud_version" not in said
    assert said["protocol"] == 1


def test_the_server_describes_itself_without_anything_from_elsewhere(server: ServerProcess) -> None:
    described = httpx.get(f"{server.url}/v1/openapi.json", trust_env=False)
    assert described.headers["Content-Type"] == "application/json"
    assert set(described.json()["paths"]) == {"/v1/hello", "/v1/push", "/v1/pull", "/v1/rows", "/v1/health"}
    page = httpx.get(f"{server.url}/", trust_env=False)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "<script" not in page.text
    assert re.findall(r'(?:href|src)="([^"#][^"]*)"', page.text) == ["/v1/openapi.json"]
    for name in described.json()["components"]["schemas"]:
        assert f'id="{name}"' in page.text


def test_tombstones_are_forgotten_only_after_their_days(tmp_path: Path) -> None:
    clock = DaysLater()
    cloud = Cloud(SqliteStorage(str(tmp_path), clock=clock), clock=clock)
    cloud.add_token(ANN, chance=random.Random(1))
    cloud.push(ANN, push(put(1, "a", {}), put(2, "b", {}), delete(3, "a")))
    clock.days = 60
    cloud.push(ANN, push(delete(4, "b")))
    clock.days = 91
    forgotten = [cloud.compact(keep_days=90), cloud.compact(keep_days=90), cloud.compact(keep_days=30)]
    assert forgotten == [1, 0, 1]
    assert cloud.hello(ANN, hello()).floor == 4
    assert cloud.pull(ANN, pull()).items == ()
    cloud.close()


class DaysLater(SystemClock):
    days = 0

    def now_ms(self) -> TimestampMs:
        return TimestampMs(super().now_ms() + self.days * 86_400_000)


def test_the_command_line_forgets_and_says_how_much(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "cloud") as server:
        backend = server.backend(server.sign_in("ann"))
        backend.push(push(put(1, "a", {}), delete(2, "a")))
        assert server.run_command("compact").startswith("0 rows")
        assert backend.hello(hello()).floor == 0
        assert server.run_command("compact", "--keep-days", "0").startswith("1 rows")
        assert backend.hello(hello()).floor == 2


@pytest.mark.parametrize(
    "options",
    [["--schema-min", "app"], ["--schema-min", "=1.0.0"], ["--schema-min", "app=new"], ["--keep-days", "-1"]],
)
def test_an_option_that_makes_no_sense_is_refused(tmp_path: Path, options: list[str]) -> None:
    command = ["compact"] if "--keep-days" in options else []
    with pytest.raises(SystemExit) as ended:
        main([*command, "--data", str(tmp_path / "never"), *options])
    assert ended.value.code == 2
    assert not (tmp_path / "never").exists()


def told_at_start(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """The exit status, and what stands on stderr after the usage."""
    try:
        status: object = main(options)
    except SystemExit as ended:
        status = ended.code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return int(str(status)), err[err.find("error: ") + 7 :] if err.startswith("usage:") else err


WEB_TOKENS = ("--jwt-issuer", "https://id.example", "--jwt-audience", "a")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--user-rows-max", "x"], "argument --user-rows-max: give a whole number from 0, and not 'x'"),
        (["--schema-min", "x"], "argument --schema-min: give an app and a version, such as notebook=2.0.0"),
        (["--keep-days", "-1"], "argument --keep-days: give a number of days from 0, or never, and not '-1'"),
        (["--port", "99999"], "argument --port: give a port from 0 (any free one) to 65535"),
        (["--jwks", "http://id.example/keys", *WEB_TOKENS], "argument --jwks: give an https address, one of this"),
        (["--jwks", "nowhere.json", *WEB_TOKENS], "argument --jwks: no keys for web tokens: there is no such file"),
        (["--jwks", __file__, *WEB_TOKENS], "argument --jwks: no keys for web tokens: "),
    ],
)
def test_a_wrong_option_is_named_in_words_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    status, said = told_at_start(capsys, "--data", str(tmp_path / "cloud"), *options)
    assert (status, said[: len(told)]) == (2, told)


def test_what_keeps_the_server_from_starting_is_said_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", str(tmp_path / "cloud"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, said = told_at_start(capsys, *data, "--port", port)
    assert (status, said.splitlines()[:2]) == (
        1,
        [f"The server cannot listen on 127.0.0.1, port {port}.", "  why:  Address already in use"],
    )
    status, said = told_at_start(capsys, *data, "--port", "0", "--token-file", str(tmp_path / "none"))
    assert (status, said.splitlines()[0]) == (1, "The file of --token-file cannot be read.")
    (tmp_path / "file").write_text("x")
    status, said = told_at_start(capsys, "--data", str(tmp_path / "file" / "cloud"), "--port", "0")
    assert (status, said.splitlines()[0]) == (1, "The folder of the database cannot be used.")


def test_a_page_of_changes_ends_at_its_bytes_between_groups(cloud: Cloud) -> None:
    sizes = (600, 300, 600, 600, 600)
    cloud.push(ANN, push(*(put(n, f"k{n}", {"x": "y" * size}, group=n // 3) for n, size in enumerate(sizes, 1))))
    pages, cursor = [], None
    for _ in range(4):
        page = cloud.pull(ANN, pull(cursor))
        pages.append([item.key for item in page.items])
        cursor = page.cursor
    assert pages == [["k1", "k2"], ["k3", "k4", "k5"], [], []]


def test_a_group_too_large_for_an_answer_comes_in_pages_and_none_of_it_is_lost(tmp_path: Path) -> None:
    cloud = Cloud(SqliteStorage(str(tmp_path), clock=SystemClock()), clock=SystemClock())
    cloud.add_token(ANN, chance=random.Random(1))
    rows_there = [put(n, f"k{n:02}", {"x": "y" * 900_000}, group=1) for n in range(1, 21)]
    cloud.push(ANN, push(*rows_there))
    first = cloud.pull(ANN, pull())
    cloud.push(ANN, push(patch(1, "k20", {"z": 1}), device="laptop"))
    rest = all_items(cloud, after=first.cursor)
    cloud.close()
    assert 10 < len(first.items) < 15
    assert [item.key for item in (*first.items, *rest)] == [f"k{n:02}" for n in range(1, 21)]
    assert len(rest[-1].body or {}) == 2


def test_large_rows_are_patched_one_by_one_and_a_rejected_group_is_undone(tmp_path: Path) -> None:
    """More than is held in memory at once, so that rows are written in between and read again."""
    cloud = Cloud(SqliteStorage(str(tmp_path), clock=SystemClock()), clock=SystemClock())
    cloud.add_token(ANN, chance=random.Random(1))
    keys = [f"k{n:02}" for n in range(40)]
    cloud.push(ANN, push(*(put(n, key, {"x": "y" * 900_000}) for n, key in enumerate(keys, 1))))
    again = [patch(n, key, {"n": n}) for n, key in enumerate(keys + keys, 41)]
    told = cloud.push(ANN, push(*again))
    undone = [patch(121, keys[0], {"n": 0}, group=9), patch(122, "missing", {}, group=9)]
    cloud.push(ANN, push(*undone, put(123, "last", {})))
    items = all_items(cloud)
    cloud.close()
    assert [result.version for result in told.results] == list(range(41, 121))
    assert [(item.key, item.version, (item.body or {}).get("n"), len(item.body or {})) for item in items] == [
        *((key, n, n, 2) for n, key in enumerate(keys, 81)),
        ("last", 121, None, 0),
    ]


def all_items(cloud: Cloud, *, after: str | None = None) -> list[PullItem]:
    items: list[PullItem] = []
    cursor = after
    for _ in range(100):
        page = cloud.pull(ANN, pull(cursor))
        items += page.items
        cursor = page.cursor
        if not page.more:
            return items
    raise AssertionError("paging did not end")


def test_a_group_whose_rows_are_too_large_together_is_rejected_and_the_next_is_not(cloud: Cloud) -> None:
    large = [put(n, f"k{n}", {"x": "y" * 1_800}, group=1) for n in range(1, 4)]
    told = cloud.push(ANN, push(*large, put(4, "k4", {"x": "y" * 1_800})))
    assert [result.code for result in told.results] == ["group_rejected", "group_rejected", "group_too_large", None]
    assert [(item.key, item.version) for item in all_items(cloud)] == [("k4", 1)]


def test_a_group_that_is_undone_takes_back_the_cloud_version_too(cloud: Cloud) -> None:
    reached = migration(1, cloud_version="3.0.0").model_copy(update={"group": 2})
    told = cloud.push(ANN, push(reached, patch(2, "missing", {}, group=2), migration(3, cloud_version="2.0.0")))
    assert [result.code for result in told.results] == ["group_rejected", "gone", None]
    assert cloud.hello(ANN, hello()).cloud_version == "2.0.0"


def test_a_row_without_fields_that_goes_in_one_of_several_changes_was_nothing_to_lose(cloud: Cloud) -> None:
    cloud.push(ANN, push(put(1, "empty", {}), put(2, "full", {"n": 1}), device="phone"))
    told = cloud.push(
        ANN, push(changes(1, "full", change("delete", "empty"), change("delete", "full")), device="laptop")
    )
    assert [result.overwrote for result in told.results] == [{"1": {"n": 1}}]
    told = cloud.push(ANN, push(put(3, "empty", {}), device="phone"))
    told = cloud.push(ANN, push(changes(2, "empty", change("delete", "empty")), device="laptop"))
    assert [result.overwrote for result in told.results] == [None]


def test_each_edition_is_made_once_and_one_that_fails_leaves_nothing(tmp_path: Path) -> None:
    first = statements("schema", directory=SERVER_SQL)["edition_1"]
    SqliteStorage(str(tmp_path), clock=SystemClock(), editions=[first]).close()
    with pytest.raises(apsw.SQLError):
        SqliteStorage(str(tmp_path), clock=SystemClock(), editions=[first, "CREATE TABLE second (n); nonsense"])
    assert edition_of(tmp_path) == (1, False)
    SqliteStorage(str(tmp_path), clock=SystemClock(), editions=[first, "CREATE TABLE second (n)"]).close()
    assert edition_of(tmp_path) == (2, True)
    with pytest.raises(StoreSuperseded):
        SqliteStorage(str(tmp_path), clock=SystemClock(), editions=[first])


def edition_of(folder: Path) -> tuple[int, bool]:
    connection = open_server_db(str(folder / "cloud.db"))
    try:
        second = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'second'").get
        return connection.execute("PRAGMA user_version").get, bool(second)
    finally:
        connection.close()


@pytest.mark.parametrize(
    "name",
    ["changes_after", "patches_between", "rows_at", "patches_at", "mark_at", "old_tombstones", "page", "receipts"],
)
def test_no_statement_reads_more_than_it_needs_or_sorts_what_an_index_has_in_order(
    cloud: Cloud, tmp_path: Path, name: str
) -> None:
    connection = open_server_db(str(tmp_path / "data" / "cloud.db"))
    text = statements("cloud", directory=SERVER_SQL)[name]
    plan = [
        row[3]
        for row in connection.execute("EXPLAIN QUERY PLAN " + text, dict.fromkeys(re.findall(r":(\w+)", text), "[]"))
    ]
    connection.close()
    assert plan
    # What was asked for is scanned, and sorted where it is asked by several keys.
    assert not [step for step in plan if "SCAN" in step and "VIRTUAL TABLE" not in step], plan
    if name not in ("patches_between", "patches_at"):
        assert not [step for step in plan if "TEMP B-TREE" in step], plan
