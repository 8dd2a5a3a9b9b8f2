"""The history of one world: faults, then healing, then the proof that it comes to rest and goes on."""

import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from simulator.world import checks, copies, store_checks
from simulator.world.app import NOTES_APP, WorldApp
from simulator.world.cloud import WorldCloud
from simulator.world.damage import bring_back
from simulator.world.device import Device
from simulator.world.disk import Disks, disks
from simulator.world.eavesdropping import overheard
from simulator.world.faults import Faults
from simulator.world.generated_app import generated_app
from simulator.world.ground import Ground, PromiseBroken
from simulator.world.installed import install
from simulator.world.kin_app import KIN_APP
from simulator.world.kin_checks import (
    bereft_by_leaving,
    check_deleted_by_somebody,
    check_parents_are_there,
    put_again,
)
from simulator.world.last_words import check_last_words
from simulator.world.ledger import Ledger
from simulator.world.network import CALM, OF_KIND, weather_of
from simulator.world.outcome import Outcome
from simulator.world.people import People
from simulator.world.phone import leave_phone
from simulator.world.plan import Plan, plan_of
from simulator.world.rests import check_is_at_rest, check_wait
from simulator.world.room import check_pace, make_room
from simulator.world.words import words_in
from syncengine import Settings

DAY_MS = 24 * 60 * 60_000
WAKE_MS = 60_000
RAW_SHARE = 0.1
"""So many edits are made by another program."""
BACKOFF_MS_MAX = 120_000
ROUNDS_TO_REST_MAX = 12
"""So many rounds of each user on each device, with faults off, and all must be at rest."""
FAILED_ROUNDS_JUDGED = 4
"""After one in so many that failed a device is asked whether it is synced."""
USERS = ("ann", "ben")
SENT_AGAIN = ("group_rejected", "restored_over")
"""The codes of entries that are good: they came with one that is not, or waited in a store that a sealed copy has
replaced. Nothing tells whether the cloud has the latter."""
NAMES = ("a", "b", "c", "d")
CLONE = "z"
LANES = tuple(f"{name}/{what}" for name in (*NAMES, CLONE) for what in ("network", "power", "reading"))
"""Where actions and faults come up that nobody has planned."""


def live(
    seed: int,
    *,
    plan: Plan | None = None,
    skip: frozenset[int] = frozenset(),
    profile: str | None = None,
    folder: Path | None = None,
) -> Outcome:
    """One whole world; what broke is in the outcome, whatever it was.

    `plan` stands for the one that seed and profile give. Actions and faults whose ordinals are in `skip` are drawn
    and not done: nothing else that is drawn changes by that.
    """
    ground = Ground(seed, skip=skip, lanes=LANES)
    plan = plan or plan_of(seed, profile)
    broken: tuple[str, str] | None = None
    try:
        with disks(folder) as found, overheard() as said, _world(ground, found, plan) as world:
            world.live()
            store_checks.check_nothing_was_said(said)
    except PromiseBroken as promise:
        broken = promise.told
    except Exception as error:  # noqa: BLE001 - whatever the engine raises here is what this world has found
        broken = (
            "P15",
            f"the engine raised {type(error).__name__}\n" + "".join(traceback.format_exception(error)[-8:]),
        )
        ground.note("person", "raised", type(error).__name__)
    return Outcome(
        seed=seed,
        plan=plan,
        profile=profile,
        skip=skip,
        broken=broken,
        seen=ground.seen,
        table=ground.table,
        trace=tuple(ground.events),
        trace_hash=ground.trace_hash,
        actions=ground.ordinals.count,
        drawn=tuple(ground.ordinals.drawn),
    )


def app_of(plan: Plan, *, seed: int) -> WorldApp:
    """The app whose people live in a world. It shares no registry with other worlds: one remembers what it has
    worked out."""
    app = _app_called(plan, seed)
    return replace(app, registry_at=cache(app.registry_at))


