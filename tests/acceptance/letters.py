"""A small app of one table, its devices, and a witness in the server's database that nobody can talk to.

`python -m tests.acceptance.letters STORE URL USER TOKEN DEVICE` is the app as a process: a line of JSON on stdin is
an edit or a round, and is answered with one line: the word that was written, or how the round ended.
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.processes import ChildProcess
from simulator.store_sight import sight
from syncengine import Collection, Engine, ListedMigration, MigrationRegistry, tables
from syncengine.clock import SystemClock
from syncengine.errors import SyncEngineError
from syncengine.local.connection import open_server_db
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.settings import Settings

FIELDS = ("one", "two", "copy")
"""Each device writes into a field of its own, so that nothing of it may be lost to another's."""
TABLE = """CREATE TABLE letters (
  user_id TEXT NOT NULL, id TEXT NOT NULL, one TEXT, two TEXT, copy TEXT, weight REAL, PRIMARY KEY (user_id, id)
) STRICT;"""
REGISTRY = MigrationRegistry(
    app="letters",
    baseline="0.0.0",
    target="1.0.0",
    collections=(Collection("letters"),),
    migrations=(
        ListedMigration(
            "letters-1",
            "0.0.0 > 1.0.0",
            tables(id="letters-1", from_version="0.0.0", to_version="1.0.0", create=(TABLE,)),
        ),
    ),
    asks_for_major=False,
)
SETTINGS = Settings(push_entries_max=3, pull_items_max=7, request_wait_ms_max=5_000)
"""Small pushes and pages, so that a round has many calls in which it can go wrong."""

PROCESS_WAIT_MS_MAX = 20_000

Doc = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user, and where and how the server knows them."""

    user: str
    token: str
    cloud_folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One acknowledged edit: the word that it wrote into its device's field, or None for a deletion."""

    device: str
    key: str
    word: str | None


class LettersStore:
    """A store and its acknowledged edits: those whose block has ended, so that the app may rely on them."""

    def __init__(self, path: Path, *, name: str) -> None:
        self.path, self.name = path, name
        self.edits: list[Edit] = []

    def letters(self) -> dict[str, Doc]:
        """What its user sees, without what is empty."""
        with sight(self.path) as seen:
            rows = seen.bodies("SELECT id, one, two, copy, weight FROM letters ORDER BY id")
        return {row.pop("id"): _filled(row) for row in rows}

    def outbox(self) -> list[tuple[Any, ...]]:
        with sight(self.path) as seen:
            return seen.rows("SELECT row_key, state, epoch, sequence FROM _sync_outbox ORDER BY entry_id")

    def set_aside(self) -> list[tuple[str, str, str]]:
        """Key, contents and reason of each item in quarantine."""
        with sight(self.path) as seen:
            return seen.rows("SELECT row_key, body, error_text FROM _sync_quarantine WHERE resolution IS NULL")


class Device(LettersStore):
    """An engine on a store. `name` is the field that it writes into."""

    def __init__(self, path: Path, *, url: str, account: Account, name: str) -> None:
        super().__init__(path, name=name)
        self._url, self._account = url, account
        self.open()

    def open(self) -> None:
        self.engine = Engine.open(
            self.path,
            registry=REGISTRY,
            user=self._account.user,
            cloud_url=self._url,
            token=lambda: self._account.token,
            settings=SETTINGS,
        )
        self.engine.migrate()

    def close(self) -> None:
        self.engine.close()

    def keep_image(self) -> None:
        """The store as it is at this moment, from any thread."""
        with self.engine.snapshot() as image:
            shutil.copyfile(image, self.path.with_suffix(".image"))

    def go_back_to_image(self) -> None:
        """The power went at that moment; the app starts again."""
        self.close()
        for path in self.path.parent.glob(f"{self.path.name}-*"):
            path.unlink()
        self.path.with_suffix(".image").replace(self.path)
        self.open()

    def write(self, *keys: str, weight: float | None = None) -> None:
        """One atomic edit that writes a new word into each of these letters, which are made where missing."""
        words = {key: f"{self.name}-{key}-{len(self.edits) + number}" for number, key in enumerate(keys)}
        sql = (
            f"INSERT INTO letters (user_id, id, {self.name}, weight) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
            f" SET {self.name} = excluded.{self.name}, weight = coalesce(excluded.weight, weight)"
        )
        with self.engine.write() as db:
            for key, word in words.items():
                db.execute(sql, (self._account.user, key, word, weight))
        self.edits += [Edit(device=self.name, key=key, word=word) for key, word in words.items()]

    def delete(self, key: str) -> None:
        with self.engine.write() as db:
            db.execute("DELETE FROM letters WHERE id = ?", (key,))
        self.edits.append(Edit(device=self.name, key=key, word=None))

    def sync(self) -> str:
        """A round that may fail; how it ended."""
        try:
            return self.engine.sync_now(timeout_ms=20_000).ended
        except SyncEngineError as error:
            return error.code()


