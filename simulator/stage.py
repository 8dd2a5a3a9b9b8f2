"""What every play needs: a user's old store, the server as a process, a gate before it, and the app as a process."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.asyncstorage_writer import WrittenStore, write_store
from simulator.emulator import id_token
from simulator.processes import ChildProcess, ProcessSilent
from simulator.proof import place_witness
from simulator.proof_in_postgresql import place_witness_in
from syncengine.clock import Clock
from syncengine.server.sqlite_storage import DATABASE_NAME

START_WAIT_MS_MAX = 30_000

Fact = dict[str, Any]
"""One line of the app: `said` and its facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The folder of a play, and who plays: one user, or several with a store each."""

    folder: Path
    legacy: WrittenStore
    users: tuple[str, ...]
    backend: str = "server"
    """Where the rows go: server, or firestore."""
    database: str | None = None
    """Where the server keeps them: an address of PostgreSQL, or None for SQLite in the cloud's folder."""

    @property
    def cloud_folder(self) -> Path:
        return self.folder / "cloud"

    @property
    def token_file(self) -> Path:
        return self.folder / "tokens"

    def store_of(self, user: str, *, device: str = "") -> Path:
        """The engine's file of this user's first device, or of another one."""
        return self.folder / (f"{user}-{device}.db" if device else f"{user}.db")

    def token_of(self, user: str) -> str:
        """The token that the cloud takes for this user, on this machine only."""
        return id_token(user) if self.backend == "firestore" else f"only-on-this-machine-{user}"


def set_stage(
    folder: Path,
    *,
    walks: int,
    places: int,
    seed: int,
    users: tuple[str, ...] = ("ann",),
    backend: str = "server",
    database: str | None = None,
) -> Stage:
    """Write the user's AsyncStorage store, its rows still in the -wal, and the tokens."""
    legacy = write_store(folder / "phone", walks=walks, places=places, seed=seed, leave_wal=True)
    stage = Stage(folder=folder, legacy=legacy, users=users, backend=backend, database=database)
    lines = [f"{user} {stage.token_of(user)}\n" for user in users]
    stage.token_file.write_text("".join(lines), encoding="utf-8")
    return stage


@contextmanager
def running_server(stage: Stage) -> Iterator[str]:
    """The real server on a free port of this machine, as a process; its address."""
    if stage.database is None:
        place_witness(stage.cloud_folder)
    else:
        place_witness_in(stage.database)
    where = stage.database or str(stage.cloud_folder / DATABASE_NAME)
    arguments = ("--port", "0", "--database", where, "--token-file", str(stage.token_file))
    with ChildProcess("simulator.server", *arguments, log=stage.folder / "server.log") as server:
        line = server.line(wait_ms_max=START_WAIT_MS_MAX)
        if line is None or not line.startswith("listening on http://"):
            raise server.failed(f"did not start, but said {line!r}")
        yield line.removeprefix("listening on ")


def is_drained(fact: Fact) -> bool:
    """Whether it says that nothing is left to send: a round's end, or a start that found nothing to do."""
    if fact["said"] == "RoundEnded":
        return bool(fact["sendable"] == 0)
    return bool(fact["said"] == "migrated" and fact["waiting"] + fact["claimed"] == 0)


class AppProcess:
    """The app of one user, running after construction. `facts` are those heard so far, oldest first.

    The first device has the old store; `device` names another one, which has none. `target` is the app's version.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        user: str,
        cloud_url: str,
        clock: Clock,
        batch: int,
        online_flag: Path | None = None,
        device: str = "",
        target: str = "3.0.0",
    ) -> None:
        flag = () if online_flag is None else ("--online-flag", str(online_flag))
        legacy = () if device else ("--legacy", str(stage.legacy.path))
        self.process = ChildProcess(
            "simulator.app",
            *("--store", str(stage.store_of(user, device=device)), "--user", user, "--target", target),
            *("--cloud", cloud_url, "--token-file", str(stage.token_file), "--batch", str(batch)),
            *("--backend", stage.backend),
            *legacy,
            *flag,
            log=stage.folder / "app.log",
        )
        self.facts: list[Fact] = []
        self._clock = clock

    def next_fact(self, *, wait_ms_max: int) -> Fact | None:
        """The next fact, or None once the app has ended. Raises ProcessSilent; ProcessFailed when the app says so."""
        line = self.process.line(wait_ms_max=wait_ms_max)
        if line is None:
            return None
        fact: Fact = json.loads(line)
        self.facts.append(fact)
        if fact["said"] == "failed":
            raise self.process.failed(f"failed: {fact['code']}: {fact['what']}")
        return fact

    def facts_until(self, deadline_ms: int) -> Iterator[Fact]:
        """What it says until that moment of the clock. Raises ProcessFailed when it ends before."""
        while (left_ms := deadline_ms - self._clock.monotonic_ms()) > 0:
            try:
                fact = self.next_fact(wait_ms_max=left_ms)
            except ProcessSilent:
                return
            if fact is None:
                raise self.process.failed("ended by itself")
            yield fact

    def wait_for(self, what: str, when: Callable[[Fact], bool] = lambda fact: True, *, wait_ms_max: int) -> Fact:
        """The first fact of this name from now on for which `when` holds. Raises ProcessFailed."""
        return self._first(lambda fact: fact["said"] == what and when(fact), what, wait_ms_max=wait_ms_max)

    def wait_until_drained(self, *, wait_ms_max: int) -> None:
        """Until nothing is left to send. Raises ProcessFailed."""
        self._first(is_drained, "that its queue is empty", wait_ms_max=wait_ms_max)

    def wait_for_verdict(self, verdict: str, *, wait_ms_max: int) -> None:
        """Until its probe finds the network so. Raises ProcessFailed."""
        self.wait_for("ProbeChanged", lambda fact: fact["verdict"] == verdict, wait_ms_max=wait_ms_max)

    def _first(self, when: Callable[[Fact], bool], what: str, *, wait_ms_max: int) -> Fact:
        for fact in self.facts_until(self._clock.monotonic_ms() + wait_ms_max):
            if when(fact):
                return fact
        raise self.process.failed(f"did not say {what} within {wait_ms_max} ms")

    def edit(self, do: str, collection: str, key: str, **fields: Any) -> Fact:
        """Its user does something: `record` or `change` a row. Returns when it is in the store."""
        self.process.say(json.dumps({"do": do, "collection": collection, "key": key, "fields": fields}))
        return self.wait_for("edited", wait_ms_max=START_WAIT_MS_MAX)

    def sent_entries(self) -> int:
        """Entries that went out, each time that they did."""
        return sum(fact["entries"] for fact in self.facts if fact["said"] == "BatchSent")

    def kill(self) -> None:
        """SIGKILL, then hear what it had still said."""
        self.process.kill()
        while self.next_fact(wait_ms_max=1_000) is not None:
            pass

    def stop(self) -> None:
        """Let it close its store and end."""
        self.process.stop()

    def __enter__(self) -> "AppProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.__exit__(None, None, None)


__all__ = ["AppProcess", "Fact", "Stage", "is_drained", "running_server", "set_stage"]
