"""The shipped cloud's own rules on a database of this world, with a witness who writes down what took effect."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from simulator.world.clock import DeviceClock
from simulator.world.disk import Drive
from simulator.world.ground import Ground
from simulator.world.network import error_of
from simulator.world.room import Requests
from simulator.world.second_opinion import SecondOpinion
from simulator.world.words import words_in
from syncengine import Settings
from syncengine.errors import BackendUnavailable, BackendUnreachable, CursorGone, QuotaExceeded, SyncEngineError
from syncengine.remote.encoded_push import EncodedPush
from syncengine.remote.wire import (
    EntryKind,
    HealthAnswer,
    HelloAnswer,
    HelloRequest,
    PullAnswer,
    PullItem,
    PullRequest,
    PushAnswer,
    PushEntry,
    PushRequest,
    RowsAnswer,
    RowsRequest,
)
from syncengine.server.cloud import Cloud, CloudLimits, Pushed
from syncengine.server.push_reading import Entry, Push
from syncengine.server.receipts import told
from syncengine.server.request_body import parse_body
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.server.storage import Lane
from syncengine.sync.calls import Answer, Carried
from syncengine.sync.courier import carry
from syncengine.testing.images import Files
from syncengine.vocabulary import UserId

if TYPE_CHECKING:
    from simulator.world.wire import Wire

Given = TypeVar("Given")
Answered = Answer | SyncEngineError
WIRE_SETTINGS = Settings(compress="always")

TOOK_EFFECT = ("applied", "merged")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One entry that took effect. `life`: of the cloud's database; `push`: which request it came in."""

    life: int
    push: int
    user: str
    device: str
    sequence: int
    kind: str
    collection: str
    key: str
    shape: str
    words: frozenset[str]
    values: dict[str, Any]
    """By column, all that it wrote."""


class _Witnessed(Cloud):
    """The shipped rules; whatever comes in, as values or as text, passes the witness."""

    def __init__(self, world: "WorldCloud", storage: SqliteStorage, *, clock: DeviceClock) -> None:
        super().__init__(storage, clock=clock, limits=CloudLimits(user_rows_max=world.rows_max or None))
        self._world = world
        self.storage = storage

    def hello(self, user: UserId, request: HelloRequest) -> HelloAnswer:
        answer = super().hello(user, request)
        self._world.opinion.hello(request)
        return answer

    def _pushed(self, user: UserId, push: Push) -> Pushed:
        work = super()._pushed
        return self._world.pushed(user, push, lambda: work(user, push))


