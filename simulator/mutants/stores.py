"""Bugs of one store: its markers, its start, its history, its words to others, and who may write to it."""

import logging
from dataclasses import replace
from typing import Any

from simulator.mutants.surgery import DARK, PLAIN, QUIET, UPGRADED, Mutant, Part, Surgery
from syncengine.clock import SystemClock
from syncengine.errors import SyncEngineError
from syncengine.events import MigrationEnded
from syncengine.local.connection import open_store

OF_RUN = "syncengine.migrate.migration_run"
SERVICE = "syncengine.migrate.service:DataMigrationService"


def moves_markers_afterwards(surgery: Surgery) -> None:
    """In a transaction of their own; a start makes good what a power cut left between the two."""

    def settled(go: Part) -> Part:
        def gone(self: Any, plan: Any, **more: Any) -> Any:
            report = go(self, plan, **more)
            self._settle_markers(plan.user)
            return report

        return gone

    surgery.replace(OF_RUN, "move_markers", lambda store, registry, *, user: None)
    surgery.around(SERVICE, "_go", settled)


def asks_the_cloud_at_a_start(surgery: Surgery) -> None:
    """Whether it is there; the start goes on without an answer, too."""

    def asked(migrate: Part) -> Part:
        def migrated(self: Any) -> Any:
            try:
                self._session._make_backend(None).health("is anybody there")
            except SyncEngineError:
                logging.getLogger("syncengine.engine").info("nobody is there")
            return migrate(self)

        return migrated

    surgery.around("syncengine.engine:Engine", "migrate", asked)


def waits_at_a_start(surgery: Surgery) -> None:
    """As long as somebody else could still be writing."""

    def waited(migrate: Part) -> Part:
        def migrated(self: Any) -> Any:
            self._store.clock.pause(200)
            return migrate(self)

        return migrated

    surgery.around("syncengine.engine:Engine", "migrate", waited)


def forgets_a_row_in_its_history(surgery: Surgery) -> None:
    """The row is there; only what the run says of itself lacks it, and adds up all the same."""

    def forgetful(record: Part) -> Part:
        def recorded(store: Any, run: Any) -> None:
            counts = run.counts
            fewer = replace(counts, read=counts.read - 1, written=counts.written - 1) if counts.written else counts
            record(store, replace(run, counts=fewer))

        return recorded

    surgery.around(OF_RUN, "record_run", forgetful)


def takes_a_cancelled_migration_for_done(surgery: Surgery) -> None:
    def done(record: Part) -> Part:
        def recorded(self: Any, state: str, failure: Any = None) -> None:
            record(self, "completed" if state == "cancelled" else state, failure)

        return recorded

    surgery.around(f"{OF_RUN}:Run", "record", done)


def keeps_what_a_stopped_migration_did(surgery: Surgery) -> None:
    """Whoever stops a migration finds a number higher than before, and nothing else."""

    def kept(run_step: Part) -> Part:
        def ran(step: Any, context: Any, **more: Any) -> Any:
            result = run_step(step, context, **more)
            if result.state in ("cancelled", "paused"):
                with context.store.transaction():
                    context.store.query("UPDATE _sync_version SET app_version = 'stopped'")
            return result

        return ran

    surgery.around("syncengine.migrate.service", "run_step", kept)


def never_tells_an_end(surgery: Surgery) -> None:
    surgery.around(
        "syncengine.migrate.reporter:MigrationProgressReporter",
        "_say",
        lambda say: lambda self, event: None if isinstance(event, MigrationEnded) else say(self, event),
    )


def logs_what_people_write(surgery: Surgery) -> None:
    def told(settle: Part) -> Part:
        def claimed(self: Any, *given: Any, **more: Any) -> Any:
            batch = settle(self, *given, **more)
            for entry in batch.entries:
                logging.getLogger("syncengine.sync").debug("sends " + str(entry.set_json))
            return batch

        return claimed

    surgery.around("syncengine.outbox.queue:Outbox", "claim", told)


def tidies_a_newer_store(surgery: Surgery) -> None:
    """An older app that may only read puts the store in order all the same."""

    def tidied(opened: Part) -> Part:
        def open_it(path: Any, **more: Any) -> Any:
            engine = opened(path, **more)
            if engine.read_only is not None:
                other = open_store(str(path), busy_wait_ms=1_000, synchronous="FULL", clock=more["clock"])
                other.execute("PRAGMA user_version = 7").fetchall()
                other.close(True)
            return engine

        return open_it

    surgery.around("syncengine.engine:Engine", "open", lambda opened: staticmethod(tidied(opened)))


def makes_no_copy(surgery: Surgery) -> None:
    surgery.replace("syncengine.migrate.run", "protect", lambda step, executor, context: None)


def seals_an_empty_copy(surgery: Surgery) -> None:
    """What is sealed and opened again is a store, and nothing is in it."""

    def emptied(seal: Part) -> Part:
        def sealed(store_path: str, plain_path: str, **more: Any) -> Any:
            connection = open_store(plain_path, busy_wait_ms=0, synchronous="FULL", clock=SystemClock())
            connection.execute("DELETE FROM journeys; DELETE FROM places; VACUUM; PRAGMA journal_mode = DELETE")
            connection.close(True)
            return seal(store_path, plain_path, **more)

        return sealed

    surgery.around("syncengine.local.restore_points", "seal_copy", emptied)


MUTANTS = (
    Mutant(
        name="markers move after the change",
        put_in=moves_markers_afterwards,
        caught_by=("P1",),
        plan={**DARK, "upgrades": True, "upgrades_each": 4, "power_share": 0.4},
    ),
    Mutant(name="a start asks the cloud", put_in=asks_the_cloud_at_a_start, caught_by=("P5",), plan=QUIET),
    Mutant(name="a start waits", put_in=waits_at_a_start, caught_by=("P5",), plan=QUIET),
    Mutant(
        name="a row is not in the history",
        put_in=forgets_a_row_in_its_history,
        caught_by=("P8",),
        plan=UPGRADED,
    ),
    Mutant(
        name="a cancelled migration is taken for done",
        put_in=takes_a_cancelled_migration_for_done,
        caught_by=("P6", "P15", "P10", "P8"),
        plan={**UPGRADED, "stops_upgrades": True},
    ),
    Mutant(
        name="a stopped migration leaves a trace",
        put_in=keeps_what_a_stopped_migration_did,
        caught_by=("P6",),
        plan={**UPGRADED, "stops_upgrades": True},
    ),
    Mutant(
        name="no copy is made before a risky step",
        put_in=makes_no_copy,
        caught_by=("P7",),
        plan={**UPGRADED, "app": "heros_path"},
        profile="heros_path",
    ),
    Mutant(
        name="the copy before a risky step is empty",
        put_in=seals_an_empty_copy,
        caught_by=("P7",),
        plan={**UPGRADED, "app": "heros_path"},
        profile="heros_path",
    ),
    Mutant(name="no end is told", put_in=never_tells_an_end, caught_by=("P14",), plan=UPGRADED),
    Mutant(name="what people write is logged", put_in=logs_what_people_write, caught_by=("P12",), plan=QUIET),
    Mutant(
        name="an older app tidies a newer store",
        put_in=tidies_a_newer_store,
        caught_by=("P13",),
        plan={**PLAIN, "power_share": 0.0, "upgrades": True, "downgrades": True},
    ),
)
