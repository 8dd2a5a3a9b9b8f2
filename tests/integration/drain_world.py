"""A device's store, the shipped cloud's own rules in this process, and a line between them that can fail."""

import random
import threading
from collections.abc import Callable
from pathlib import Path

from syncengine.clock import SystemClock
from syncengine.errors import BackendUnreachable, BatchRefused, SyncEngineError
from syncengine.events import BatchSent
from syncengine.local.store import Store
from syncengine.outbox.entry import Batch, Result
from syncengine.outbox.queue import Outbox
from syncengine.remote.wire import (
    EntryResult,
    HealthAnswer,
    HelloAnswer,
    HelloRequest,
    PullAnswer,
    PullRequest,
    PushAnswer,
    PushRequest,
    RowsAnswer,
    RowsRequest,
)
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.settings import Settings
from syncengine.sync.calls import Begin, Begun, Call, End, Hello, Push
from syncengine.sync.carriage import Carriage
from syncengine.sync.courier import carry
from syncengine.sync.drain import Draining, Round, RoundHooks, RoundReport, Speaker
from syncengine.sync.round import sync_round
from syncengine.vocabulary import UserId

TABLES = """
CREATE TABLE journeys (
  user_id TEXT NOT NULL, id TEXT NOT NULL, title TEXT, length_m REAL, steps INTEGER, picture BLOB,
  PRIMARY KEY (user_id, id)
) STRICT;
CREATE TABLE notes (
  user_id TEXT NOT NULL, id TEXT NOT NULL, journey TEXT, text TEXT,
  PRIMARY KEY (user_id, id), FOREIGN KEY (user_id, journey) REFERENCES journeys (user_id, id)
) STRICT;
INSERT INTO _sync_collection (name, key_column, owner_column, shape_version, fingerprint)
VALUES ('journeys', 'id', 'user_id', '2.0.0', '-'), ('notes', 'id', 'user_id', '2.0.0', '-');
INSERT INTO _sync_version (scope, schema_version, updated_at)
VALUES ('store', '2.0.0', '2025-01-01T00:00:00.000Z'), ('user:ann', '2.0.0', '2025-01-01T00:00:00.000Z');
"""


class MovableClock(SystemClock):
    """The wall clock stands where it is put; waiting does not move it."""

    def __init__(self) -> None:
        self.wall_ms = 1_750_000_000_000

    def now_ms(self) -> int:
        return self.wall_ms


class Line:
    """A Backend for one user, straight to the cloud. What goes wrong on it is set by the test."""

    def __init__(self, cloud: Cloud, user: str) -> None:
        self.cloud = cloud
        self.user = UserId(user)
        self.lost_answers = 0
        self.refuses: Callable[[PushRequest], SyncEngineError | None] = lambda request: None
        self.pushed: list[PushRequest] = []
        self.applied: list[tuple[int, int]] = []
        self.answered: list[tuple[PushRequest, tuple[EntryResult, ...]]] = []
        self.hellos = 0
        self.down: SyncEngineError | None = None
        self.closed = threading.Event()

    def hello(self, request: HelloRequest) -> HelloAnswer:
        self.hellos += 1
        self._check_up()
        return self.cloud.hello(self.user, request)

    def push(self, request: PushRequest) -> PushAnswer:
        self._check_up()
        self.pushed.append(request)
        if (error := self.refuses(request)) is not None:
            raise error
        answer = self.cloud.push(self.user, request)
        self.applied += [(request.epoch, r.sequence) for r in answer.results if r.status in ("applied", "merged")]
        self.answered.append((request, answer.results))
        if self.lost_answers:
            self.lost_answers -= 1
            raise BackendUnreachable("The answer was lost.")
        return answer

    def pull(self, request: PullRequest) -> PullAnswer:
        self._check_up()
        return self.cloud.pull(self.user, request)

    def rows(self, request: RowsRequest) -> RowsAnswer:
        self._check_up()
        return self.cloud.rows(self.user, request)

    def health(self, nonce: str) -> HealthAnswer:
        self._check_up()
        return self.cloud.health(nonce)

    def close(self) -> None:
        self.closed.set()

    def _check_up(self) -> None:
        if self.down is not None:
            raise self.down


