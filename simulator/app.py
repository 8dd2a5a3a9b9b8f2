"""Hero's Path as a process of its own: the real engine on a real file. Says each fact as one line of JSON.

It opens its store, migrates, syncs in the background, does what its user does, and ends when its stdin ends. What the
user does is a line of JSON on stdin: `{"do": "record", "collection": "journeys", "key": "w1", "fields": {…}}`, or
"change". The lines in order: `started`, `opened`, `planned`, `consent` where the user is asked, `migrated`, then
whatever happens, by the names of the engine's events, and `edited`; or `failed`.
"""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrations import registry
from syncengine import Engine
from syncengine.clock import Clock, SystemClock
from syncengine.errors import SyncEngineError
from syncengine.settings import Settings

if TYPE_CHECKING:
    from syncengine.local.watch import FileFlagWatcher
    from syncengine.migrate.consent import ConsentRequest
    from syncengine.migrate.results import MigrationReport


def settings(*, batch_entries: int) -> Settings:
    """Small waits, so that a demonstration of minutes fits in seconds."""
    return Settings(
        push_entries_max=batch_entries,
        retry_wait_ms_min=100,
        retry_wait_ms_max=500,
        probe_interval_ms_min=50,
        probe_interval_ms_max=250,
        idle_wait_ms_max=500,
        pull_interval_ms=250,
    )


class Voice:
    """Says facts on stdout, one line each, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def say(self, said: str, **facts: Any) -> None:
        line = json.dumps({"said": said, **facts})
        with self._lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def heard(self, event: object) -> None:
        """The engine's listener: events are frozen values of plain numbers and words."""
        assert is_dataclass(event)
        assert not isinstance(event, type)
        self.say(type(event).__name__, **asdict(event))

    def agree(self, request: "ConsentRequest") -> bool:
        """The demonstration's user says yes, and it is told what to."""
        changes = {preview.collection: preview.rows for preview in request.preview}
        self.say("consent", hops=[str(hop) for hop in request.hops], rows=changes, accepted=True)
        return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stdin ends; 1 when the engine could not do what it should."""
    asked = _parser().parse_args(arguments)
    # The parent decides when this ends, by closing stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    voice = Voice()
    try:
        _live(asked, voice)
    except SyncEngineError as error:
        voice.say("failed", code=error.code(), what=error.what)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulator.app", description=__doc__)
    parser.add_argument("--store", required=True, help="the engine's file")
    parser.add_argument("--legacy", help="the AsyncStorage store to import, where there is one")
    parser.add_argument("--target", default="3.0.0", help="the version of the app: 2.0.0 or 3.0.0")
    parser.add_argument("--user", required=True)
    parser.add_argument("--cloud", required=True, help="where the server is")
    parser.add_argument("--token-file", required=True, help="lines of `user token`")
    parser.add_argument("--batch", type=int, default=25, help="entries of one push")
    parser.add_argument("--backend", default="server", help="what the cloud is: server, or firestore (an emulator)")
    parser.add_argument("--online-flag", help="a file: while it is there, the system says that there is a network")
    return parser


def _live(asked: argparse.Namespace, voice: Voice) -> None:
    clock = SystemClock()
    began_ms = clock.monotonic_ms()
    voice.say("started")
    with Engine.open(
        asked.store,
        registry=registry(target=asked.target),
        user=asked.user,
        sources={"asyncstorage": asked.legacy} if asked.legacy else {},
        **_way_to_the_cloud(asked, clock),
        settings=settings(batch_entries=asked.batch),
        listener=voice.heard,
        consent=voice.agree,
        clock=clock,
    ) as engine:
        voice.say("opened", elapsed_ms=clock.monotonic_ms() - began_ms)
        _migrate(engine, voice, clock)
        engine.start()
        flag = _follow(asked.online_flag, engine) if asked.online_flag else None
        for line in sys.stdin:
            _edit(engine, asked.user, **json.loads(line))
            voice.say("edited", waiting=engine.status().outbox.waiting)
        if flag is not None:
            flag.stop()


def _way_to_the_cloud(asked: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    def token() -> str | None:
        return token_of(asked.user, Path(asked.token_file))

    if asked.backend == "server":
        return {"cloud_url": asked.cloud, "token": token}
    from migrations.firestore_generation1 import TREES
    from simulator.emulator import PROJECT
    from syncengine.firestore.backend import FirestoreBackend

    backend = FirestoreBackend(
        PROJECT,
        token=token,
        emulator=asked.cloud.removeprefix("http://"),
        settings=settings(batch_entries=asked.batch),
        clock=clock,
        older=TREES,
    )
    return {"backend": backend}


def _migrate(engine: Engine, voice: Voice, clock: Clock) -> None:
    plan = engine.plan()
    offline = sum(not step.online for step in plan.steps)
    hops = [str(hop) for hop in plan.hops]
    voice.say("planned", hops=hops, offline=offline, online=len(plan.steps) - offline)
    began_ms = clock.monotonic_ms()
    report = engine.migrate()
    elapsed_ms = clock.monotonic_ms() - began_ms
    status = engine.status()
    voice.say(
        "migrated",
        elapsed_ms=elapsed_ms,
        version=status.migration.current,
        waiting=status.outbox.waiting,
        claimed=status.outbox.claimed,
        confirmed=status.outbox.confirmed,
        runs=[] if report is None else _runs(report),
    )


def _runs(report: "MigrationReport") -> list[dict[str, Any]]:
    return [
        {
            "migration": result.migration_id,
            "state": result.state,
            "read": result.counts.read,
            "written": result.counts.written,
            "merged": result.counts.merged,
            "quarantined": result.counts.quarantined,
            "entries_read": result.entries.read,
            "entries_converted": result.entries.converted,
            "entries_quarantined": result.entries.quarantined,
            "batches": result.batches,
            "batches_undone": result.batches_undone,
        }
        for result in report.results
    ]


def _edit(engine: Engine, user: str, *, do: str, collection: str, key: str, fields: dict[str, Any]) -> None:
    """What a user does with one row."""
    with engine.write() as db:
        if do == "record":
            db.table(collection).insert({"user_id": user, "id": key, **fields})
        elif do == "change":
            db.table(collection).update((user, key), fields)


def _follow(flag_path: str, engine: Engine) -> "FileFlagWatcher":
    """Tell the engine what the system says about the network, as a phone's system would."""
    from syncengine.local.watch import FileFlagWatcher

    flag = FileFlagWatcher(flag_path, lambda present: engine.set_network(online=present))
    flag.start()
    engine.set_network(online=flag.present)
    return flag


def token_of(user: str, token_file: Path) -> str | None:
    """The user's token among lines of `user token`."""
    for line in token_file.read_text(encoding="utf-8").splitlines():
        name, _, token = line.partition(" ")
        if name == user:
            return token
    return None


if __name__ == "__main__":
    sys.exit(main())
