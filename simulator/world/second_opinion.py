"""What the cloud should have answered: a cloud in memory, by other hands, is asked the same and must agree."""

from typing import Any

from simulator.world.memory_cloud import MemoryCloud
from syncengine.errors import QuotaExceeded, SyncEngineError
from syncengine.remote.wire import EntryResult, HelloRequest, PullItem, PushEntry, PushRequest
from syncengine.server.push_reading import Push

COMPARED = ("status", "outcome", "version", "code", "overwrote")


class SecondOpinion:
    """Follows one cloud, call by call. `disagrees`: the first difference, in words; empty while there is none."""

    def __init__(self, users: tuple[str, ...]) -> None:
        self.disagrees = ""
        self._cloud = MemoryCloud()
        for user in users:
            self._cloud.sign_in(user)

    def hello(self, request: HelloRequest) -> None:
        self._of(request.user).hello(request)

    def push(self, push: Push, results: list[dict[str, object]]) -> None:
        """The cloud has answered this."""
        try:
            expected = self._of(push.user).push(_request_of(push)).results
        except SyncEngineError as refusal:
            self._differ(f"{push.device} was answered, and should have heard {refusal.code()}")
            return
        answered = {each["sequence"]: each for each in results}
        for should in expected:
            did = answered.get(should.sequence)
            if did is not None and (told := _difference(should, did)):
                self._differ(f"entry {should.sequence} of {push.device}: {told}")

    def has_no_room(self, push: Push) -> None:
        """The cloud has refused this, as its user would have more rows than they may."""
        try:
            self._of(push.user).push(_request_of(push))
        except QuotaExceeded:
            return
        self._differ(f"{push.device} was told that there is no room, and there is")

    def limit_rows(self, rows_max: int) -> None:
        self._cloud.rows_max = rows_max

    def documents(self, user: str, found: list[PullItem]) -> None:
        """What the cloud has of a user, row by row."""
        rows = self._cloud.users[user].rows
        here = {(item.collection, item.key): _facts(item) for item in found}
        there = {place: (row.version, row.shape, row.body, len(row.patches)) for place, row in rows.items()}
        for place in sorted(here.keys() | there.keys()):
            if here.get(place) != there.get(place):
                self._differ(f"{place} of {user} is {here.get(place)}, and should be {there.get(place)}")

    def copy(self) -> None:
        self._cloud.take_copy()

    def restore(self) -> None:
        self._cloud.bring_copy_back()

    def forget(self) -> None:
        self._cloud.forget_deleted()

    def _of(self, user: str) -> Any:
        return self._cloud.backend(f"token of {user}")

    def _differ(self, told: str) -> None:
        self.disagrees = self.disagrees or told


def _request_of(push: Push) -> PushRequest:
    return PushRequest.model_construct(
        request_id=push.request_id,
        user=push.user,
        device=push.device,
        epoch=push.epoch,
        entries=tuple(_as_entry(entry) for entry in push.entries),
    )


def _as_entry(entry: Any) -> PushEntry:
    return entry if isinstance(entry, PushEntry) else PushEntry.model_construct(**entry._asdict())


def _difference(should: EntryResult, did: dict[str, object]) -> str:
    for name in COMPARED:
        wanted, found = getattr(should, name), did.get(name)
        if wanted != found and not (wanted is None and found is None):
            return f"its {name} is {found}, and should be {wanted}"
    left_out = did.get("skipped") or ()
    assert isinstance(left_out, list | tuple)
    if tuple(should.skipped or ()) != tuple(left_out):
        return f"left out was {left_out}, and should be {should.skipped}"
    return ""


def _facts(item: PullItem) -> tuple[object, ...]:
    return item.version, item.shape_version, item.body, len(item.patches)
