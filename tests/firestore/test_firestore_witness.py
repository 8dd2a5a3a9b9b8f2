"""Google's own Python client looks at what the backend wrote, and tries what the security rules forbid."""

import base64
from collections.abc import Iterator

import httpx
import pytest
from google.cloud import firestore

from simulator.emulator import PROJECT, FirestoreEmulator, id_token
from syncengine.errors import AuthRequired
from syncengine.firestore.backend import FirestoreBackend
from tests.conformance.device_requests import delete, hello, patch, pull, push, put, rows


@pytest.fixture
def ann(emulator: FirestoreEmulator) -> Iterator[FirestoreBackend]:
    backend = FirestoreBackend(PROJECT, token=lambda: id_token("ann"), emulator=emulator.host)
    yield backend
    backend.close()


@pytest.fixture
def witness(emulator: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[firestore.Client]:
    """Google's client over gRPC, as the project's owner."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)
    client = firestore.Client(project=PROJECT)
    yield client
    client.close()


def test_googles_client_reads_each_row_as_the_app_wrote_it(ann: FirestoreBackend, witness: firestore.Client) -> None:
    body = {
        "title": "Along the canal é日😀",
        "points": 12,
        "most": 2**63 - 1,
        "distance_m": 0.1 + 0.2,
        "whole": 3.0,
        "is_done": True,
        "note": None,
        "tags": ["walk", 1, 2.5, None],
        "place": {"lat": 35.6, "nested": {"deep": [{"x": 1}]}},
        "photo": {"$blob": base64.b64encode(bytes(range(256))).decode()},
    }
    ann.push(push(put(1, "j-1", body)))
    seen = witness.document("users/ann/journeys/j-1").get().to_dict()
    ours = seen.pop("_sync")
    assert seen == {**body, "photo": bytes(range(256))}
    assert [type(seen[name]) for name in ("points", "whole", "is_done")] == [int, float, bool]
    assert (ours["version"], ours["group"], ours["shape"], ours["key"]) == (1, 1, "1.0.0", "j-1")
    assert abs((ours["at"] - witness.document("users/ann/journeys/j-1").get().update_time).total_seconds()) < 60


def test_googles_client_sees_what_a_patch_and_a_delete_leave(
    ann: FirestoreBackend, witness: firestore.Client
) -> None:
    ann.push(push(put(1, "a", {"x": 1, "y": 1}), put(2, "b", {}), patch(3, "a", {"x": 2}), delete(4, "b")))
    found = {each.id: each.to_dict() for each in witness.collection("users/ann/journeys").stream()}
    assert {name: found["a"][name] for name in ("x", "y")} == {"x": 2, "y": 1}
    assert found["b"].keys() == {"_sync"}
    assert found["b"]["_sync"]["deleted"] is True
    state = witness.document("users/ann/~sync/state").get().to_dict()
    assert (state["head"], state["lanes"], state["collections"]) == (4, {"phone:1": 4}, {"journeys": 4})
    receipts = list(witness.collection("users/ann/~receipts").stream())
    assert [(each.get("first"), each.get("last"), each.get("last_version")) for each in receipts] == [(1, 4, 4)]


def test_counts_of_googles_client_agree_with_pages_and_pulls(
    ann: FirestoreBackend, witness: firestore.Client
) -> None:
    ann.push(push(*(put(n, f"k{n}", {"n": n}) for n in range(1, 121))))
    (counted,) = witness.collection("users/ann/journeys").count().get()
    assert counted[0].value == 120 == len(ann.rows(rows(limit=1000)).rows) == len(ann.pull(pull()).items)


def _write(emulator: FirestoreEmulator, path: str, fields: dict, *, user: str | None) -> httpx.Response:
    update = {"update": {"name": f"{emulator.documents}/{path}", "fields": fields}}
    return emulator.commit([update], token=id_token(user) if user else "f" * 64)


SYNC_2 = {"_sync": {"mapValue": {"fields": {"version": {"integerValue": "2"}, "group": {"integerValue": "2"}}}}}


@pytest.mark.parametrize("path", ["", "/journeys/a", "/~sync/state", "/~receipts/phone%3A1~0000000000000000001"])
def test_no_user_reads_or_writes_below_another(ann: FirestoreBackend, emulator: FirestoreEmulator, path: str) -> None:
    """By Firestore's own rules, whatever a changed app may send."""
    ann.push(push(put(1, "a", {"canary": "only ann"})))
    name = f"{emulator.documents}/users/ann{path}"
    for user in ("bob", None):
        token = id_token(user) if user else "f" * 64
        headers = {"Authorization": f"Bearer {token}"}
        read = emulator.owner.post(f"/v1/{emulator.documents}:batchGet", json={"documents": [name]}, headers=headers)
        query = {"structuredQuery": {"from": [{"collectionId": "journeys"}]}}
        asked = emulator.owner.post(f"/v1/{emulator.documents}/users/ann:runQuery", json=query, headers=headers)
        wide = {"structuredQuery": {"from": [{"collectionId": "journeys", "allDescendants": True}]}}
        everywhere = emulator.owner.post(f"/v1/{emulator.documents}:runQuery", json=wide, headers=headers)
        written = _write(emulator, f"users/ann{path}", SYNC_2, user=user)
        removed = emulator.commit([{"delete": name}], token=token)
        for answer in (read, asked, everywhere, written, removed):
            assert answer.status_code in (400, 403), answer.text
            assert "canary" not in answer.text
    assert [row.body for row in ann.rows(rows()).rows] == [{"canary": "only ann"}]


def test_no_program_writes_a_row_without_raising_the_counter(
    ann: FirestoreBackend, emulator: FirestoreEmulator
) -> None:
    """Not even under its own user's token: the pulls of other devices would pass such a row by."""
    ann.push(push(put(1, "a", {"n": 1})))
    for fields in ({}, SYNC_2, {"n": {"integerValue": "9"}}):
        assert _write(emulator, "users/ann/journeys/a", fields, user="ann").status_code == 403
        assert _write(emulator, "users/ann/journeys/new", fields, user="ann").status_code == 403
    name = f"{emulator.documents}/users/ann/journeys/a"
    assert emulator.commit([{"delete": name}], token=id_token("ann")).status_code == 403
    assert [row.body for row in ann.rows(rows()).rows] == [{"n": 1}]


def test_the_counter_is_never_lowered_and_receipts_are_for_good(
    ann: FirestoreBackend, emulator: FirestoreEmulator
) -> None:
    ann.push(push(put(1, "a", {"n": 1}), put(2, "b", {})))
    state, receipt = (
        next(each for each in emulator.all_documents() if part in each["name"]) for part in ("/~sync/", "/~receipts/")
    )
    for field, value in (("head", "1"), ("epoch", "1"), ("floor", "-1"), ("cursor_key", "")):
        kind = "stringValue" if field == "cursor_key" else "integerValue"
        lowered = {**state["fields"], field: {kind: value}}
        assert _write(emulator, "users/ann/~sync/state", lowered, user="ann").status_code == 403
    path = receipt["name"].removeprefix(f"{emulator.documents}/")
    assert _write(emulator, path, receipt["fields"], user="ann").status_code == 403
    for each in (state, receipt):
        assert emulator.commit([{"delete": each["name"]}], token=id_token("ann")).status_code == 403


def test_a_token_of_another_user_sends_nothing_and_one_that_the_rules_refuse_keeps_the_queue(
    emulator: FirestoreEmulator,
) -> None:
    eve = FirestoreBackend(PROJECT, token=lambda: id_token("eve"), emulator=emulator.host)
    with pytest.raises(AuthRequired, match="another user"):
        eve.push(push(put(1, "a", {})))
    eve.close()
    emulator.set_rules(
        "service cloud.firestore { match /databases/{d}/documents { match /{all=**} { allow read: if false; } } }"
    )
    try:
        ann = FirestoreBackend(PROJECT, token=lambda: id_token("ann"), emulator=emulator.host)
        with pytest.raises(AuthRequired, match="rules forbid"):
            ann.hello(hello())
        ann.close()
    finally:
        emulator.set_shipped_rules()
    assert emulator.all_documents() == []