class AppProcess(LettersStore):
    """The same in a process of its own, which can be killed."""

    def __init__(self, path: Path, *, url: str, account: Account, name: str) -> None:
        super().__init__(path, name=name)
        self._arguments = (str(path), url, account.user, account.token, name)
        self.start()

    def start(self) -> None:
        self._process = ChildProcess("tests.acceptance.letters", *self._arguments, log=self.path.with_suffix(".log"))
        assert self._heard() == "open"

    def write(self, key: str) -> None:
        self._process.say(json.dumps({"write": key}))
        self.edits.append(Edit(device=self.name, key=key, word=self._heard()))

    def begin_sync(self) -> None:
        """A round of which nothing is heard yet."""
        self._process.say(json.dumps({"sync": True}))

    def sync(self) -> str:
        self.begin_sync()
        return self._heard()

    def kill(self) -> None:
        """No code of it runs any more."""
        self._process.kill()

    def close(self) -> None:
        self._process.stop()

    def _heard(self) -> str:
        line = self._process.line(wait_ms_max=PROCESS_WAIT_MS_MAX)
        assert line is not None, "the app has ended"
        return line


def settle(*devices: Device | AppProcess, rounds_max: int = 40) -> None:
    """Rounds until every queue is empty and every device has read all; each may fail on the way."""
    ended: list[str] = []
    for _ in range(rounds_max):
        ended = [device.sync() for device in devices]
        if set(ended) == {"drained"} and not any(device.outbox() for device in devices) and _is_agreed(devices):
            return
    left = {device.name: device.outbox() for device in devices}
    raise AssertionError(f"after {rounds_max} rounds nothing is at rest: {ended}, {left}")


def _is_agreed(devices: Sequence[LettersStore]) -> bool:
    first, *others = (_shared(device) for device in devices)
    return all(other == first for other in others)


def _shared(device: LettersStore) -> dict[str, Doc]:
    """Its letters without those of which something was set aside."""
    aside = {key for key, _, _ in device.set_aside()}
    return {key: body for key, body in device.letters().items() if key not in aside}


# The judge.

# Rows that look new are written before it is known that others are not, and taken back in the same transaction then.
WITNESS = """
CREATE TABLE witness (tenant TEXT, key TEXT, version INTEGER, before TEXT, after TEXT);
CREATE TRIGGER witness_of_new AFTER INSERT ON document
BEGIN
  INSERT INTO witness VALUES (new.tenant, new.key, new.version, NULL, new.body);
END;
CREATE TRIGGER witness_of_changed AFTER UPDATE ON document
BEGIN
  INSERT INTO witness VALUES (new.tenant, new.key, new.version, old.body, new.body);
END;
CREATE TRIGGER witness_of_taken_back AFTER DELETE ON document
BEGIN
  DELETE FROM witness WHERE (tenant, key, version) = (old.tenant, old.key, old.version) AND before IS NULL;
END;
"""


def place_witness(cloud_folder: Path) -> None:
    """In a database that is made before the server starts on it."""
    SqliteStorage(str(cloud_folder), clock=SystemClock()).close()
    connection = open_server_db(str(cloud_folder / "cloud.db"))
    connection.execute(WITNESS).fetchall()
    connection.close()


