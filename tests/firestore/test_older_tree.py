"""Hero's Path's generation 1 in Firestore becomes generation 2, while an app of generation 1 goes on writing."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from google.cloud import firestore

from migrations.firestore_generation1 import TREES
from simulator.emulator import PROJECT, FirestoreEmulator, id_token
from syncengine.errors import BackendUnavailable, BackendUnreachable
from syncengine.firestore.backend import FirestoreBackend
from syncengine.firestore.older_tree import OlderTree, OldRow
from tests.conformance.device_requests import delete, hello, patch, pull, push, put, rows
from tests.firestore.between import Between

Open = Callable[..., FirestoreBackend]


class OldPhone:
    """The app of generation 1, as it wrote its documents: by Google's own client."""

    def __init__(self, client: firestore.Client, user: str = "ann") -> None:
        self.walks = client.collection(f"journeys/{user}/journeys")
        self.discoveries = client.collection(f"journeys/{user}/discoveries")
        self.dismissed = client.collection(f"journeys/{user}/dismissed")
        self.client = client

    def walk(self, name: str, **fields: Any) -> None:
        """Variant 1b."""
        points = [{"latitude": 35.65951, "longitude": 139.70044, "timestamp": 1753221600000 + n} for n in range(3)]
        self.walks.document(name).set(
            {
                "id": name,
                "userId": "ann",
                "name": f"Walk {name}",
                "startTime": 1753221600000,
                "endTime": 1753223460000,
                "route": points,
                "distance": 1234.5,
                "duration": 1860000,
                "status": "completed",
                "createdAt": firestore.SERVER_TIMESTAMP,
                "updatedAt": firestore.SERVER_TIMESTAMP,
                **fields,
            }
        )

    def rename(self, walk: str, name: str) -> None:
        self.walks.document(walk).update({"name": name, "updatedAt": firestore.SERVER_TIMESTAMP})


@pytest.fixture
def phone(emulator: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[OldPhone]:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)
    client = firestore.Client(project=PROJECT)
    emulator.set_shipped_rules(own="match /journeys/{uid}/{rest=**} { allow read: if request.auth.uid == uid; }")
    yield OldPhone(client)
    emulator.set_shipped_rules()
    client.close()


@pytest.fixture
def opened(emulator: FirestoreEmulator, phone: OldPhone) -> Iterator[Open]:
    """A device with the app of generation 2, which knows where the older one keeps its documents."""
    backends: list[FirestoreBackend] = []

    def open_backend(host: str | None = None, *, trees: tuple[OlderTree, ...] = TREES) -> FirestoreBackend:
        at = host or emulator.host
        backends.append(FirestoreBackend(PROJECT, token=lambda: id_token("ann"), emulator=at, older=trees))
        return backends[-1]

    yield open_backend
    for backend in backends:
        backend.close()


def bodies(backend: FirestoreBackend, collection: str = "journeys") -> dict[str, dict]:
    return {row.key: row.body for row in backend.rows(rows(collection=collection, limit=1000)).rows}


def test_each_document_of_generation_1_becomes_a_row_and_stays_where_it_was(phone: OldPhone, opened: Open) -> None:
    phone.walk("w1")
    phone.walks.document("w0").set(
        {"id": "w0", "name": "12 Jul 25 18:57", "route": [{"latitude": 1.5, "longitude": 2}]}
    )
    phone.walks.document("broken").set({"id": "broken", "updatedAt": firestore.SERVER_TIMESTAMP})
    phone.discoveries.document("d1").set(
        {
            "id": "d1",
            "journeyId": "w1",
            "placeId": "ChIJ-1",
            "placeName": "Fuglen",
            "location": {"lat": 35.6, "lng": 139.7},
            "saved": True,
            "placeData": {"types": ["cafe"], "photo": "https://maps.example/p?key=SECRET"},
            "updatedAt": firestore.SERVER_TIMESTAMP,
        }
    )
    phone.dismissed.document("ChIJ-2").set({"placeId": "ChIJ-2", "dismissedAt": firestore.SERVER_TIMESTAMP})
    ann = opened()
    said = ann.bring_over("ann")
    assert (said.read, said.written, said.set_aside) == (5, 4, 1)
    assert said.is_whole
    walk = bodies(ann)["w1"]
    assert (walk["name"], walk["start_time"], walk["duration"]) == ("Walk w1", 1753221600000, 1860000.0)
    assert bodies(ann)["w0"]["start_time"] is None
    assert bodies(ann, "places")["d1"]["saved"] == 1
    assert "SECRET" not in str(bodies(ann, "places"))
    assert bodies(ann, "dismissed_places")["ChIJ-2"]["place_id"] == "ChIJ-2"
    assert {item.shape_version for item in ann.pull(pull()).items} == {"2.0.0"}
    assert {each.id for each in phone.walks.stream()} == {"w0", "w1", "broken"}
    checked = ann.check_older("ann")
    assert (checked.read, checked.written, checked.set_aside, checked.missing) == (5, 4, 1, 0)


def test_bringing_over_again_changes_nothing_on_any_device(phone: OldPhone, opened: Open) -> None:
    for n in range(60):
        phone.walk(f"w{n:02d}")
    ann = opened()
    assert ann.bring_over("ann").written == 60
    head = ann.hello(hello()).head
    for device in (ann, opened()):
        said = device.bring_over("ann")
        assert (said.written, said.unchanged) == (0, said.read)
    assert ann.bring_over("ann", again=True).unchanged == 60
    assert ann.hello(hello()).head == head