def _app_called(plan: Plan, seed: int) -> WorldApp:
    if plan.app == "heros_path":
        from simulator.world.heros_path import HEROS_PATH

        return HEROS_PATH
    if plan.app == "kin":
        return KIN_APP
    return generated_app(seed) if plan.app == "generated" else NOTES_APP


@contextmanager
def _world(ground: Ground, disks: Disks, plan: Plan) -> Iterator["World"]:
    cloud = WorldCloud(disks.drive("cloud"), ground=ground, users=USERS[: plan.users])
    world = World(ground, cloud, disks, plan)
    try:
        yield world
    finally:
        world.close()
        cloud.close()


class World:
    """Devices, their people, and the cloud between them."""

    def __init__(self, ground: Ground, cloud: WorldCloud, disks: Disks, plan: Plan) -> None:
        self.ground = ground
        self.cloud = cloud
        self.disks = disks
        self.plan = plan
        self.app = app_of(plan, seed=ground.seed)
        self.ledger = Ledger()
        self.damaged: list[tuple[Device, str | None]] = []
        """Devices whose files were damaged, and their sealed copies."""
        self.devices = [self._device(name) for name in NAMES[: plan.devices]]

    def _device(self, name: str) -> Device:
        chance = self.ground.chance.stream("device", name)
        users = list(self.cloud.users)
        if len(users) > 1:
            chance.shuffle(users)
            if not self.plan.switches_users:
                users = users[:1]
        last = len(self.app.versions) - 1 if not self.plan.upgrades else min(1, len(self.app.versions) - 1)
        device = Device(
            name,
            ground=self.ground,
            cloud=self.cloud,
            drive=self.disks.drive(name),
            ledger=self.ledger,
            users=users,
            app=self.app,
            version=self.app.versions[chance.randint(0, last)],
            settings=Settings(
                durability="full" if self.plan.durable else "normal",
                push_entries_first=self.plan.batch_entries,
                push_entries_max=self.plan.batch_entries,
                pull_items_max=self.plan.batch_entries,
                retry_wait_ms_max=60_000,
                retry_after_ms_max=BACKOFF_MS_MAX,
            ),
            encodes=self.plan.encodes,
            lane=self.plan.lane,
        )
        if self.app.is_installed and self.plan.imports and name == NAMES[0]:
            leave_phone(device, chance)
        elif self.app.is_installed and name != CLONE:
            install(device, chance)
        return device

    def close(self) -> None:
        for device in self.devices:
            device.power_share = 0.0
            device.switch_off()

    # The story.

    @property
    def in_faults(self) -> bool:
        """The first phase is not over."""
        return self.ground.time.at_ms < self.plan.faults_ms

    def live(self) -> None:
        """All phases. Raises PromiseBroken."""
        self._plan_edits()
        Faults(self).plan_all()
        for device in self.devices:
            self._begin(device)
        self.ground.go_on(until=lambda: False, until_ms=self.plan.faults_ms)
        self._heal()
        make_room(self)
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
            mixed = weather_of(self.ground.chance.stream("weather", device.name))
            device.weather = OF_KIND.get(self.plan.weather, mixed)
        device.power_share, device.loses_unsynced = self.plan.power_share, self.plan.records_disk
        self._wake(device)

    def _wake(self, device: Device) -> None:
        if self.in_faults:
            device.look_for_work()
            self.ground.after(WAKE_MS, lambda: self._wake(device))

    # What people do.

    def _plan_edits(self) -> None:
        for name in [device.name for device in self.devices] + [CLONE] * self.plan.clones:
            chance = self.ground.chance.stream("moments", name)
            moments = [
                (chance.randrange(self.plan.faults_ms), chance.random() < RAW_SHARE)
                for _ in range(self.plan.edits_per_device)
            ]
            for number, (moment_ms, raw) in enumerate(sorted(moments)):
                chance = self.ground.chance.stream("edit", name, number)
                happens = self.ground.ordinals.planned()
                self.ground.after(moment_ms, partial(self._edit, name, chance, raw=raw, happens=happens))

    def _edit(self, name: str, chance: random.Random, *, raw: bool = False, happens: bool = True) -> None:
        device = self._named(name)
        if device is None or device.engine is None or not self.in_faults or not device.is_healthy:
            return
        changes = People(device, chance, few_keys=self.plan.few_keys).next_changes()
        if happens and device.write(changes, raw=raw):
            self.ground.saw("raw_write" if raw else "write")
            self.ground.after(1_000, device.look_for_work)

    def _named(self, name: str) -> Device | None:
        return next((device for device in self.devices if device.name == name), None)

    def _write_while_reading(self, chance: random.Random, device: Device, wait_ms: int) -> None:
        """People do not wait for a page to come; without this it would hardly ever happen."""
        writes, moment, edit = (
            chance.random() < self.plan.edits_while_reading,
            chance.random(),
            chance.getrandbits(32),
        )
        if writes and self.in_faults:
            happens = self.ground.ordinals.on_the_way(f"{device.name}/reading")
            own = self.ground.chance.stream("edit", device.name, "reading", edit)
            self.ground.after(int(moment * wait_ms), partial(self._edit, device.name, own, happens=happens))

    def _after_round(self, device: Device) -> None:
        if not device.is_healthy:
            return
        checks.check_own_edits_stay(self.ledger, device)
        report = device.last_report
        if (report is not None and report.ended == "drained") or device.rounds % FAILED_ROUNDS_JUDGED == 0:
            checks.check_truthful(self.ledger, self.cloud, device)

    # What faults do to devices.

    def upgrade(self, device: Device, share: float) -> None:
        """To one of the later versions, each as likely."""
        later = self.app.versions[self.app.versions.index(device.version) + 1 :]
        if device.engine is not None and not device.is_damaged and later:
            self._upgrade_to(device, later[int(share * len(later))])

    def _upgrade_to(self, device: Device, version: str) -> None:
        is_sound = not device.drive.failure
        before = checks.words_waiting(device) if is_sound else set()
        queued, shown = bool(device.outbox_depth), store_checks.words_shown(device) if is_sound else set()
        rows = store_checks.rows_there(device) if is_sound else None
        self.ground.saw("upgrade_with_entries_queued" if queued else "upgrade", phase=device.phase)
        device.starting.wish = self._wish_to_stop(device)
        device.upgrade(version)
        if device.engine is not None and is_sound:
            checks.check_conversion(self.ledger, device, before)
            store_checks.check_rows_stay(self.ledger, device, shown - before)
            if rows is not None:
                store_checks.check_runs_read_all(device, rows)
                copies.check_copies(device, rows, shown=frozenset(shown))

    def _wish_to_stop(self, device: Device) -> str:
        """How a person stops what this upgrade begins with."""
        if not self.plan.stops_upgrades:
            return ""
        return self.ground.chance.stream("stops", device.name, device.version).choice(("cancel", "pause", ""))

    def mend_disk(self, device: Device) -> None:
        """It works again. An app whose store could be read only is started anew."""
        device.drive.failure = ""
        if device.engine is not None and device.engine.read_only is not None:
            device.restart_soon()

    def add_clone(self, device: Device) -> None:
        """Another device with the same files; both go on."""
        clone = self._device(CLONE)
        clone.users, clone.user, clone.version = device.users, device.user, device.version
        clone.is_signed_out = device.is_signed_out
        clone.drive.begin_with(device.drive.files())
        self.devices.append(clone)
        self._begin(clone)

    # Afterwards.

    def _heal(self) -> None:
        self.ground.note("person", "heals")
        self.cloud.mend()
        check_pace(self.cloud.requests)
        self.cloud.requests = None
        for device in self.devices:
            device.weather, device.partition, device.power_share, device.drive.failure = CALM, "", 0.0, ""
        for device, sealed in self.damaged:
            bring_back(self, device, sealed)
        for device in self.living:
            if device.engine is not None and device.engine.read_only is not None:
                device.switch_off()
            device.switch_on()
            device.sign_in(device.user)
            if self.plan.all_upgrade_at_end and device.version != self.app.versions[-1]:
                self._upgrade_to(device, self.app.versions[-1])

    @property
    def living(self) -> list[Device]:
        return [device for device in self.devices if not device.is_dead]

    def _come_to_rest(self, when: str) -> None:
        """P10: in so many rounds of everybody, all queues are empty and everything is read."""
        left: list[str] = []
        for _ in range(ROUNDS_TO_REST_MAX):
            pushed = self.cloud.pushes
            left = [why for device in self.living for why in self._rounds_of_all_users(device)]
            if not left and self.cloud.pushes == pushed:
                return
        check_is_at_rest(left or ["pushes go on"], when=when, rounds=ROUNDS_TO_REST_MAX)

    def _rounds_of_all_users(self, device: Device) -> Iterator[str]:
        for user in device.users:
            device.sign_in(user)
            self.one_round(device)
            self._decide(device)
            if why := checks.what_is_left(device):
                yield f"{device.name} of {user}: {why}"

    def _decide(self, device: Device) -> None:
        """A person looks at what was set aside: what the cloud refuses is given up, what is good is sent again."""
        assert device.engine is not None
        desk = device.engine.quarantine
        items = desk.items()
        for item in items:
            self.ground.saw(f"quarantined_{item.error_code}")
            self.ground.note(device.name, "decides", item.error_code, item.key)
            checks.check_reason(device, item.error_code)
            if item.error_code not in SENT_AGAIN:
                self.ledger.given_up |= words_in(item.body)
                desk.discard(item.item_id, reason="seen, and given up")
            elif item.error_code == "restored_over":
                self.ledger.copied |= words_in(item.body)
        while mates := desk.items():
            # From here on it is a new edit of that row, whatever was written since.
            self.ledger.sent_again |= {found for mate in mates for found in words_in(mate.body)}
            desk.retry(mates[0].item_id)

    def one_round(self, device: Device) -> None:
        """As soon as this device would try by itself; until it has ended."""
        self.ground.go_on(until=lambda: not device.is_busy)
        wait_ms = device.backoff_ms()
        check_wait(device, wait_ms)
        self.ground.go_on(until=lambda: False, until_ms=self.ground.time.at_ms + wait_ms)
        self.ground.go_on(until=lambda: not device.is_busy)
        device.begin_round()
        self.ground.go_on(until=lambda: not device.is_busy)

    def _write_both_ways(self) -> None:
        for device in self.living:
            people = People(device, self.ground.chance.stream("going_on", device.name))
            device.write(people.changes_going_on())

    def _check_all(self) -> None:
        for device in self.living:
            for user in device.users:
                device.sign_in(user)
                bereft = bereft_by_leaving(self.ledger, self.cloud, device)
                checks.check_agreement(self.cloud, device, bereft=bereft)
                check_parents_are_there(device)
                checks.check_truthful(self.ledger, self.cloud, device)
        for device in self.devices:
            device.is_dead = False
            device.switch_on()  # what a dead one has kept is not lost
        again = put_again(self.app, self.cloud, len(self.devices))
        checks.check_once(self.ledger, self.cloud, again=again)
        checks.check_order(self.ledger, self.cloud)
        checks.check_groups(self.ledger, self.cloud, marks=self.app.marks)
        checks.check_nothing_lost(self.ledger, self.cloud, self.devices)
        check_last_words(self.ledger, self.cloud, app=self.app)
        check_deleted_by_somebody(self.ledger, self.cloud, self.devices)
        checks.check_users_apart(self.cloud, self.devices)
        checks.check_answers(self.cloud)
        for device in self.devices:
            store_checks.check_runs_add_up(device)
            for _ in device.store.query("SELECT conflict_id FROM _sync_conflict"):
                self.ground.saw("conflict_recorded")
        store_checks.check_diagnostics_are_silent(self.devices[0])
        self._note_everything()

    def _note_everything(self) -> None:
        """What the world has become is a part of its trace."""
        for user in self.cloud.users:
            for item in self.cloud.documents(user):
                self.ground.note("cloud", "has", user, item.model_dump_json())
