"""Two devices of one user and a real server process between them: edited offline, upgraded one after the other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncengine import Collection, Engine, ListedMigration, MigrationRegistry, migration, tables
from tests.conformance.server_process import ServerProcess

pytestmark = pytest.mark.acceptance

TRIPS_V1 = """CREATE TABLE trips (
  user_id TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL, minutes INTEGER, note TEXT, picture BLOB,
  PRIMARY KEY (user_id, id)
) STRICT;"""
TRIPS_V2 = """CREATE TABLE trips (
  user_id TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, seconds INTEGER, note TEXT, picture BLOB, mood TEXT,
  PRIMARY KEY (user_id, id)
) STRICT;"""
SAME = ("user_id", "id", "note", "picture")


@migration(id="trips-2", collection="trips", from_version="1.0.0", to_version="2.0.0", table=TRIPS_V2)
def trips_2(old: dict[str, Any]) -> dict[str, Any]:
    seconds = None if old["minutes"] is None else old["minutes"] * 60
    return {**{name: old[name] for name in SAME}, "name": old["title"], "seconds": seconds, "mood": None}


@trips_2.down
def trips_1(new: dict[str, Any]) -> dict[str, Any]:
    minutes = None if new["seconds"] is None else new["seconds"] // 60
    return {**{name: new[name] for name in SAME}, "title": new["name"], "minutes": minutes}


def registry(version: str) -> MigrationRegistry:
    make = tables(id="trips-1", from_version="0.0.0", to_version="1.0.0", create=(TRIPS_V1,))
    return MigrationRegistry(
        app="trips",
        baseline="0.0.0",
        target=version,
        collections=(Collection("trips"),),
        migrations=(
            ListedMigration("trips-1", "0.0.0 > 1.0.0", make),
            ListedMigration("trips-2", "1.0.0 > 2.0.0", trips_2),
        ),
        asks_for_major=False,
    )


class Device:
    """A store, and whatever version of the app is installed."""

    def __init__(self, path: Path, *, url: str, token: str) -> None:
        self._path, self.url, self._token = path, url, token
        self.install("1.0.0")

    def install(self, version: str) -> None:
        """The app is closed, replaced and started again; offline, as far as it can tell."""
        self.close()
        self.engine = Engine.open(
            self._path, registry=registry(version), user="ann", cloud_url=self.url, token=lambda: self._token
        )
        self.engine.migrate()

    def close(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()

    def write(self, sql: str, *values: Any) -> None:
        with self.engine.write() as db:
            db.execute(sql, values)

    def trips(self) -> dict[str, dict[str, Any]]:
        with self.engine.read() as db:
            rows = list(db.query("SELECT * FROM trips ORDER BY id"))
        return {row.pop("id"): {name: row[name] for name in row if name != "user_id"} for row in rows}

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with self.engine.read() as db:
            return list(db.query(sql))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "cloud") as server:
        yield server


@pytest.fixture
def devices(server: ServerProcess, tmp_path: Path) -> Iterator[tuple[Device, Device]]:
    token = server.sign_in("ann")
    one, two = (Device(tmp_path / f"{name}.db", url=server.url, token=token) for name in ("one", "two"))
    yield one, two
    one.close()
    two.close()


def settle(*devices: Device, rounds: int = 3) -> None:
    for _ in range(rounds):
        for device in devices:
            device.engine.sync_now()


def test_edits_conflicts_and_deletions_of_two_devices_come_to_one_state(devices: tuple[Device, Device]) -> None:
    one, two = devices
    one.write(
        "INSERT INTO trips VALUES ('ann', 'a', 'lake', 30, NULL, x'00ff'), ('ann', 'b', 'hill', 40, NULL, NULL)"
    )
    two.write("INSERT INTO trips VALUES ('ann', 'c', 'town', NULL, 'made on two', NULL)")
    settle(one, two)
    assert one.trips() == two.trips()
    assert one.trips().keys() == {"a", "b", "c"}
    assert two.trips()["a"]["picture"] == b"\x00\xff"

    # Both are offline: different fields, the same field, a deletion.
    one.write("UPDATE trips SET title = 'lake by one', note = 'note of one' WHERE id = 'a'")
    two.write("UPDATE trips SET title = 'lake by two', minutes = 35 WHERE id = 'a'")
    one.write("DELETE FROM trips WHERE id = 'b'")
    two.write("DELETE FROM trips WHERE id = 'c'")
    settle(one, two)
    lake = {"title": "lake by two", "minutes": 35, "note": "note of one", "picture": b"\x00\xff"}
    assert one.trips() == two.trips() == {"a": lake}
    told = two.rows('SELECT "key", field, winner FROM sync_conflicts')
    for device in devices:
        status = device.engine.status()
        assert status.synced
        assert (status.reading.at_head, status.reading.parked) == (True, 0)
    assert two.engine.status().reading.conflicts == len(told)


def test_a_trigger_that_fires_itself_without_end_keeps_no_other_row_from_its_device(
    devices: tuple[Device, Device],
) -> None:
    one, two = devices
    one.write("INSERT INTO trips (user_id, id, title) VALUES ('ann', 'a', 'lake'), ('ann', 'b', 'hill')")
    settle(one, two)
    one.write("CREATE TRIGGER stamp AFTER UPDATE ON trips BEGIN UPDATE trips SET note = datetime('now'); END")
    two.write("UPDATE trips SET title = 'lake, newly' WHERE id = 'a'")
    two.write("INSERT INTO trips (user_id, id, title) VALUES ('ann', 'c', 'town')")
    settle(two, one)
    assert {key: trip["title"] for key, trip in one.trips().items()} == {"a": "lake", "b": "hill", "c": "town"}
    (item,) = one.rows('SELECT origin, "key", reason FROM sync_quarantine')
    assert (item["origin"], item["key"]) == ("pull", "a")
    assert "a WHEN that is false for its own change (triggers of the app on it: stamp)" in item["reason"]
    assert one.engine.status().quarantined == 1

    one.write("DROP TRIGGER stamp")
    one.engine.quarantine.retry(one.engine.quarantine.items()[0].item_id)
    settle(one, two)
    assert one.trips() == two.trips()


def test_one_device_is_upgraded_and_the_other_goes_on_with_the_old_app(devices: tuple[Device, Device]) -> None:
    old, new = devices
    old.write("INSERT INTO trips VALUES ('ann', 'a', 'lake', 30, 'n', NULL), ('ann', 'b', 'hill', 40, NULL, NULL)")
    settle(old, new)

    new.install("2.0.0")
    new.write("UPDATE trips SET mood = 'happy', name = 'lake, newly' WHERE id = 'a'")
    old.write("UPDATE trips SET minutes = 90, note = 'by the old app' WHERE id = 'a'")
    old.write("UPDATE trips SET title = 'hill, by the old app' WHERE id = 'b'")
    settle(old, new)

    # The new app sees all of it: the old app's edit was lifted, and took nothing of what it does not know.
    lake = {"name": "lake, newly", "seconds": 5400, "note": "by the old app", "picture": None, "mood": "happy"}
    assert new.trips()["a"] == lake
    assert new.trips()["b"]["name"] == "hill, by the old app"
    # The old app keeps its last known form of what it cannot read, and says so.
    assert old.trips()["a"]["note"] == "by the old app"
    assert [row["reason"] for row in old.rows("SELECT reason FROM sync_parked")] == ["newer_shape"]
    assert not old.engine.status().synced

    old.write("UPDATE trips SET note = 'once more, by the old app' WHERE id = 'a'")
    settle(old, new)
    assert new.trips()["a"] == {**lake, "note": "once more, by the old app"}

    old.install("2.0.0")
    assert old.trips()["a"] == new.trips()["a"], "what was parked is read at once, without the network"
    settle(old, new)
    assert old.trips() == new.trips()
    assert old.engine.status().synced
    assert new.engine.status().synced
    assert new.rows("SELECT * FROM sync_outbox") == old.rows("SELECT * FROM sync_outbox") == []


def test_a_device_that_is_too_old_hands_over_its_queue(
    devices: tuple[Device, Device], server: ServerProcess, tmp_path: Path
) -> None:
    old, new = devices
    old.write("INSERT INTO trips VALUES ('ann', 'a', 'lake', 30, NULL, NULL)")
    settle(old, new)
    new.install("2.0.0")
    old.write("UPDATE trips SET minutes = 31 WHERE id = 'a'")
    old.write("INSERT INTO trips VALUES ('ann', 'last', 'last trip', 5, NULL, NULL)")
    server.stop()
    with ServerProcess(tmp_path / "cloud", "--schema-min", "trips=2.0.0") as strict:
        for device, version in ((old, "1.0.0"), (new, "2.0.0")):
            device.url = strict.url
            device.install(version)
        new.write("INSERT INTO trips VALUES ('ann', 'n', 'new', 60, NULL, NULL, 'glad')")
        new.engine.sync_now()
        told = old.engine.sync_now()
        assert (told.applied, told.ended) == (2, "too_old_to_read")
        assert "n" not in old.trips(), "it may not read any more"
        status = old.engine.status()
        assert (status.connectivity.verdict, status.connectivity.reason) == ("schema_blocked", "too_old_to_read")
        assert (status.outbox.unsent, status.synced) == (0, False)
        assert "this app is too old for the cloud" in str(old.engine.explain("trips", "a"))
        assert old.engine.flush().reason == "drained"
        settle(new)
        assert new.trips()["a"]["seconds"] == 31 * 60
        assert new.trips()["last"]["name"] == "last trip"
        old.install("2.0.0")
        settle(old, new)
        assert old.trips() == new.trips()
        assert old.engine.status().connectivity.verdict == "online"
        old.close()
        new.close()