class CloudSight:
    """What the server's database holds, and what the witness in it saw."""

    def __init__(self, account: Account) -> None:
        user = account.user
        with sight(account.cloud_folder / "cloud.db") as seen:
            found = seen.rows("SELECT key, version, before, after FROM witness WHERE tenant = :user", user=user)
            documents = seen.rows("SELECT key, body FROM document WHERE tenant = :user AND body NOTNULL", user=user)
            lanes = seen.rows("SELECT DISTINCT device, epoch FROM receipt WHERE tenant = :user", user=user)
        self.lanes = len(lanes)
        """In how many numbered lines the entries came: one for each device that never lost count."""
        self.letters = {key: _filled(json.loads(body)) for key, body in documents}
        self.versions = [version for _, version, _, _ in found]
        self.words: Counter[str] = Counter()
        """How often each word came into a letter."""
        self.deletions: Counter[str] = Counter()
        self.repeated: list[str] = []
        """The letters of writes that changed nothing: something was done again."""
        for key, _, before, after in found:
            self._saw(key, before=_read(before), after=_read(after))

    def _saw(self, key: str, *, before: Doc, after: Doc) -> None:
        if not after:
            self.deletions[key] += 1
        self.words.update(after[name] for name in FIELDS if name in after and after[name] != before.get(name))
        if before == after:
            self.repeated.append(key)


def _read(body: str | None) -> Doc:
    """Nothing for a letter that is not there."""
    return {} if body is None else _filled(json.loads(body))


def _filled(body: Doc) -> Doc:
    return {name: value for name, value in body.items() if value is not None and name != "id"}


def check_exactly_once(account: Account, *devices: LettersStore) -> CloudSight:
    """Every acknowledged edit took effect once, in order, or was set aside with its reason; all have the same."""
    cloud = CloudSight(account)
    edits = [edit for device in devices for edit in device.edits]
    aside = [item for device in devices for item in device.set_aside()]
    effects = cloud.words + cloud.deletions
    assert {what for what, count in effects.items() if count > 1} == set(), "took effect twice"
    assert cloud.words.keys() - {edit.word for edit in edits} == set(), "nobody wrote that"
    assert cloud.repeated == [], "something was done again"
    assert len(cloud.versions) == len(set(cloud.versions))
    assert [edit for edit in edits if _is_lost(edit, edits, cloud, aside)] == [], "acknowledged, and nowhere"
    assert all(why.strip() for _, _, why in aside)
    _check_order(edits, cloud)
    for device in devices:
        assert device.outbox() == []
        assert _shared(device) == _without(cloud.letters, device.set_aside())
    return cloud


def _is_lost(edit: Edit, edits: list[Edit], cloud: CloudSight, aside: list[tuple[str, str, str]]) -> bool:
    """Neither did it take effect, nor was it set aside, nor did its device write something else over it."""
    if edit.word is None:
        return edit.key in cloud.letters
    own = [other for other in edits if (other.device, other.key) == (edit.device, edit.key)]
    return not cloud.words[edit.word] and own[-1] is edit and not any(edit.word in body for _, body, _ in aside)


def _check_order(edits: list[Edit], cloud: CloudSight) -> None:
    """The last word of each device is the one that stays."""
    last = {(edit.device, edit.key): edit.word for edit in edits}
    for (device, key), word in last.items():
        if word in cloud.words and key in cloud.letters:
            assert cloud.letters[key].get(device) == word, "an older edit came over a newer one"


def _without(letters: dict[str, Doc], aside: list[tuple[str, str, str]]) -> dict[str, Doc]:
    keys = {key for key, _, _ in aside}
    return {key: body for key, body in letters.items() if key not in keys}


def main() -> None:
    """The app as a process, until its stdin ends."""
    store, url, user, token, name = sys.argv[1:]
    account = Account(user=user, token=token, cloud_folder=Path())
    device = Device(Path(store), url=url, account=account, name=name)
    print("open", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "write" in asked:
            device.write(asked["write"])
            print(device.edits[-1].word, flush=True)
        else:
            print(device.sync(), flush=True)
    device.close()


if __name__ == "__main__":
    main()
