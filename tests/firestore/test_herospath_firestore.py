"""Hero's Path for real: AsyncStorage on the disk, the local store, and Firestore, where generation 1 goes on."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from google.cloud import firestore

from migrations import registry
from migrations.firestore_generation1 import TREES
from simulator.asyncstorage_writer import WrittenStore, write_store
from simulator.clouds import HEROS_PATH_RULES
from simulator.emulator import PROJECT, FirestoreEmulator, id_token
from syncengine import Engine
from syncengine.firestore.backend import FirestoreBackend

WALKS, PLACES, IN_CLOUD = 60, 20, 130


@pytest.fixture
def cloud(emulator: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[firestore.Client]:
    """Google's client, by which the app of generation 1 wrote."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)
    emulator.set_shipped_rules(own=HEROS_PATH_RULES)
    client = firestore.Client(project=PROJECT)
    yield client
    emulator.set_shipped_rules()
    client.close()


@pytest.fixture
def legacy(tmp_path: Path) -> WrittenStore:
    return write_store(tmp_path / "phone", walks=WALKS, places=PLACES, seed=1)


def old_walk(client: firestore.Client, walk: str, **fields: object) -> None:
    """A document of variant 1b."""
    client.document(f"journeys/ann/journeys/{walk}").set(
        {
            "id": walk,
            "userId": "ann",
            "name": f"Walk {walk}",
            "startTime": 1753221600000,
            "endTime": 1753223460000,
            "route": [
                {"latitude": 35.65951 + n / 1000, "longitude": 139.70044, "timestamp": 1753221600000 + n * 930000}
                for n in range(3)
            ],
            "distance": 222.4,
            "duration": 1860000,
            "status": "completed",
            "createdAt": firestore.SERVER_TIMESTAMP,
            "updatedAt": firestore.SERVER_TIMESTAMP,
            **fields,
        }
    )


def rows_of(engine: Engine) -> dict[str, dict]:
    with engine.read() as db:
        return {row["id"]: dict(row) for row in db["journeys"].rows}


def test_a_phone_with_asyncstorage_and_a_cloud_of_generation_1_comes_to_3_0_0_and_nothing_is_lost(
    tmp_path: Path, emulator: FirestoreEmulator, cloud: firestore.Client, legacy: WrittenStore
) -> None:
    for n in range(IN_CLOUD):
        old_walk(cloud, f"old-{n:03d}")
    old_walk(cloud, "broken", route=None)

    def device(name: str, *, sources: dict[str, str]) -> Engine:
        backend = FirestoreBackend(PROJECT, token=lambda: id_token("ann"), emulator=emulator.host, older=TREES)
        return Engine.open(
            tmp_path / f"{name}.db",
            registry=registry(),
            user="ann",
            sources=sources,
            backend=backend,
            consent=lambda request: True,
        )

    with closing(device("phone", sources={"asyncstorage": str(legacy.path)})) as phone:
        phone.migrate()
        of_asyncstorage = set(rows_of(phone))
        assert len(of_asyncstorage) > WALKS // 2
        assert phone.sync_now().ended == "drained"
        walks = rows_of(phone)
        assert set(walks) == of_asyncstorage | {f"old-{n:03d}" for n in range(IN_CLOUD)}
        # Version 3.0.0 keeps seconds, and the points in a table's column of its own form.
        assert walks["old-007"]["duration_s"] == 1860.0

        old_walk(cloud, "later")
        cloud.document("journeys/ann/journeys/old-007").update(
            {"name": "Named by the old phone", "updatedAt": firestore.SERVER_TIMESTAMP}
        )
        assert phone.sync_now().ended == "drained"
        assert rows_of(phone)["old-007"]["name"] == "Named by the old phone"
        assert "later" in rows_of(phone)

        with closing(device("tablet", sources={})) as tablet:
            tablet.migrate()
            assert tablet.sync_now().ended == "drained"
            phone.sync_now()
            assert rows_of(tablet) == rows_of(phone)
        with phone.write() as db:
            db["journeys"].update(("ann", "old-007"), {"name": "Named by the new phone"})
        assert phone.sync_now().ended == "drained"
        assert phone.status().outbox.waiting == 0

    with closing(
        FirestoreBackend(PROJECT, token=lambda: id_token("ann"), emulator=emulator.host, older=TREES)
    ) as backend:
        checked = backend.check_older("ann")
        assert (checked.read, checked.set_aside, checked.missing) == (IN_CLOUD + 2, 1, 0)
        assert checked.is_whole
    assert cloud.document("journeys/ann/journeys/old-007").get().get("name") == "Named by the old phone"
    assert cloud.document("users/ann/journeys/old-007").get().get("name") == "Named by the new phone"
