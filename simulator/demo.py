"""The whole story in a terminal: an old store, no network, a cut cable, a kill -9, a second device, and the proof."""

import argparse
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from migrations import REGISTRY
from simulator.clouds import Cloud, running_cloud
from simulator.gate import Gate
from simulator.proof import Proof, compare, local_rows, uploaded_collections
from simulator.second_device import SecondDevice
from simulator.sqlite_shell import show
from simulator.stage import AppProcess, Fact, set_stage
from simulator.store_sight import QueueSight, see_queue
from simulator.storyteller import tell
from syncengine.clock import Clock, SystemClock

WALKS = 400
PLACES = 60
BATCH_ENTRIES = 25
LATENCY_MS = 5
BATCHES_BEFORE_CUT = 5
BATCHES_BEFORE_KILL = 4
WAIT_MS_MAX = 30_000
"""For any one thing to happen; then the demo fails."""

VERSIONS_SQL = "SELECT scope, schema_version, cloud_version, completed, queued FROM migration_status"
QUARANTINE_SQL = "SELECT collection, key, error, reason FROM sync_quarantine LIMIT 1"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The demo's own options."""
    parser.add_argument("--keep", metavar="DIR", help="play in this new folder, and leave all files there")
    parser.add_argument(
        "--backend",
        choices=("server", "firestore"),
        default="server",
        help="the cloud: the shipped server, or Google's Firestore emulator (default server)",
    )
    parser.add_argument(
        "--database", metavar="ADDRESS", help="the server's: postgresql://…, an empty one (default: SQLite in a file)"
    )
    parser.add_argument("--seed", type=int, default=1, help="which invented user (default 1)")


