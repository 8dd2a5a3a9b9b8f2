"""The app is killed at random moments of migration and upload, started again, and looked at after each kill."""

import argparse
import hashlib
import random
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from migrations import REGISTRY, registry
from simulator.crash_checks import Columns, Expected, StoreFacts, faults, read_columns, read_facts
from simulator.processes import ProcessFailed
from simulator.proof import Rows, cloud_rows, compare, local_rows, read_ledger, uploaded_collections
from simulator.stage import AppProcess, Stage, is_drained, running_server, set_stage
from syncengine import Engine
from syncengine.clock import Clock, SystemClock, system_random
from syncengine.vocabulary import user_scope

WALKS = 200
PLACES = 40
BATCH_ENTRIES = 10
WAIT_MS_MAX = 30_000
ROUNDS_PER_KILL_MAX = 3
"""More rounds than this that end before their kill: the moments are chosen wrongly, and the run fails."""

IMPORTED_COLLECTIONS = ("journeys", "places", "dismissed_places")
TIMED_COLUMN = "dismissed_until_ms"
"""Depends on when the migration ran, and so differs from an undisturbed run."""


class PromiseBroken(Exception):
    """A check failed; the message says which, and after which kill."""


@dataclass(slots=True)
class Tally:
    """What has been done so far."""

    rounds: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    rows: int = 0

    def __str__(self) -> str:
        hit = ", ".join(f"{count} {phase}" for phase, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills in {self.rounds} rounds ({hit}): every check held; "
            f"{self.rows} rows at the server, each once, 0 missing, 0 twice"
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The harness's own options."""
    parser.add_argument("--times", type=int, default=200, help="how many kills (default 200)")
    parser.add_argument("--seed", type=int, help="chooses stores and moments; without it a fresh one, which is told")
    parser.add_argument("--keep", metavar="DIR", help="work in this new folder, and leave all files there")


def run(asked: argparse.Namespace) -> int:
    """Kill until it was enough; 1 with the seed and the kept files as soon as a check fails."""
    seed = system_random().getrandbits(32) if asked.seed is None else asked.seed
    folder = Path(asked.keep) if asked.keep else Path(tempfile.mkdtemp(prefix="syncengine-kill9-"))
    folder.mkdir(parents=True, exist_ok=True)
    held = False
    try:
        tally = kill_many_times(folder, times=asked.times, seed=seed, clock=SystemClock())
        held = True
        print(f"kill9: {tally}; seed {seed}")
    except (PromiseBroken, ProcessFailed) as broken:
        print(f"kill9: FAILED {broken}")
    finally:
        if held and not asked.keep:
            shutil.rmtree(folder)
        elif not held:
            print(f"kill9: seed {seed}; the files are kept in {folder}")
    return 0 if held else 1


def kill_many_times(folder: Path, *, times: int, seed: int, clock: Clock) -> Tally:
    """Rounds of fresh stores until `times` kills have hit. Raises PromiseBroken."""
    chance = random.Random(seed)
    users = ("undisturbed", *(f"user-{number}" for number in range(1, ROUNDS_PER_KILL_MAX * times + 1)))
    stage = set_stage(folder, walks=WALKS, places=PLACES, seed=chance.randrange(2**32), users=users)
    with running_server(stage) as server_url:
        killing = _Killing(stage, server_url, chance=chance, clock=clock)
        for user in users[1:]:
            if killing.tally.kills.total() >= times:
                break
            killing.play_round(user, kills_max=times - killing.tally.kills.total())
    killed = killing.tally.kills.total()
    if killed < times:
        raise PromiseBroken(f"only {killed} of {times} kills hit: the app ended before the others")
    return killing.tally


class _Killing:
    """One server, one old store, and what an undisturbed run makes of it."""

    def __init__(self, stage: Stage, server_url: str, *, chance: random.Random, clock: Clock) -> None:
        self.tally = Tally()
        self._stage = stage
        self._server_url = server_url
        self._chance = chance
        self._clock = clock
        self._collections = uploaded_collections(REGISTRY)
        self._legacy_digest = _digest(stage.legacy.path)
        undisturbed = stage.users[0]
        self._run_ms = self._play_undisturbed(undisturbed)
        self._rows = self._timeless_rows(undisturbed)
        columns_at = {
            "2.0.0": _columns_at_version_2(stage),
            "3.0.0": read_columns(stage.store_of(undisturbed), registry=REGISTRY),
        }
        self._expected = Expected(registry=REGISTRY, columns_at=columns_at, written=stage.legacy)
        self._check(undisturbed, "the undisturbed run")

    def _play_undisturbed(self, user: str) -> int:
        with self._start(user) as app:
            app.wait_for("started", wait_ms_max=WAIT_MS_MAX)
            began_ms = self._clock.monotonic_ms()
            app.wait_until_drained(wait_ms_max=WAIT_MS_MAX)
            return self._clock.monotonic_ms() - began_ms

    def play_round(self, user: str, *, kills_max: int) -> None:
        """A fresh store: kill and start again until the app has finished in spite of it, or that is enough."""
        self.tally.rounds += 1
        kills = 0
        while kills < kills_max:
            with self._start(user) as app:
                if self._finishes_before(app, self._chance.randrange(self._run_ms)):
                    break
                app.kill()
            kills += 1
            facts = self._check(user, f"kill {self.tally.kills.total() + 1}, of {user}")
            self.tally.kills[_phase(facts, user)] += 1
        else:
            with self._start(user) as app:
                app.wait_until_drained(wait_ms_max=WAIT_MS_MAX)
        self._check_end(user)

    def _start(self, user: str) -> AppProcess:
        return AppProcess(self._stage, user=user, cloud_url=self._server_url, clock=self._clock, batch=BATCH_ENTRIES)

    def _finishes_before(self, app: AppProcess, moment_ms: int) -> bool:
        """Whether nothing was left to send before so much time was over, counted from the start of the engine."""
        app.wait_for("started", wait_ms_max=WAIT_MS_MAX)
        return any(is_drained(fact) for fact in app.facts_until(self._clock.monotonic_ms() + moment_ms))

    def _check(self, user: str, after: str) -> StoreFacts:
        stage = self._stage
        facts = read_facts(stage.store_of(user), registry=REGISTRY, user=user, cloud_folder=stage.cloud_folder)
        found = faults(facts, user=user, expected=self._expected)
        if found:
            raise PromiseBroken(f"after {after}: " + "; ".join(found))
        return facts

    def _check_end(self, user: str) -> None:
        """The server has each row once, as the store has it, and the store has what an undisturbed run has."""
        stage = self._stage
        self._check(user, f"the end of {user}")
        local = local_rows(stage.store_of(user), registry=REGISTRY, user=user, collections=self._collections)
        cloud = cloud_rows(
            self._server_url,
            user=user,
            token=stage.token_of(user),
            clock=self._clock,
            collections=self._collections,
        )
        proof = compare(local, cloud, read_ledger(stage.cloud_folder, user=user))
        if not proof.holds:
            raise PromiseBroken(f"at the end of {user}: {proof}")
        if self._timeless_rows(user) != self._rows:
            raise PromiseBroken(f"at the end of {user}: its rows are not those of the undisturbed run")
        if _digest(stage.legacy.path) != self._legacy_digest:
            raise PromiseBroken(f"at the end of {user}: the old store was changed")
        self.tally.rows += proof.rows

    def _timeless_rows(self, user: str) -> Rows:
        rows = local_rows(self._stage.store_of(user), registry=REGISTRY, user=user, collections=IMPORTED_COLLECTIONS)
        for body in rows.values():
            body.pop(TIMED_COLUMN, None)
        return rows


def _columns_at_version_2(stage: Stage) -> Columns:
    store = stage.folder / "version-2.db"
    at_2 = registry(target="2.0.0")
    with Engine.open(store, registry=at_2) as engine:
        engine.migrate()
    return read_columns(store, registry=at_2)


def _phase(facts: StoreFacts, user: str) -> str:
    """What the kill hit, by what is in the file."""
    if facts.versions.get(user_scope(user)) != str(REGISTRY.target):
        return "while migrating" if facts.gone else "before the first migration was done"
    return "while uploading" if any(facts.waiting.values()) else "when all was sent"


def _digest(path: Path) -> str:
    """SHA-256 over the old store and its -wal."""
    digest = hashlib.sha256()
    for file in sorted(path.parent.glob(f"{path.name}*")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
