"""One device: the real engine on a real file, its rounds driven call by call, its power cut between any two steps."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from simulator.world import starting, store_checks
from simulator.world.app import WorldApp, registry_of
from simulator.world.clock import DeviceClock
from simulator.world.cloud import WorldCloud
from simulator.world.disk import Drive
from simulator.world.ground import Ground
from simulator.world.ledger import Edit, Ledger
from simulator.world.network import CALM, passage
from simulator.world.people import Change
from simulator.world.phone import Phone, check_imported, sources_of
from simulator.world.rests import check_rests, note_rest
from simulator.world.starting import Starting, agreed
from simulator.world.steps import AGAIN_MS, OFF_MS, PAGE_FACTOR, PowerLost, StepRefused, no_barrier
from simulator.world.writing import write_by_app, write_raw
from syncengine import Engine, Settings
from syncengine.clock import fresh_id
from syncengine.errors import StoreDamaged, StoreForeign, SyncEngineError
from syncengine.local.store import Store
from syncengine.migrate.registry import MigrationRegistry
from syncengine.outbox.queue import Outbox
from syncengine.sync.calls import Answer, Begin, Begun, Call, Carried, End, HelloSaid, Pull, PushSaid
from syncengine.sync.carriage import Carriage
from syncengine.sync.confirm import settling
from syncengine.sync.drain import Draining, Round, Speaker
from syncengine.sync.encoding import encoded_entries
from syncengine.sync.pull import Pulling
from syncengine.sync.report import RoundHooks, RoundReport
from syncengine.sync.round import sync_round

Made = TypeVar("Made")


class Device:
    """`users` may sign in here, the first one has. Everything happens in the thread of the caller."""

    def __init__(  # noqa: PLR0913  (keyword-only: what a machine is made of)
        self,
        name: str,
        *,
        ground: Ground,
        cloud: WorldCloud,
        drive: Drive,
        ledger: Ledger,
        users: Sequence[str],
        app: WorldApp,
        version: str,
        settings: Settings,
        encodes: bool,
        lane: str,
    ) -> None:
        self.name = name
        self.users = tuple(users)
        self.user = self.users[0]
        self.app = app
        self.version = version
        self.is_signed_out = False
        self.is_dead = False
        self.phone: Phone | None = None
        """It never comes back."""
        self.is_damaged = self.has_told_damage = False
        self.refused: Counter[str] = Counter()
        """Errors of this device's own disk, by their names."""
        self.clock = DeviceClock(ground.time)
        self.weather, self.partition = CALM, ""
        self.loses_unsynced = False
        """A cut takes what was not synced; else only the process ends."""
        self.power_share = 0.0
        """How likely the power goes within one step."""
        self.rounds = 0
        self.last_report: RoundReport | None = None
        self.rests: dict[str, tuple[int, int]] = {}
        """By user, until when the cloud wants a rest, and how wrong the clock was when it said so."""
        self.after_round: Callable[[Device], None] = lambda device: None
        self.while_reading: Callable[[Device, int], None] = lambda device, wait_ms: None
        """Called when a page was asked for, with the time until it is here."""
        self.after_page: Callable[[Device], None] = lambda device: None
        self.engine: Engine | None = None
        self.starting = Starting()
        self._ground = ground
        self._cloud = cloud
        self.drive = drive
        self.ledger = ledger
        self.settings = settings
        self._encodes = encodes
        self._lane = lane
        self._starts = 0
        self._groups = 0
        self.edits_made = 0
        self._doing = ""
        self._failed_before = 0
        self._round: Round | None = None
        self._call = ""
        self._awaited = 0
        self._reads = False
        self._cuts = 0
        self._written: list[tuple[int, list[Edit]]] = []
        """What was committed since the last power cut, and when."""
        self._power = ground.chance.stream("power", name)
        self._network = ground.chance.stream("network", name)
        self._ids = ground.chance.stream("request_ids", name)

    # On and off.

    @property
    def path(self) -> Path:
        return self.drive.folder / "app.db"

    @property
    def registry(self) -> MigrationRegistry:
        return registry_of(self.app, self.version)

    @property
    def store(self) -> Store:
        """The engine's own way into the file: rounds are driven by hand here, as its runner drives them."""
        assert self.engine is not None
        return self.engine._store

    @property
    def is_busy(self) -> bool:
        """A round is under way."""
        return self._round is not None

    @property
    def is_healthy(self) -> bool:
        """It is on, and its disk and its file are as they should be."""
        return self.engine is not None and not self.is_damaged and not self.drive.failure

    @property
    def phase(self) -> str:
        """What it does now: a step (start, write, page), a call (hello, push, pull), idle or off."""
        if self.engine is None and not self._doing:
            return "off"
        if self._doing not in ("", "round"):
            return self._doing
        return self._call if self.is_busy else self._doing or "idle"

    @property
    def outbox_depth(self) -> int | None:
        """How many entries wait, of all users; None while it is off."""
        if self.engine is None:
            return None
        try:
            return int(self.store.query("SELECT count(*) FROM _sync_outbox")[0][0])
        except SyncEngineError:
            return None

    def note(self, kind: str, *facts: object) -> None:
        """An event of the trace, with the queue and the app's version at this moment."""
        self._ground.note(self.name, kind, *facts, outbox_depth=self.outbox_depth, version=self.version)

    def saw(self, kind: str) -> None:
        """Count it, with what this device does now."""
        self._ground.saw(kind, phase=self.phase)

    def switch_on(self) -> None:
        """Start the app, which migrates."""
        if self.engine is not None or self.is_dead:
            return
        try:
            self._step("start", self._start)
        except PowerLost:
            return
        except StepRefused:
            self._shut()
            self._ground.after(AGAIN_MS, self.switch_on)

    def _start(self) -> None:
        with store_checks.judged_start(self, self._ground.time):
            self._open()
            starting.migrate(self, self._ground)
        check_imported(self)

    def _open(self) -> None:
        self._starts += 1
        self.engine = Engine.open(
            self.path,
            registry=self.registry,
            user=self.user,
            settings=self.settings,
            clock=self.clock,
            chance=self._ground.chance.stream("engine", self.name, self._starts),
            backend=self.starting.line,
            listener=partial(starting.heard, self),
            consent=agreed,
            sources=sources_of(self),
        )

    def switch_off(self) -> None:
        """The process ends; what was under way is not told."""
        self._shut()
        self.end_round()

    def _shut(self) -> None:
        """What SQLite does while it closes a file it keeps to itself, also on a disk that fails."""
        failure, self.drive.failure = self.drive.failure, ""
        if self.engine is not None:
            self.engine.close()
            self.engine = None
        self.drive.failure = failure

    def end_round(self) -> None:
        """Nobody waits for an answer any more."""
        under_way, self._round = self._round, None
        self._awaited += 1
        if under_way is not None:
            under_way.close()

    def upgrade(self, version: str) -> None:
        """The app's next version is installed, and started."""
        self.switch_off()
        self.version = version
        self._ground.note(self.name, "upgrades", "to", version, version=version)
        self.switch_on()

    def sign_in(self, user: str) -> None:
        """Another user takes the device."""
        if user == self.user and self.engine is not None and not self.is_signed_out:
            return
        self.end_round()
        self.user, self.is_signed_out = user, False
        self._ground.note(self.name, "user", user)
        if self.engine is None:
            self.switch_on()
            return
        try:
            self._step("switch", self._switch)
        except PowerLost:
            return
        except StepRefused:
            self.restart_soon()

    def _switch(self) -> None:
        assert self.engine is not None
        with store_checks.judged_start(self, self._ground.time):
            self.engine.switch_user(self.user)
            starting.migrate(self, self._ground)

    def restart_soon(self) -> None:
        """The app is closed, and opened again after a while."""
        self.switch_off()
        self._ground.after(AGAIN_MS, self.switch_on)

    def cut_power(self, *, since: int | None = None) -> None:
        """The power goes, and comes back after a while; where the world's power cuts spare the disk, only the process
        ends."""
        self._ground.saw("power_cut", phase=self.phase)
        now = self.drive.mark()
        self.rests.clear()  # the note of it may be lost
        self.switch_off()  # what this writes comes too late
        self._cuts += 1
        chance = self._ground.chance.stream("cut", self.name, self._cuts)
        if self.loses_unsynced:
            at = self.drive.cut(between=(now if since is None else since, now), chance=chance)
            self._doubt(at)
            if not self.is_damaged:
                with self.drive.works():
                    store_checks.check_markers(self)
        self._ground.note(self.name, "power_cut")
        self._ground.after(chance.randint(*OFF_MS), self.switch_on)

    def _doubt(self, at: int) -> None:
        """Commits that no sync followed before the cut may be there or not."""
        for mark, edits in self._written:
            if mark >= at or not self.drive.synced_since(mark, until=at):
                for edit in edits:
                    edit.is_sure = False
        self._written = []

    def _step(self, what: str, work: Callable[[], Made]) -> Made:
        """One step of this device. Raises PowerLost when the power went somewhere within it, and StepRefused when its
        disk fails, or its file is damaged, and the engine says so in one of its own errors."""
        mark, self._failed_before = self.drive.mark(), self.drive.failed
        before, self._doing = self._doing, what
        try:
            made = self._done(work)
            share = self.power_share * (PAGE_FACTOR if what == "page" else 1)
            if self._power.random() < share and self._ground.ordinals.on_the_way(f"{self.name}/power"):
                self._ground.note(self.name, "within", what)
                self.cut_power(since=mark)
                raise PowerLost
        finally:
            self._doing = before
        return made

    def _done(self, work: Callable[[], Made]) -> Made:
        try:
            return work()
        except SyncEngineError as error:
            if not self.is_hurt(error):
                raise
            self.has_told_damage = self.has_told_damage or isinstance(error, StoreDamaged | StoreForeign)
            self.refused[type(error).__name__] += 1
            self._ground.saw(f"refused_{error.code()}", phase=self.phase)
            self._ground.note(self.name, "refuses", error.code())
            raise StepRefused from error

    def is_hurt(self, error: BaseException | None) -> bool:
        """The disk has failed within this step, or the file is damaged: an error of the engine's is right."""
        return isinstance(error, SyncEngineError) and (
            self.is_damaged or bool(self.drive.failure) or self.drive.failed > self._failed_before
        )

    # People.

    def write(self, changes: Sequence[Change], *, raw: bool = False) -> list[Edit]:
        """One local transaction, or, raw, the single statements of another program; noted in the ledger."""
        if self.engine is None or self.is_signed_out or not changes:
            return []
        self._groups += 1
        edits = [self._edit_of(change, raw=raw) for change in changes]
        told = tuple(f"{edit.kind}:{edit.key}:{edit.number}" for edit in edits)
        try:
            self._step("write", lambda: (write_raw if raw else write_by_app)(self, changes))
        except (PowerLost, StepRefused):
            for edit in edits:
                edit.is_sure = False
        else:
            self._written.append((self.drive.mark() - 1, edits))
        self.note("writes", *told)
        self.ledger.note(edits)
        return edits

    def _edit_of(self, change: Change, *, raw: bool) -> Edit:
        return Edit(
            device=self.name,
            user=self.user,
            number=change.number,
            group=self._groups,
            kind=change.kind,
            collection=change.collection,
            key=change.key,
            words=change.words,
            version=self.version,
            is_raw=raw,
            replaces=change.replaces,
        )

    def children(self, collection: str, parent: str) -> list[str]:
        """The rows of it that refer to another one."""
        sql = f"SELECT id FROM {collection} WHERE user_id = ? AND up = ? ORDER BY id"
        return [key for (key,) in self.store.query(sql, (self.user, parent))]

    def keys(self, collection: str) -> list[str]:
        """The rows that this device shows to its user."""
        sql = f"SELECT id FROM {collection} WHERE user_id = ? ORDER BY id"
        return [key for (key,) in self.store.query(sql, (self.user,))]

    # Rounds.

    def outbox(self) -> Outbox:
        return Outbox(self.store)

    def backoff_ms(self) -> int:
        """How long this device wants to wait before it tries by itself."""
        return self.outbox().next_try_ms(self.user)

    def look_for_work(self) -> None:
        """As the runner's thread does when it wakes up."""
        if self.engine is None or self.is_busy or self.is_signed_out:
            return
        try:
            wait_ms = self._step("look", self.backoff_ms)
        except (PowerLost, StepRefused):
            return
        if wait_ms:
            self._ground.after(wait_ms + 1, self.look_for_work)
        else:
            self.begin_round()

    def begin_round(self) -> None:
        """One whole round, as `SyncRunner` makes it."""
        try:
            begun = self._round = self._step("begin", self._begun)
        except PowerLost:
            return
        except StepRefused:
            self.restart_soon()
            return
        self._advance(lambda: next(begun))

    def _begun(self) -> Round:
        assert self.engine is not None
        self.rounds += 1
        speaker = Speaker(
            app=self.registry.app,
            device=str(self.store.value("state", "get", name="device_id")),
            schema_version=self.version,
        )
        chance = self._ground.chance.stream("round", self.name, self.rounds)
        draining = Draining(
            self.outbox(),
            self.user,
            speaker,
            settings=self.settings,
            chance=chance,
            barriers=no_barrier,
            hooks=RoundHooks(settle=settling(self.store, self.registry)),
            carriage=Carriage(overlaps=True, encode=encoded_entries if self._encodes else None),
        )
        pulling = Pulling(self.store, self.registry, owner=self.user, device=speaker.device, settings=self.settings)
        return sync_round(draining, pull=pulling)

    def _advance(self, move: Callable[[], Call]) -> None:
        try:
            call = self._step("page" if self._reads else "round", move)
        except PowerLost:
            return
        except StepRefused:
            self.end_round()
            self.restart_soon()
            return
        except StopIteration as stop:
            self._round = None
            self._end_round(stop.value)
            return
        if self._reads:
            self.after_page(self)
        self._reads = isinstance(call, Pull)
        if isinstance(call, Begin):
            self._send(call.push)
            self._answer(Begun())
        elif not isinstance(call, End):
            self._send(call)

    def _answer(self, answer: Answer | SyncEngineError) -> None:
        under_way = self._round
        assert under_way is not None
        if isinstance(answer, SyncEngineError):
            self._advance(lambda: under_way.throw(answer))
        else:
            self._advance(lambda: under_way.send(answer))

    def _end_round(self, report: RoundReport) -> None:
        self.last_report = report
        self.note("round", report.ended, report.applied, report.pulled, len(report.items), report.sendable)
        self._ground.saw(f"round_{report.ended}")
        note_rest(self, report, now_ms=self._ground.time.at_ms)
        if report.sendable:
            self._ground.after(self.backoff_ms() + 1_000, self.look_for_work)
        self.after_round(self)

    def _send(self, call: Carried) -> None:
        allowed = partial(self._ground.ordinals.on_the_way, f"{self.name}/network")
        way = passage(self.weather, self._network, partition=self.partition, allowed=allowed)
        self._call = type(call).__name__.lower()
        check_rests(self, now_ms=self._ground.time.at_ms)
        for name in way.names:
            self._ground.saw(name, phase=self._call)
        self._awaited += 1
        number, sent_ms = self._awaited, self._ground.time.at_ms
        outcomes: list[Answer | SyncEngineError] = []
        self._ground.note(self.name, "sends", self._call, *way.names)
        for arrival_ms in way.arrivals_ms:
            self._ground.after(arrival_ms, lambda: outcomes.append(self._at_cloud(call)))

        def hear() -> None:
            if number != self._awaited or self._round is None:
                return  # who asked is not there any more
            answer = self._carried(call, fate=way.fate) if way.fate else outcomes[0]
            if way.fate:
                self._ground.note("network", way.fate, "to", self.name)
            if isinstance(answer, HelloSaid | PushSaid):
                answer = replace(answer, took_ms=self._ground.time.at_ms - sent_ms)
            self._answer(answer)

        self._ground.after(way.heard_ms, hear)
        if isinstance(call, Pull):
            self.while_reading(self, way.heard_ms)

    def _at_cloud(self, call: Carried) -> Answer | SyncEngineError:
        self._ground.note("cloud", "hears", type(call).__name__.lower(), "of", self.name)
        return self._carried(call)

    def _carried(self, call: Carried, *, fate: str = "") -> Answer | SyncEngineError:
        request_id = fresh_id(self._ids)
        return self._cloud.carry(call, request_id=request_id, lane=self._lane, clock=self.clock, fate=fate)