def run(asked: argparse.Namespace) -> int:
    """Tell the story; 0 only when the proof holds. Without `--keep` the files stay only after a failure."""
    folder = Path(asked.keep) if asked.keep else Path(tempfile.mkdtemp(prefix="syncengine-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    holds = False
    try:
        holds = _Demo(folder, asked, clock=SystemClock()).play()
    finally:
        if holds and not asked.keep:
            shutil.rmtree(folder)
        elif not holds:
            print(f"The files are kept in {folder}")
    return 0 if holds else 1


class _Demo:
    def __init__(self, folder: Path, asked: argparse.Namespace, *, clock: Clock) -> None:
        self._clock = clock
        self._began_ms = clock.monotonic_ms()
        self._stage = set_stage(
            folder, walks=WALKS, places=PLACES, seed=asked.seed, backend=asked.backend, database=asked.database
        )
        (self._user,) = self._stage.users
        self._store = self._stage.store_of(self._user)

    def play(self) -> bool:
        stage, legacy = self._stage, self._stage.legacy
        print("Hero's Path, 1.0.0 in AsyncStorage, becomes 3.0.0 with a cloud, while the network comes and goes.")
        tell(
            "phone",
            f"{legacy.walks_total} walks, {legacy.places_total} saved and {legacy.dismissed_total} dismissed places "
            f"in RKStorage, all of it still in the -wal ({legacy.value_bytes // 1000} kB)",
        )
        with running_cloud(stage, clock=self._clock) as cloud, Gate(cloud.url, latency_ms=LATENCY_MS) as gate:
            tell("cloud", f"{cloud.url}, {cloud.sort}, empty; the app's way there is {gate.url}, shut")
            with self._start_app(gate) as app:
                self._migrate_offline(app)
                self._show_store()
                self._cut_in_mid_upload(app, gate, cloud)
                self._kill_in_mid_upload(app, gate)
                sent = app.sent_entries()
            with self._start_app(gate) as app, Gate(cloud.url, latency_ms=LATENCY_MS) as other_gate:
                self._resume(app, cloud, sent_entries=sent)
                second = SecondDevice(stage, user=self._user, phone=app, phone_gate=gate, clock=self._clock)
                second.play(other_gate)
            return self._prove(cloud, second)

    def _start_app(self, gate: Gate) -> AppProcess:
        return AppProcess(self._stage, user=self._user, cloud_url=gate.url, clock=self._clock, batch=BATCH_ENTRIES)

    def _migrate_offline(self, app: AppProcess) -> None:
        plan = app.wait_for("planned", wait_ms_max=WAIT_MS_MAX)
        tell(
            "plan",
            f"{', then '.join(plan['hops'])}: {plan['offline']} migrations now, {plan['online']} wait for the cloud",
        )
        consent = app.wait_for("consent", wait_ms_max=WAIT_MS_MAX)
        tell("consent", f"the user is asked once about {', '.join(consent['hops'])}, and agrees")
        migrated = app.wait_for("migrated", wait_ms_max=WAIT_MS_MAX)
        app.wait_for_verdict("offline", wait_ms_max=WAIT_MS_MAX)
        tell("app", f"at {migrated['version']} after {migrated['elapsed_ms']} ms, offline; probe: offline")
        for run in migrated["runs"]:
            if run["batches_undone"]:
                tell("savepoint", _undone(run))
        tell("queue", f"outbox: {migrated['waiting']} waiting")

    def _show_store(self) -> None:
        for sql in (VERSIONS_SQL, QUARANTINE_SQL):
            for line in show(self._store, sql):
                print(line)

    def _cut_in_mid_upload(self, app: AppProcess, gate: Gate, cloud: Cloud) -> None:
        self._open(gate, app)
        _confirmed(app, batches=BATCHES_BEFORE_CUT)
        gate.lose_next_answer(to=cloud.writes_by)
        if not gate.wait_until_answer_is_lost(wait_ms_max=WAIT_MS_MAX):
            raise app.process.failed("sent nothing that the server would answer")
        app.wait_for_verdict("offline", wait_ms_max=WAIT_MS_MAX)
        queue, there = see_queue(self._store), cloud.ledger(self._user)
        tell(
            "cut",
            f"connection reset under an answer: the app knows of {queue.confirmed} at the server, "
            f"the server has {there.receipts}; {queue.claimed} claimed, {queue.waiting} waiting; probe: offline",
        )

    def _kill_in_mid_upload(self, app: AppProcess, gate: Gate) -> None:
        self._open(gate, app)
        _confirmed(app, batches=BATCHES_BEFORE_KILL)
        app.wait_for("BatchSent", wait_ms_max=WAIT_MS_MAX)
        app.kill()
        queue = see_queue(self._store)
        tell(
            "kill -9",
            f"the app is killed while a batch is under way: {queue.confirmed} confirmed, {queue.claimed} claimed, "
            f"{queue.waiting} waiting",
        )

    def _open(self, gate: Gate, app: AppProcess) -> None:
        gate.open()
        app.wait_for_verdict("online", wait_ms_max=WAIT_MS_MAX)
        tell("network", "the gate is open; probe: online, draining")

    def _resume(self, app: AppProcess, cloud: Cloud, *, sent_entries: int) -> None:
        opened = app.wait_for("opened", wait_ms_max=WAIT_MS_MAX)
        migrated = app.wait_for("migrated", wait_ms_max=WAIT_MS_MAX)
        tell(
            "restart",
            f"opened in {opened['elapsed_ms']} ms at {migrated['version']}, {len(migrated['runs'])} migrations to "
            f"run; {migrated['claimed']} claimed are sent again under their old numbers",
        )
        app.wait_until_drained(wait_ms_max=WAIT_MS_MAX)
        sent_entries += app.sent_entries()
        receipts = cloud.ledger(self._user).receipts
        tell(
            "drained",
            f"outbox: {see_queue(self._store).waiting} waiting; {sent_entries} entries were sent for {receipts} "
            f"receipts, {sent_entries - receipts} of them again",
        )

    def _prove(self, cloud: Cloud, second: SecondDevice) -> bool:
        stage, user = self._stage, self._user
        names = uploaded_collections(REGISTRY)
        phone, other = (
            local_rows(store, registry=REGISTRY, user=user, collections=names)
            for store in (self._store, second.store)
        )
        there = cloud.rows(user, collections=names)
        proof = compare(phone, there, cloud.ledger(user), edits=second.edits)
        tell("time", f"{self._clock.monotonic_ms() - self._began_ms} ms in all")
        queues = see_queue(self._store), see_queue(second.store)
        print(
            f"proof: {proof}; both devices {'equal' if phone == other else 'DIFFER'}; "
            f"{queues[0].quarantined} in quarantine with reasons"
        )
        return phone == other and _holds(proof, queues=queues, walks_empty=stage.legacy.walks_empty)


def _holds(proof: Proof, *, queues: Iterable[QueueSight], walks_empty: int) -> bool:
    phone, other = queues
    is_done = all(queue.waiting == queue.claimed == queue.quarantined_without_reason == 0 for queue in (phone, other))
    # An empty walk cannot be converted, so a quarantine without any would be a lie.
    return proof.holds and is_done and phone.quarantined >= walks_empty > 0 == other.quarantined


def _confirmed(app: AppProcess, *, batches: int) -> None:
    for _ in range(batches):
        app.wait_for("BatchConfirmed", wait_ms_max=WAIT_MS_MAX)


def _undone(run: Fact) -> str:
    return (
        f"{run['migration']}: {run['batches_undone']} of {run['batches']} batches rolled back and done again row by "
        f"row: {run['read']} read = {run['written']} written + {run['merged']} merged + "
        f"{run['quarantined']} in quarantine"
    )
