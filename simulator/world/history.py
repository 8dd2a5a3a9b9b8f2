"""The history of one world: faults, then healing, then the proof that it comes to rest and goes on."""

import random
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from simulator.world import checks
from simulator.world.app import VERSIONS
from simulator.world.cloud import WorldCloud
from simulator.world.device import Device
from simulator.world.disk import Disks, disks
from simulator.world.ground import Ground, PromiseBroken
from simulator.world.ledger import Ledger
from simulator.world.network import CALM, weather_of
from simulator.world.people import People
from simulator.world.words import words_in
from syncengine import Settings

DAY_MS = 24 * 60 * 60_000
WAKE_MS = 45_000
RAW_SHARE = 0.1
"""So many edits are made by another program."""
WRITES_WHILE_READING = 0.1
BACKOFF_MS_MAX = 120_000
ROUNDS_TO_REST_MAX = 12
"""So many rounds of each user on each device, with faults off, and all must be at rest."""
USERS = ("ann", "ben")
GROUP_REJECTED = "group_rejected"
"""The code of an entry that is good, and came with one that is not."""
NAMES = ("a", "b", "c", "d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a seed decides before anything happens. A test may fix some of it."""

    devices: int
    users: int
    edits_per_device: int
    records_disk: bool
    power_share: float
    partitions: bool
    upgrades: bool
    all_upgrade_at_end: bool
    restores_cloud: bool
    forgets_tombstones: bool
    clones: bool
    switches_users: bool
    clocks_jump: bool
    encodes: bool
    batch_entries: int
    has_weather: bool = True
    faults_ms: int = 20 * 60_000
    """How long the first phase lasts, in this world's time."""


def plan_of(seed: int) -> Plan:
    """The same seed, the same plan."""
    chance = random.Random(f"{seed}/plan")

    def on(share: float) -> bool:
        return chance.random() < share

    return Plan(
        devices=chance.randint(2, 4),
        users=chance.choice((1, 1, 2)),
        edits_per_device=chance.randint(4, 14),
        records_disk=on(0.35),
        power_share=chance.choice((0.0, 0.01, 0.04)),
        partitions=on(0.7),
        upgrades=on(0.7),
        all_upgrade_at_end=on(0.6),
        restores_cloud=on(0.12),
        forgets_tombstones=on(0.15),
        clones=on(0.1),
        switches_users=on(0.4),
        clocks_jump=on(0.3),
        encodes=on(0.5),
        batch_entries=chance.choice((1, 3, 10, 500)),
    )


def partitions_only(seed: int) -> Plan:
    """A small world of one user where lines are cut, both ways or one way, and nothing else goes wrong."""
    plan = plan_of(seed)
    return replace(
        plan,
        devices=min(plan.devices, 3),
        users=1,
        edits_per_device=min(plan.edits_per_device, 6),
        records_disk=False,
        power_share=0.0,
        partitions=True,
        restores_cloud=False,
        forgets_tombstones=False,
        clones=False,
        clocks_jump=False,
        has_weather=False,
        faults_ms=6 * 60_000,
    )


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of one world. `broken` empty: every promise held."""

    seed: int
    trace: str
    broken: str = ""
    seen: dict[str, int] = field(default_factory=dict)
    last: tuple[str, ...] = ()
    again: str = "python -m simulator run --seed {seed}"
    """The command that lives through it once more."""

    def __str__(self) -> str:
        if not self.broken:
            return f"seed {self.seed}: every promise held, trace {self.trace[:16]}"
        lines = "\n".join(f"    {line}" for line in self.last)
        return (
            f"seed {self.seed}: {self.broken}\n  the last of its trace {self.trace[:16]}:\n{lines}\n"
            f"  again: {self.again.format(seed=self.seed)}"
        )


def live(seed: int, *, plan: Plan | None = None, folder: Path | None = None) -> Outcome:
    """One whole world; what broke is in the outcome, whatever it was."""
    ground = Ground(seed)
    broken = ""
    place = Path(tempfile.mkdtemp(prefix="syncengine-world-", dir=folder))
    try:
        with _world(ground, place, plan or plan_of(seed)) as world:
            world.live()
    except PromiseBroken as found:
        broken = str(found)
    except Exception as error:  # noqa: BLE001 - whatever the engine raises here is what this world has found
        broken = f"P15: the engine raised {type(error).__name__}\n" + "".join(traceback.format_exception(error)[-8:])
        ground.note("raised", type(error).__name__)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Outcome(
        seed=seed, trace=ground.trace, broken=broken, seen=dict(sorted(ground.seen.items())), last=tuple(ground.last)
    )


@contextmanager
def _world(ground: Ground, place: Path, plan: Plan) -> Iterator["World"]:
    cloud = WorldCloud(place / "cloud", time=ground.time, chance=ground.chance, users=USERS[: plan.users])
    try:
        with disks(place / "devices", records=plan.records_disk) as found:
            world = World(ground, cloud, found, plan)
            try:
                yield world
            finally:
                world.close()
    finally:
        cloud.close()


class World:
    """Devices, their people, and the cloud between them."""

    def __init__(self, ground: Ground, cloud: WorldCloud, disks: Disks, plan: Plan) -> None:
        self.ground = ground
        self.cloud = cloud
        self.disks = disks
        self.plan = plan
        self.ledger = Ledger()
        self._chance = ground.chance.stream("world")
        self.devices = [self._device(name) for name in NAMES[: plan.devices]]
        self._people = {device.name: self._people_of(device) for device in self.devices}

    def _device(self, name: str) -> Device:
        users = list(self.cloud.users)
        if len(users) > 1:
            self._chance.shuffle(users)
            if not self.plan.switches_users:
                users = users[:1]
        last = len(VERSIONS) - 1 if not self.plan.upgrades else 1
        return Device(
            name,
            ground=self.ground,
            cloud=self.cloud,
            disks=self.disks,
            ledger=self.ledger,
            users=users,
            version=VERSIONS[self._chance.randint(0, last)],
            settings=Settings(
                durability="full" if self.disks.records else "normal",
                push_entries_first=self.plan.batch_entries,
                push_entries_max=self.plan.batch_entries,
                pull_items_max=self.plan.batch_entries,
                retry_wait_ms_max=60_000,
                retry_after_ms_max=BACKOFF_MS_MAX,
            ),
            encodes=self.plan.encodes,
        )

    def _people_of(self, device: Device) -> People:
        return People(device, self.ground.chance.stream("people", device.name))

    def close(self) -> None:
        for device in self.devices:
            device.power_share = 0.0
            device.switch_off()

    # The story.

    def live(self) -> None:
        """All phases. Raises PromiseBroken."""
        for device in self.devices:
            self._begin(device)
        self._plan_faults()
        self.ground.go_on(until=lambda: False, until_ms=self.plan.faults_ms)
        self._heal()
        self._come_to_rest("after the faults")
        self._write_both_ways()
        self._come_to_rest("after new edits")
        self._check_all()

    def _begin(self, device: Device) -> None:
        device.after_round = self._after_round
        device.after_page = partial(checks.check_own_edits_stay, self.ledger)
        writes = self.ground.chance.stream("while_reading", device.name)
        device.while_reading = partial(self._write_while_reading, writes)
        device.switch_on()
        if self.plan.has_weather:
            device.weather = weather_of(self.ground.chance.stream("weather", device.name))
        device.power_share = self.plan.power_share
        self._wake(device)
        chance = self.ground.chance.stream("moments", device.name)
        for _ in range(self.plan.edits_per_device):
            moment_ms, raw = chance.randrange(self.plan.faults_ms), chance.random() < RAW_SHARE
            self.ground.after(moment_ms, partial(self._edit, device, raw=raw))

    def _wake(self, device: Device) -> None:
        if self.ground.time.at_ms < self.plan.faults_ms:
            device.look_for_work()
            self.ground.after(WAKE_MS, lambda: self._wake(device))

    def _edit(self, device: Device, *, raw: bool = False) -> None:
        if device.engine is None:
            return
        if device.write(self._people[device.name].next_changes(), raw=raw):
            self.ground.saw("raw_write" if raw else "write")
            self.ground.after(1_000, device.look_for_work)

    def _write_while_reading(self, chance: random.Random, device: Device, wait_ms: int) -> None:
        """People do not wait for a page to come; without this it would hardly ever happen."""
        if self.ground.time.at_ms < self.plan.faults_ms and chance.random() < WRITES_WHILE_READING:
            self.ground.after(chance.randrange(max(wait_ms, 1)), partial(self._edit, device))

    def _after_round(self, device: Device) -> None:
        checks.check_own_edits_stay(self.ledger, device)
        checks.check_truthful(self.ledger, self.cloud, device)

    # Faults.

    def _plan_faults(self) -> None:
        plan, chance = self.plan, self.ground.chance.stream("faults")
        for device in self.devices:
            if plan.partitions:
                self._plan_partition(device, chance)
            if plan.upgrades:
                self._some_time(chance, 2, partial(self._upgrade, device))
            if plan.switches_users and len(device.users) > 1:
                self._some_time(chance, 3, partial(self._switch_user, device))
            if plan.clocks_jump:
                self._some_time(chance, 1, partial(self._jump, device, chance.randint(-DAY_MS, DAY_MS)))
            if plan.power_share:
                self._some_time(chance, 1, partial(self._cut, device))
        copied_ms = chance.randrange(self.plan.faults_ms)
        if plan.restores_cloud:
            self.ground.after(copied_ms, self._copy_cloud)
            self.ground.after(chance.randint(copied_ms, self.plan.faults_ms), self._restore_cloud)
        if plan.forgets_tombstones:
            self._some_time(chance, 1, self._forget_tombstones)
        if plan.clones:
            self._some_time(chance, 1, self._clone)

    def _some_time(self, chance: random.Random, times: int, event: Callable[[], None]) -> None:
        for _ in range(times):
            self.ground.after(chance.randrange(self.plan.faults_ms), event)

    def _plan_partition(self, device: Device, chance: random.Random) -> None:
        for _ in range(2):
            begins_ms, lasts_ms = chance.randrange(self.plan.faults_ms), chance.randrange(self.plan.faults_ms // 2)
            kind = chance.choice(("both", "both", "answers"))
            self.ground.after(begins_ms, partial(self._part, device, kind))
            self.ground.after(begins_ms + lasts_ms, partial(self._part, device, ""))

    def _part(self, device: Device, kind: str) -> None:
        device.partition = kind if self.ground.time.at_ms < self.plan.faults_ms else ""
        self.ground.note(device.name, "is cut off" if kind else "is connected", kind)

    def _upgrade(self, device: Device) -> None:
        at = VERSIONS.index(device.version)
        if device.engine is None or at + 1 == len(VERSIONS):
            return
        self._upgrade_to(device, VERSIONS[self._chance.randint(at + 1, len(VERSIONS) - 1)])

    def _upgrade_to(self, device: Device, version: str) -> None:
        waits = device.store.query("SELECT count(*) FROM _sync_outbox")[0][0]
        self.ground.saw("upgrade_with_entries_queued" if waits else "upgrade")
        before = checks.words_waiting(device)
        device.upgrade(version)
        if device.engine is not None:
            checks.check_conversion(self.ledger, device, before)

    def _switch_user(self, device: Device) -> None:
        if device.engine is not None:
            self.ground.saw("user_switched")
            device.sign_in(next(user for user in device.users if user != device.user))

    def _jump(self, device: Device, jump_ms: int) -> None:
        self.ground.saw("clock_jumped")
        device.clock.skew_ms += jump_ms

    def _cut(self, device: Device) -> None:
        if device.engine is not None:
            device.cut_power()

    def _copy_cloud(self) -> None:
        self.ground.note("the cloud is copied")
        self.cloud.make_copy()

    def _restore_cloud(self) -> None:
        self.ground.note("the cloud is restored")
        self.ground.saw("cloud_restored")
        self.cloud.restore_copy()

    def _forget_tombstones(self) -> None:
        self.ground.note("the cloud forgets tombstones")
        self.ground.saw("tombstones_forgotten")
        self.cloud.forget_tombstones()

    def _clone(self) -> None:
        device = self._chance.choice(self.devices)
        if device.engine is None:
            return
        self.ground.saw("cloned")
        self.ground.note(device.name, "is cloned")
        for (text,) in device.store.query("SELECT set_json FROM _sync_outbox"):
            self.ledger.copied |= words_in(text)
        device.switch_off()
        clone = self._device("z")
        clone.users, clone.user, clone.version = device.users, device.user, device.version
        clone.folder = self.disks.copied("z", device.folder)
        self.devices.append(clone)
        self._people[clone.name] = self._people_of(clone)
        device.switch_on()
        self._begin(clone)

    # Afterwards.

    def _heal(self) -> None:
        self.ground.note("all faults end")
        for device in self.devices:
            device.weather, device.partition, device.power_share = CALM, "", 0.0
            device.switch_on()
            if self.plan.all_upgrade_at_end and device.version != VERSIONS[-1]:
                self._upgrade_to(device, VERSIONS[-1])

    def _come_to_rest(self, when: str) -> None:
        """P10: in so many rounds of everybody, all queues are empty and everything is read."""
        left: list[str] = []
        for _ in range(ROUNDS_TO_REST_MAX):
            pushed = self.cloud.pushes
            left = [why for device in self.devices for why in self._rounds_of_all_users(device)]
            if not left and self.cloud.pushes == pushed:
                return
        raise PromiseBroken(f"P10: {when}, {ROUNDS_TO_REST_MAX} rounds of everybody are not enough: {left[:3]}")

    def _rounds_of_all_users(self, device: Device) -> Iterator[str]:
        for user in device.users:
            device.sign_in(user)
            self._one_round(device)
            self._decide(device)
            if why := checks.what_is_left(device):
                yield f"{device.name} of {user}: {why}"

    def _decide(self, device: Device) -> None:
        """A person looks at what was set aside: what the cloud refuses is given up, its group is sent again."""
        assert device.engine is not None
        desk = device.engine.quarantine
        items = desk.items()
        for item in items:
            self.ground.saw(f"quarantined_{item.error_code}")
            self.ground.note(device.name, "looks at", item.error_code, item.key)
            if item.error_code != GROUP_REJECTED:
                desk.discard(item.item_id, reason="seen, and given up")
        while mates := desk.items():
            # From here on it is a new edit of that row, whatever was written since.
            self.ledger.sent_again |= {found for mate in mates for found in words_in(mate.body)}
            desk.retry(mates[0].item_id)

    def _one_round(self, device: Device) -> None:
        self.ground.go_on(until=lambda: not device.is_busy)
        wait_ms = device.backoff_ms()
        if wait_ms > BACKOFF_MS_MAX + 1_000:
            raise PromiseBroken(f"P10: {device.name} wants to wait {wait_ms} ms before it tries again")
        self.ground.go_on(until=lambda: False, until_ms=self.ground.time.at_ms + wait_ms)
        self.ground.go_on(until=lambda: not device.is_busy)
        device.begin_round()
        self.ground.go_on(until=lambda: not device.is_busy)

    def _write_both_ways(self) -> None:
        for device in self.devices:
            people = self._people[device.name]
            keys = device.keys("notes")
            changes = [people.new_note(f"new-{device.name}")]
            if keys:
                changes.append(people.changed_note(keys[0]))
            device.write(changes)

    def _check_all(self) -> None:
        for device in self.devices:
            for user in device.users:
                device.sign_in(user)
                checks.check_agreement(self.cloud, device)
                checks.check_truthful(self.ledger, self.cloud, device)
        checks.check_once(self.ledger, self.cloud)
        checks.check_order(self.ledger, self.cloud)
        checks.check_groups(self.ledger, self.cloud)
        checks.check_nothing_lost(self.ledger, self.cloud, self.devices)
        checks.check_users_apart(self.cloud, self.devices)
        self._note_everything()

    def _note_everything(self) -> None:
        """What the world has become is a part of its trace."""
        for user in self.cloud.users:
            for item in self.cloud.documents(user):
                self.ground.note(user, item.model_dump_json())
