"""What a cloud gives each user: so many rows, and so many requests a minute; and who judges that it keeps to it."""

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.world.clock import DeviceClock
from simulator.world.ground import Ground, PromiseBroken
from simulator.world.people import Change
from syncengine.errors import RateLimited
from syncengine.server.pace import Pace, paced
from syncengine.server.request_body import RequestRefused
from syncengine.server.sign_in import SignIn
from syncengine.vocabulary import UserId

if TYPE_CHECKING:
    from simulator.world.cloud import WorldCloud
    from simulator.world.device import Device
    from simulator.world.history import World

MINUTE_MS = 60_000
ROUNDS_TO_MAKE_ROOM_MAX = 4
"""The first may hear of something else, the next that there is no room; the one after takes the deletions along."""
A_LITTLE = 0.001
"""Buckets are counted in fractions of a request."""


class Requests:
    """At most so many of each user a minute, and at once. `wrong`: what the server's own count did not see."""

    def __init__(self, per_minute_max: int, *, ground: Ground) -> None:
        self.wrong = ""
        self._max = per_minute_max
        self._ground = ground
        self._pace = Pace(per_minute_max, clock=DeviceClock(ground.time))
        self._taken: dict[str, list[int]] = {}
        """When each request of a user was taken."""

    def sign_in(self, door: SignIn) -> SignIn:
        """The door of a server that counts, and somebody beside it who counts as well."""
        counted = paced(door, self._pace)

        def user_of(token: str) -> UserId | None:
            try:
                user = counted(token)
            except RequestRefused:
                self._ground.saw("too_many_requests")
                self._judge(token, is_taken=False)
                raise
            self._judge(token, is_taken=True)
            return user

        return user_of

    def take(self, user: str) -> None:
        """A request that is handed over as a value. Raises RateLimited."""
        try:
            self.sign_in(UserId)(user)
        except RequestRefused as refused:
            wait_ms = 1_000 * (refused.retry_after_s or 0)
            raise RateLimited("The world's cloud wants a rest.", retry_after_ms=wait_ms) from refused

    def _judge(self, token: str, *, is_taken: bool) -> None:
        """No span of time has more requests than were there at its beginning and came since."""
        now_ms = self._ground.time.at_ms
        taken = self._taken.setdefault(token, [])
        spans = [len(taken) - at + 1 - (1 + (now_ms - each) / MINUTE_MS) * self._max for at, each in enumerate(taken)]
        worst = max(spans, default=1 - self._max)
        if is_taken:
            taken.append(now_ms)
        if is_taken and worst > A_LITTLE:
            self.wrong = f"more than {self._max} requests a minute were taken"
        elif not is_taken and worst <= -A_LITTLE:
            self.wrong = f"a request was refused, and fewer than {self._max} a minute had come"


def check_pace(requests: Requests | None) -> None:
    """P3: the cloud takes as many requests of a user as it says, and refuses none before."""
    if requests is not None and requests.wrong:
        raise PromiseBroken(f"P3: {requests.wrong}")


def limit_rows(cloud: "WorldCloud", rows_max: int) -> None:
    """A user may have so many rows from now on; 0: as many as they like. What there is stays."""
    cloud.rows_max = rows_max
    cloud.cloud.limits = replace(cloud.cloud.limits, user_rows_max=rows_max or None)
    cloud.opinion.limit_rows(rows_max)


def make_room(world: "World") -> None:
    """Where a device is stuck for want of room, a person deletes all that it shows; then the operator gives more."""
    for device in world.living if world.cloud.rows_max else ():
        if device.is_healthy and is_stuck(device):
            _delete_all(device)
            if len(queue_of(device)) <= world.plan.batch_entries:
                check_deletions_get_through(world, device)
            break
    limit_rows(world.cloud, 0)


def is_stuck(device: "Device") -> bool:
    """The last thing that its user heard is that there is no room."""
    return device.outbox().drain_state(device.user).last_error == "quota_exceeded"


def is_in_doubt(device: "Device") -> bool:
    """Something waits that another copy of this store may have sent."""
    return bool(device.store.query(_DOUBTFUL, (device.user,)))


_DOUBTFUL = (
    "SELECT entry_id FROM _sync_outbox JOIN _sync_drain USING (owner) WHERE owner = ? AND entry_id <= doubtful_to"
)


def queue_of(device: "Device") -> list[int]:
    """What waits of its user."""
    return [found for (found,) in device.store.query(_QUEUE, (device.user,))]


_QUEUE = "SELECT entry_id FROM _sync_outbox WHERE owner = ? AND state <> 'squashed'"


def _delete_all(device: "Device") -> None:
    changes = []
    for name in (device.app.marks, *reversed(dict.fromkeys(device.app.written))):
        for key in device.keys(name):
            device.edits_made += 1
            changes.append(Change(kind="delete", collection=name, key=key, number=device.edits_made, values={}))
    device.write(changes)


def check_deletions_get_through(world: "World", device: "Device") -> None:
    """P10: who deletes all that a device shows gets rid of its queue, although there is no room at the cloud.

    Its queue is small enough for one request: what makes room and what needs it travel together. Not so in a store
    that was copied, while it has entries that its copy may have sent: of each row one is on its way then.
    """
    world.ground.saw("made_room")
    world.ground.note(device.name, "makes_room")
    for _ in range(ROUNDS_TO_MAKE_ROOM_MAX):
        world.one_round(device)
        if not queue_of(device) or not is_stuck(device) or is_in_doubt(device):
            return
    raise PromiseBroken(f"P10: all was deleted on {device.name}, and it still waits for room at the cloud")