def test_two_devices_at_once_bring_each_document_over_once(phone: OldPhone, opened: Open) -> None:
    for n in range(120):
        phone.walk(f"w{n:03d}")

    def bring() -> None:
        device = opened()
        while True:
            try:
                device.bring_over("ann")
            except BackendUnavailable:
                continue
            return

    threads = [threading.Thread(target=bring) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    said = opened().hello(hello())
    assert said.head == 120
    assert len(bodies(opened())) == 120


def test_a_device_that_is_cut_off_again_and_again_gets_there(
    emulator: FirestoreEmulator, phone: OldPhone, opened: Open
) -> None:
    for n in range(230):
        phone.walk(f"w{n:03d}")
    with Between(emulator.host) as between:
        ann = opened(between.host)
        cuts = 0
        while True:
            between.lose_answer("commit")
            try:
                ann.bring_over("ann")
                break
            except BackendUnreachable:
                cuts += 1
        assert cuts >= 5
    assert opened().hello(hello()).head == 230
    checked = opened().check_older("ann")
    assert (checked.read, checked.written, checked.missing) == (230, 230, 0)


def test_what_the_older_app_writes_later_comes_over_at_the_next_round(phone: OldPhone, opened: Open) -> None:
    phone.walk("w1")
    ann = opened()
    ann.hello(hello())
    assert bodies(ann)["w1"]["name"] == "Walk w1"
    ann.push(push(patch(1, "w1", {"status": "reviewed"}, shape="2.0.0")))
    phone.rename("w1", "Along the canal")
    phone.walk("w2")
    checked = ann.check_older("ann")
    assert (checked.missing, checked.is_whole) == (2, False)
    ann.hello(hello())
    walk = bodies(ann)["w1"]
    assert (walk["name"], walk["status"]) == ("Along the canal", "reviewed")
    assert "w2" in bodies(ann)
    assert ann.check_older("ann").missing == 0


def test_a_row_of_a_newer_shape_is_not_overwritten_by_the_older_app(phone: OldPhone, opened: Open) -> None:
    """What it writes lies beside the row, as of every app of an older shape, until a device lifts it."""
    phone.walk("w1")
    ann = opened()
    ann.hello(hello())
    version = ann.pull(pull()).items[0].version
    ann.push(push(put(1, "w1", {"id": "w1", "title": "new", "duration_s": 60.0}, shape="3.0.0", base=version)))
    phone.rename("w1", "Renamed by the old phone")
    ann.hello(hello())
    item = ann.pull(pull()).items[0]
    assert (item.shape_version, item.body) == ("3.0.0", {"id": "w1", "title": "new", "duration_s": 60.0})
    assert [each.set["name"] for each in item.patches] == ["Renamed by the old phone"]


def test_what_was_deleted_in_the_new_app_stays_deleted(phone: OldPhone, opened: Open) -> None:
    phone.walk("w1")
    ann = opened()
    ann.hello(hello())
    ann.push(push(delete(1, "w1", shape="2.0.0")))
    phone.rename("w1", "still here")
    assert ann.bring_over("ann").kept == 1
    assert bodies(ann) == {}


def test_no_document_is_passed_by_while_an_old_phone_writes(phone: OldPhone, opened: Open) -> None:
    """Its batches commit in another order than the times in them, so each round reads the last minutes again."""
    written: list[str] = []

    def write(thread: int) -> None:
        for turn in range(6):
            batch = phone.client.batch()
            for n in range(1 if turn % 2 else 20):
                name = f"w{thread}-{turn:03d}-{n:02d}"
                batch.set(phone.walks.document(name), {"route": [], "updatedAt": firestore.SERVER_TIMESTAMP})
                written.append(name)
            batch.commit()
            time.sleep(0.1)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for each in threads:
        each.start()
    ann = opened()
    while any(each.is_alive() for each in threads):
        ann.hello(hello())
    ann.hello(hello())
    assert ann.check_older("ann").missing == 0
    assert set(bodies(ann)) == set(written)
    assert len(written) == 3 * (3 * 20 + 3)


def test_a_commit_that_lands_behind_a_later_time_is_not_passed_by(phone: OldPhone, opened: Open) -> None:
    """It began first, and so it bears the earlier time; it was seen last."""
    ann = opened()
    ann.hello(hello())
    phone.walk("quick")
    ann.hello(hello())
    assert set(bodies(ann)) == {"quick"}
    seen = phone.walks.document("quick").get().get("updatedAt")
    phone.walk("slow", updatedAt=seen - timedelta(seconds=60))
    ann.hello(hello())
    assert set(bodies(ann)) == {"quick", "slow"}
    assert ann.check_older("ann").missing == 0


def test_what_an_author_could_not_read_is_tried_again_when_asked(phone: OldPhone, opened: Open) -> None:
    phone.walk("w1")

    def fails(name: str, document: dict) -> list[OldRow]:
        raise ValueError("canary in the message")

    broken = OlderTree(id="t", path="journeys/{uid}/journeys", converted=fails, shape_version="2.0.0")
    ann = opened(trees=(broken,))
    assert ann.bring_over("ann").set_aside == 1
    assert ann.bring_over("ann").set_aside == 0
    (record,) = phone.client.collection("users/ann/~brought").stream()
    assert record.get("reason") == "ValueError"
    mended = OlderTree(id="t", path=broken.path, converted=TREES[0].converted, shape_version="2.0.0")
    device = opened(trees=(mended,))
    assert device.bring_over("ann").written == 0
    assert device.bring_over("ann", again=True).written == 1
    assert set(bodies(device)) == {"w1"}