class WorldCloud:
    """A cloud for some users. `backend_of` is what a device's calls are carried to."""

    def __init__(self, drive: Drive, *, ground: Ground, users: tuple[str, ...]) -> None:
        self.users = users
        self.effects: list[Effect] = []
        self.words: set[str] = set()
        """All that took effect."""
        self.pushes = 0
        self.life = 0
        self.compactions = 0
        self.drive = drive
        self._backup: Files | None = None
        self._ground = ground
        self._clock = DeviceClock(ground.time)
        self._chance = ground.chance
        self._loses_power = False
        self._lost: tuple[int, Lane, Push, int] | None = None
        self._cuts = 0
        self._wire: Wire | None = None
        self.rows_max = 0
        """So many may each user have; 0: as many as they like."""
        self.requests: Requests | None = None
        """Who counts them, where there may be so many a minute."""
        self.opinion = SecondOpinion(users)
        self._opened = 0
        self.cloud = self._open()
        for user in users:
            self.cloud.accept_token(UserId(user), token=f"a-token-of-{user}")

    def _open(self) -> _Witnessed:
        self._opened += 1
        chance = self._chance.stream("cloud", self._opened)
        failure, self.drive.failure = self.drive.failure, ""
        storage = SqliteStorage(str(self.drive.folder), clock=self._clock, chance=chance)
        opened = _Witnessed(self, storage, clock=self._clock)
        self.drive.failure = failure
        return opened

    def close(self) -> None:
        self._close()
        if self._wire is not None:
            self._wire.close()

    def _close(self) -> None:
        """What SQLite does while it closes a file it keeps to itself, also on a disk that fails."""
        failure, self.drive.failure = self.drive.failure, ""
        self.cloud.close()
        self.drive.failure = failure

    def carry(self, call: Carried, *, request_id: str, lane: str, clock: DeviceClock, fate: str = "") -> Answered:
        """What the cloud answers, or what whoever stands in its place does: an answer or an error."""
        try:
            if lane == "core":
                if self.requests is not None and not fate:
                    self.requests.take(call.user)
                return error_of(fate) if fate else carry(Door(self, UserId(call.user)), call, request_id=request_id)
            return self._over_the_wire(call, request_id=request_id, clock=clock, fate=fate)
        except SyncEngineError as error:
            return error

    def _over_the_wire(self, call: Carried, *, request_id: str, clock: DeviceClock, fate: str) -> Answer:
        if self._wire is None:
            from simulator.world.wire import Wire

            self._wire = Wire(self)
        backend = self._wire.backend(call.user, settings=WIRE_SETTINGS, clock=clock, fate=fate)
        return carry(backend, call, request_id=request_id)

    def lose_power_soon(self) -> None:
        """At some moment within the next push."""
        self._loses_power = True

    def mend(self) -> None:
        """Its disk works again."""
        self.drive.failure = ""

    def pushed(self, user: UserId, push: Push, work: Callable[[], Pushed]) -> Pushed:
        """As the cloud does it, and written down."""
        self.pushes += 1
        lane = Lane(user=user, device=push.device, epoch=push.epoch)
        mark, before = self.drive.mark(), self.cloud.storage.device_sequence(lane)
        answer = self._answer_of(push, work)
        if self._loses_power:
            self._lost = mark, lane, push, before
            return answer
        results = told(answer.results)
        self.opinion.push(push, results)
        self._witness_all(lane, push, {int(str(each["sequence"])): each for each in results})
        return answer

    def _answer_of(self, push: Push, work: Callable[[], Pushed]) -> Pushed:
        try:
            return work()
        except QuotaExceeded:
            self._ground.saw("no_room")
            self.opinion.has_no_room(push)
            raise

    def limit_requests(self, per_minute_max: int) -> None:
        """A user may make so many a minute from now on."""
        self.requests = Requests(per_minute_max, ground=self._ground)

    def power(self) -> None:
        """When the power went within a push: what is left of it is looked up, and nobody hears an answer."""
        if self._lost is None:
            return
        (mark, lane, push, before), self._lost, self._loses_power = self._lost, None, False
        failure, self.drive.failure = self.drive.failure, ""
        now = self.drive.mark()
        self._close()
        self._cuts += 1
        self.drive.cut(between=(mark, now), chance=self._chance.stream("cloud_cut", self._cuts))
        self.cloud = self._open()
        last = self.cloud.storage.device_sequence(lane)
        self._ground.saw("cloud_power_cut", phase="kept" if last > before else "lost")
        self._ground.note("cloud", "power_cut", "kept" if last > before else "lost")
        # A lane that is closed has the highest number there is: none comes after it.
        kept = self.cloud.storage.receipts(lane, first=before + 1, last=last) if last > before else {}
        results = told((receipt.outcome, receipt) for receipt in kept.values())
        if kept:
            self.opinion.push(push, results)
        self._witness_all(lane, push, {int(str(each["sequence"])): each for each in results})
        self.drive.failure = failure
        raise BackendUnreachable("The world's cloud lost power.")

    def _witness_all(self, lane: Lane, push: Push, results: dict[int, dict[str, object]]) -> None:
        for entry in push.entries:
            result = results.get(entry.sequence)
            if result is not None and result["status"] in TOOK_EFFECT and not result.get("skipped"):
                self._witness(lane, entry)

    def _witness(self, lane: Lane, entry: Entry) -> None:
        changes = entry.changes or () if isinstance(entry, PushEntry) else ()
        told = [entry.set, [change.set for change in changes]]
        # A lift says again what took effect before.
        words = frozenset() if entry.kind is EntryKind.LIFT else words_in(orjson.dumps(told).decode())
        self.words |= words
        self.effects.append(
            Effect(
                life=self.life,
                push=self.pushes,
                user=lane.user,
                device=lane.device,
                sequence=entry.sequence,
                kind=entry.kind.value,
                collection=entry.collection,
                key=entry.key,
                shape=entry.shape_version,
                words=words,
                values=entry.set or {},
            )
        )

    def documents(self, user: str) -> list[PullItem]:
        """Every row of a user, tombstones too, with what lies beside it."""
        found: list[PullItem] = []
        cursor: str | None = None
        while True:
            request = PullRequest(request_id="witness", user=user, device="witness", cursor=cursor)
            page = self.cloud.pull(UserId(user), request)
            found += page.items
            cursor = page.cursor
            if not page.more:
                return found

    # What happens to its database.

    def make_copy(self) -> None:
        """Somebody makes a backup."""
        self._close()
        self._backup = self.drive.files()
        self.opinion.copy()
        self.cloud = self._open()

    def restore_copy(self) -> bool:
        """The backup is brought back, and all since is lost. False when there is none."""
        if self._backup is None:
            return False
        self._close()
        self.drive.go_on_with(self._backup)
        self.opinion.restore()
        self.life += 1
        self.cloud = self._open()
        return True

    def forget_tombstones(self) -> None:
        """Whoever has not read of these deletions has to read from the start."""
        self.compactions += 1
        self.cloud.compact(keep_days=0)
        self.opinion.forget()


class Door:
    """The Backend of one user, where calls are handed over as values."""

    def __init__(self, world_cloud: WorldCloud, user: UserId) -> None:
        self._world_cloud = world_cloud
        self._user = user

    def hello(self, request: HelloRequest) -> HelloAnswer:
        return self._carried(lambda cloud: cloud.hello(self._user, request))

    def push(self, request: PushRequest) -> PushAnswer:
        return self._carried(lambda cloud: cloud.push(self._user, request))

    def push_encoded(self, push: EncodedPush) -> PushAnswer:
        """Read from the bytes that would travel."""
        request, _ = parse_body(push.body(), model=PushRequest)
        return self.push(request)

    def pull(self, request: PullRequest) -> PullAnswer:
        return self._carried(lambda cloud: cloud.pull(self._user, request))

    def rows(self, request: RowsRequest) -> RowsAnswer:
        return self._carried(lambda cloud: cloud.rows(self._user, request))

    def health(self, nonce: str) -> HealthAnswer:
        return self._world_cloud.cloud.health(nonce)

    def close(self) -> None:
        """Nothing is held open."""

    def _carried(self, ask: Callable[[Cloud], Given]) -> Given:
        """What a disk does to the cloud is a 500 to who has asked, as its handlers answer it."""
        world = self._world_cloud
        failed = world.drive.failed
        try:
            answer = ask(world.cloud)
        except Exception as error:
            if world.drive.failed == failed or isinstance(error, CursorGone):
                raise
            raise BackendUnavailable("The world's cloud failed.", why=type(error).__name__) from error
        world.power()
        return answer