class World:
    """One device of the user ann, and her cloud."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.settings = settings or Settings()
        self.clock = MovableClock()
        self.chance = random.Random(7)
        self.cloud = Cloud(SqliteStorage(str(folder / "cloud"), clock=self.clock), clock=self.clock)
        self.cloud.accept_token(UserId("ann"), token="a token of ann")
        self.line = Line(self.cloud, "ann")
        self.store = self._opened(new=True)
        self.outbox = Outbox(self.store)
        self.events: list[object] = []
        self.settled: list[str] = []
        self.executors: dict[str, object] = {}

    def close(self) -> None:
        self.store.close()
        self.cloud.close()

    def restart(self) -> None:
        """The process ends wherever it is, and another one opens the store."""
        self.store.close()
        self.store = self._opened(new=False)
        self.outbox = Outbox(self.store)

    def _opened(self, *, new: bool) -> Store:
        store = Store(str(self.folder / "app.db"), settings=self.settings, clock=self.clock)
        if new:
            with store.transaction():
                store.connection.execute(TABLES).fetchall()
        store.schema_in_order = store.schema_number()  # no trigger belongs here: tests write the queue themselves
        return store

    # The app.

    def add_journeys(self, *keys: str, owner: str = "ann", title: str = "a walk") -> None:
        with self.store.transaction():
            for key in keys:
                self.store.query("INSERT INTO journeys VALUES (?, ?, ?, 1.5, 7, x'00ff')", (owner, key, title))

    def add_note(self, key: str, *, journey: str, owner: str = "ann") -> None:
        with self.store.transaction():
            self.store.query("INSERT INTO notes VALUES (?, ?, ?, 'text')", (owner, key, journey))

    def upload(self, collection: str = "journeys", owner: str = "ann", migration: str = "up") -> int:
        return self.outbox.queue_uploads(owner=owner, collection=collection, migration=migration)

    def edit(self, *edits: tuple[str, str, str, str | None], owner: str = "ann") -> None:
        """One local transaction: (kind, collection, key, set) for each captured change."""
        with self.store.transaction():
            group = self.store.value("outbox", "advance_groups", count=2) - 1
            for kind, collection, key, set_json in edits:
                self.store.query(
                    "INSERT INTO _sync_outbox (entry_id, owner, kind, collection, row_key, set_json, shape_version,"
                    " group_id, created_ms) VALUES ((SELECT entry_id + 1 FROM _sync_newest_entry), ?, ?, ?, ?, ?,"
                    " '2.0.0', ?, 1735689600000)",
                    (owner, kind, collection, key, set_json, group),
                )

    def captured(self, *edits: tuple[str, str, str, str | None, str | None], owner: str = "ann") -> None:
        """One local transaction with the old values: (kind, collection, key, set, before) as triggers write them."""
        with self.store.transaction():
            group = self.store.value("outbox", "advance_groups", count=2) - 1
            for kind, collection, key, set_json, before_json in edits:
                self.store.query(
                    "INSERT INTO _sync_outbox (entry_id, owner, kind, collection, row_key, set_json, before_json,"
                    " shape_version, group_id, created_ms) VALUES ((SELECT entry_id + 1 FROM _sync_newest_entry),"
                    " ?, ?, ?, ?, ?, ?, '2.0.0', ?, 1735689600000)",
                    (owner, kind, collection, key, set_json, before_json, group),
                )

    def put(self, key: str, text: str = "x", collection: str = "journeys") -> None:
        self.edit(("put", collection, key, f'{{"id":"{key}","title":"{text}"}}'))

    # Sending.

    def round(self, owner: str = "ann", *, overlaps: bool = False) -> Round:
        draining = Draining(
            self.outbox,
            owner,
            Speaker(app="app", device="dev", schema_version="2.0.0"),
            settings=self.settings,
            chance=self.chance,
            barriers=self.executors.__getitem__,
            hooks=RoundHooks(settle=self.settled.append, tell=self.events.append),
            carriage=Carriage(overlaps=overlaps),
        )
        return sync_round(draining)

    def drain(self) -> RoundReport:
        return self.drive(self.round())

    def drive(self, round_: Round, *, stop_at: Callable[[Call], bool] = lambda call: False) -> RoundReport | None:
        """Run a round to its end; or leave it where `stop_at` says, as a killed process would. None: killed."""
        return self.drive_from(round_, next(round_), stop_at=stop_at)

    def drive_one(self, round_: Round) -> None:
        """Carry the hello of a round that has just begun, and the call after it, whose failure nobody hears."""
        hello = Hello(user="ann", app="app", device="dev", epoch=1, schema_version="2.0.0")
        call = round_.send(carry(self.line, hello, request_id="r"))
        carry(self.line, call, request_id="r")

    def drive_from(
        self, round_: Round, call: Call, *, stop_at: Callable[[Call], bool] = lambda call: False
    ) -> RoundReport | None:
        """The same, from a call on that the round has made already."""
        begun: Push | None = None
        try:
            while True:
                if isinstance(call, Begin):
                    begun = call.push
                    call = round_.send(Begun())
                    continue
                # A push that was begun is carried only now, when all that goes on meanwhile has been done.
                carried, begun = (begun, None) if isinstance(call, End) else (call, begun)
                if stop_at(carried):
                    return None
                try:
                    answer = carry(self.line, carried, request_id="r")
                except SyncEngineError as error:
                    call = round_.throw(error)
                else:
                    call = round_.send(answer)
        except StopIteration as stop:
            return stop.value

    def claim(
        self, *, entries_max: int = 500, bytes_max: int = 1_000_000, owner: str = "ann", token: str | None = None
    ) -> Batch:
        return self.outbox.claim(owner, entries_max=entries_max, bytes_max=bytes_max, token=token)

    # Looking.

    def cloud_rows(self, collection: str = "journeys", user: str = "ann") -> dict[str, dict[str, object]]:
        answer = self.cloud.rows(
            UserId(user), RowsRequest(request_id="r", user=user, collection=collection, limit=1000)
        )
        return {row.key: row.body for row in answer.rows}

    def quarantine(self) -> list[tuple[object, ...]]:
        return self.store.query(
            "SELECT item_id, row_key, error_code, resolution FROM _sync_quarantine ORDER BY item_id"
        )

    def states(self) -> dict[str, str]:
        return dict(self.store.query("SELECT row_key, state FROM _sync_outbox"))

    def batches_sent(self) -> list[int]:
        return [event.entries for event in self.events if isinstance(event, BatchSent)]


def applied(batch: Batch, version: int = 1) -> list[Result]:
    return [Result(sequence=e.sequence, status="applied", version=version) for e in batch.entries]


def is_push(call: Call) -> bool:
    return isinstance(call, Push)


def refuses_key(*keys: str, status: int = 400) -> Callable[[PushRequest], SyncEngineError | None]:
    """A cloud that cannot read any request which holds one of these keys with its body."""

    def refuses(request: PushRequest) -> SyncEngineError | None:
        bad = any(entry.key in keys and entry.kind.value != "void" for entry in request.entries)
        return BatchRefused("The request was refused.", status=status) if bad else None

    return refuses
