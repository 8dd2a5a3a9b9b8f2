"""The shipped cloud's own rules on a database of this world, with a witness who writes down what took effect."""

from dataclasses import dataclass

import orjson

from simulator.world.chance import Chance
from simulator.world.clock import DeviceClock, WorldTime
from simulator.world.disk import Drive
from simulator.world.words import words_in
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
from syncengine.server.cloud import Cloud
from syncengine.server.request_body import parse_body
from syncengine.server.storage import Storage
from syncengine.testing.images import Files
from syncengine.vocabulary import UserId

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


class WorldCloud:
    """A cloud for some users. `backend_of` is what a device's calls are carried to."""

    def __init__(self, drive: Drive, *, time: WorldTime, chance: Chance, users: tuple[str, ...]) -> None:
        self.users = users
        self.effects: list[Effect] = []
        self.pushes = 0
        self.life = 0
        self.compactions = 0
        self.drive = drive
        self._backup: Files | None = None
        self._clock = DeviceClock(time)
        self._chance = chance
        self._opened = 0
        self.cloud = self._open()
        for user in users:
            self.cloud.accept_token(UserId(user), token=f"a token of {user}")

    def _open(self) -> Cloud:
        self._opened += 1
        chance = self._chance.stream("cloud", self._opened)
        return Cloud(Storage(str(self.drive.folder), clock=self._clock, chance=chance), clock=self._clock)

    def close(self) -> None:
        self.cloud.close()

    def backend_of(self, user: str) -> "Door":
        """The cloud as one user's token opens it."""
        return Door(self, UserId(user))

    def push(self, user: UserId, request: PushRequest) -> PushAnswer:
        """As the cloud does it, and written down."""
        answer = self.cloud.push(user, request)
        self.pushes += 1
        for entry, result in zip(request.entries, answer.results, strict=True):
            if result.status in TOOK_EFFECT and not result.skipped:
                self._witness(user, request, entry)
        return answer

    def _witness(self, user: UserId, request: PushRequest, entry: PushEntry) -> None:
        told = [entry.set, [change.set for change in entry.changes or ()]]
        self.effects.append(
            Effect(
                life=self.life,
                push=self.pushes,
                user=user,
                device=request.device,
                sequence=entry.sequence,
                kind=entry.kind.value,
                collection=entry.collection,
                key=entry.key,
                shape=entry.shape_version,
                # A lift says again what took effect before.
                words=frozenset() if entry.kind is EntryKind.LIFT else words_in(orjson.dumps(told).decode()),
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
        self.cloud.close()
        self._backup = self.drive.files()
        self.cloud = self._open()

    def restore_copy(self) -> bool:
        """The backup is brought back, and all since is lost. False when there is none."""
        if self._backup is None:
            return False
        self.cloud.close()
        self.drive.go_on_with(self._backup)
        self.life += 1
        self.cloud = self._open()
        return True

    def forget_tombstones(self) -> None:
        """Whoever has not read of these deletions has to read from the start."""
        self.compactions += 1
        self.cloud.compact(keep_days=0)


class Door:
    """The Backend of one user."""

    def __init__(self, world_cloud: WorldCloud, user: UserId) -> None:
        self._world_cloud = world_cloud
        self._user = user

    def hello(self, request: HelloRequest) -> HelloAnswer:
        return self._world_cloud.cloud.hello(self._user, request)

    def push(self, request: PushRequest) -> PushAnswer:
        return self._world_cloud.push(self._user, request)

    def push_encoded(self, push: EncodedPush) -> PushAnswer:
        """Read from the bytes that would travel."""
        request, _ = parse_body(push.body(), model=PushRequest)
        return self.push(request)

    def pull(self, request: PullRequest) -> PullAnswer:
        return self._world_cloud.cloud.pull(self._user, request)

    def rows(self, request: RowsRequest) -> RowsAnswer:
        return self._world_cloud.cloud.rows(self._user, request)

    def health(self, nonce: str) -> HealthAnswer:
        return self._world_cloud.cloud.health(nonce)

    def close(self) -> None:
        """Nothing is held open."""
