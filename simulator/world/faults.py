"""What befalls a world: each fault is planned with its moment and its number before anything happens."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from simulator.world.damage import damage_store
from simulator.world.leaving import look_with_older_app, sign_out, wipe_user
from simulator.world.room import limit_rows
from simulator.world.words import words_in

if TYPE_CHECKING:
    from simulator.world.device import Device
    from simulator.world.history import World

FLAP_MS = (1_000, 30_000)
TOGGLES = 10
DISK_FAILURES = ("full", "io", "read_only")
DISK_FAILS_MS = (2_000, 90_000)
_COPIED_UNSENT = (
    "SELECT set_json FROM _sync_outbox UNION ALL SELECT body FROM _sync_quarantine WHERE resolution IS NULL"
)


class Faults:
    """Plans all faults of one world's plan."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._plan = world.plan
        self._ground = world.ground

    def plan_all(self) -> None:
        for device in self._world.devices:
            self._plan_for(device, self._ground.chance.stream("faults", device.name))
        self._plan_for_cloud(self._ground.chance.stream("faults", "cloud"))

    def _plan_for(self, device: "Device", chance: random.Random) -> None:
        plan = self._plan
        if plan.partitions:
            self._plan_partitions(device, chance)
        if plan.upgrades:
            for _ in range(plan.upgrades_each):
                self._some_time(chance, partial(self._world.upgrade, device, chance.random()))
        if plan.downgrades:
            self._some_time(chance, partial(self._when_on, device, partial(look_with_older_app, self._world, device)))
        if plan.switches_users and len(device.users) > 1:
            for _ in range(3):
                self._some_time(chance, partial(self._when_on, device, partial(self._switch_user, device)))
        if plan.leaves:
            self._plan_leaving(device, chance)
        if plan.clocks_jump:
            for _ in range(plan.jumps_each):
                jump_ms = chance.randint(-plan.jump_ms_max, plan.jump_ms_max)
                self._some_time(chance, partial(self._jump, device, jump_ms))
        if plan.power_share:
            self._some_time(chance, partial(self._when_on, device, device.cut_power))
        for _ in range(plan.disk_failures):
            self._plan_disk_failure(device, chance)

    def _plan_for_cloud(self, chance: random.Random) -> None:
        plan = self._plan
        if plan.restores_cloud:
            self._plan_restore(chance)
        if plan.forgets_tombstones:
            self._some_time(chance, self._forget_tombstones)
        if plan.clones:
            device = chance.choice(self._world.devices)
            self._some_time(chance, partial(self._when_on, device, partial(self._clone, device)))
        if plan.damages:
            device = chance.choice(self._world.devices)
            own = self._ground.chance.stream("damage", device.name)
            self._some_time(chance, partial(self._when_on, device, partial(damage_store, self._world, device, own)))
        if plan.room_rows:
            self._some_time(chance, self._limit_rows)
        if plan.requests_per_minute:
            self._some_time(chance, self._limit_requests)
        if plan.cloud_fails:
            for _ in range(3):
                self._some_time(chance, self._world.cloud.lose_power_soon)
            kind, lasts_ms = chance.choice(("full", "io")), chance.randint(*DISK_FAILS_MS)
            self._some_time(chance, partial(self._fail_cloud, kind, lasts_ms))

    def _some_time(self, chance: random.Random, event: Callable[[], object]) -> None:
        moment_ms = chance.randrange(self._plan.faults_ms)
        if self._ground.ordinals.planned():
            self._ground.after(moment_ms, lambda: event() if self._world.in_faults else None)

    def _when_on(self, device: "Device", event: Callable[[], object]) -> None:
        if device.engine is not None:
            event()

    # Lines.

    def _plan_partitions(self, device: "Device", chance: random.Random) -> None:
        for begins_ms, ends_ms, kind in self._cuts(device, chance):
            if self._ground.ordinals.planned():
                self._ground.after(begins_ms, partial(self._part, device, kind))
                self._ground.after(ends_ms, partial(self._part, device, ""))

    def _cuts(self, device: "Device", chance: random.Random) -> Iterator[tuple[int, int, str]]:
        whole_ms = self._plan.faults_ms
        match self._plan.pattern:
            case "long":
                begins_ms = chance.randrange(whole_ms // 4)
                yield begins_ms, begins_ms + whole_ms * 3 // 4, "both"
            case "late_start":
                yield 0, chance.randrange(whole_ms // 4, whole_ms * 3 // 4), "both"
            case "flapping":
                at_ms = 0
                while at_ms < whole_ms:
                    up_ms, down_ms = chance.randint(*FLAP_MS), chance.randint(*FLAP_MS)
                    yield at_ms + up_ms, at_ms + up_ms + down_ms, chance.choice(("both", "answers"))
                    at_ms += up_ms + down_ms
            case "toggle":
                for _ in range(TOGGLES):
                    begins_ms = chance.randrange(whole_ms)
                    yield begins_ms, begins_ms + chance.randrange(1_000, whole_ms // TOGGLES), "both"
            case "dead_device" if device is self._world.devices[-1]:
                yield chance.randrange(whole_ms // 2), whole_ms, "dead"
            case _:
                for _ in range(2):
                    begins_ms, lasts_ms = chance.randrange(whole_ms), chance.randrange(whole_ms // 2)
                    yield begins_ms, begins_ms + lasts_ms, chance.choice(("both", "both", "answers"))

    def _part(self, device: "Device", kind: str) -> None:
        if kind == "dead":
            self._ground.saw("device_died", phase=device.phase)
            self._ground.note(device.name, "dies")
            device.is_dead = True
            device.switch_off()
            return
        device.partition = kind if self._world.in_faults else ""
        self._ground.note("network", "partition" if device.partition else "connected", device.name, device.partition)

    # Machines.

    def _jump(self, device: "Device", jump_ms: int) -> None:
        self._ground.saw("clock_jumped", phase=device.phase)
        self._ground.note(device.name, "clock_jumped", jump_ms)
        device.clock.skew_ms += jump_ms

    def _plan_disk_failure(self, device: "Device", chance: random.Random) -> None:
        kind, lasts_ms = chance.choice(DISK_FAILURES), chance.randint(*DISK_FAILS_MS)
        self._some_time(chance, partial(self._fail_disk, device, self._plan.disk_failure or kind, lasts_ms))

    def _fail_disk(self, device: "Device", kind: str, lasts_ms: int) -> None:
        self._ground.saw(f"disk_{kind}", phase=device.phase)
        self._ground.note(device.name, "disk_fails", kind)
        device.drive.failure = kind
        self._ground.after(lasts_ms, partial(self._world.mend_disk, device))

    def _clone(self, device: "Device") -> None:
        if device.is_damaged:
            return  # its copy would be damaged as well, and nobody would know
        self._ground.saw("cloned", phase=device.phase)
        self._ground.note(device.name, "cloned")
        # What lies in quarantine may be sent again at both desks.
        with device.drive.works():
            copied = device.store.query(_COPIED_UNSENT)
        self._world.ledger.copied.update(*(words_in(text) for (text,) in copied))
        device.switch_off()
        self._world.add_clone(device)
        device.switch_on()

    # The cloud.

    def _plan_restore(self, chance: random.Random) -> None:
        copied_ms = chance.randrange(self._plan.faults_ms)
        restored_ms = chance.randint(copied_ms, self._plan.faults_ms - 1)
        if self._ground.ordinals.planned():
            self._ground.after(copied_ms, self._copy_cloud)
            self._ground.after(restored_ms, self._restore_cloud)

    def _copy_cloud(self) -> None:
        self._ground.note("cloud", "copied")
        self._world.cloud.make_copy()

    def _restore_cloud(self) -> None:
        if self._world.cloud.restore_copy():
            self._ground.note("cloud", "restored")
            self._ground.saw("cloud_restored")

    def _forget_tombstones(self) -> None:
        if not self._world.cloud.drive.failure:
            self._ground.note("cloud", "forgets_tombstones")
            self._ground.saw("tombstones_forgotten")
            self._world.cloud.forget_tombstones()

    def _fail_cloud(self, kind: str, lasts_ms: int) -> None:
        self._ground.note("cloud", "disk_fails", kind)
        self._ground.saw(f"cloud_disk_{kind}")
        self._world.cloud.drive.failure = kind
        self._ground.after(lasts_ms, self._world.cloud.mend)

    def _limit_rows(self) -> None:
        self._ground.note("cloud", "limits_rows", self._plan.room_rows)
        self._ground.saw("rows_limited")
        limit_rows(self._world.cloud, self._plan.room_rows)

    def _limit_requests(self) -> None:
        self._ground.note("cloud", "limits_requests", self._plan.requests_per_minute)
        self._ground.saw("requests_limited")
        self._world.cloud.limit_requests(self._plan.requests_per_minute)

    # People.

    def _switch_user(self, device: "Device") -> None:
        self._ground.saw("user_switched", phase=device.phase)
        device.sign_in(next(user for user in device.users if user != device.user))

    def _plan_leaving(self, device: "Device", chance: random.Random) -> None:
        unsent = chance.choice(("refuse", "keep", "export", "destroy"))
        self._some_time(chance, partial(self._when_on, device, partial(sign_out, self._world, device, unsent=unsent)))
        user = chance.choice(device.users)
        if chance.random() < 0.5:
            self._some_time(chance, partial(self._when_on, device, partial(wipe_user, self._world, device, user)))
