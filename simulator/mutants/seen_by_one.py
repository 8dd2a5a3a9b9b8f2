"""Bugs that only one judge sees: each takes care of everything else, so that nobody but that judge can tell."""

import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulator.mutants.outbox import takes_a_refusal_for_consent
from simulator.mutants.reading import drops_edits_of_deleted_rows
from simulator.mutants.surgery import KIN, PLAIN, QUIET, STORMY, UPGRADED, Mutant, Part, Surgery
from syncengine.cli.finding import Finding, Verdict
from syncengine.errors import StoreUnusable
from syncengine.outbox.capture import writing_uncaptured
from syncengine.outbox.waiting import BODY

ENGINE = "syncengine.engine:Engine"
KNOW_OF_DAMAGE = ("connection", "engine_tables", "store", "stored", "version_table")
KIND, ROW, GROUP = 4, slice(5, 7), 12
"""Where these stand in an entry of the outbox."""


def drops_what_is_refused_and_says_so(surgery: Surgery) -> None:
    takes_a_refusal_for_consent(surgery)
    _never_says_synced(surgery)


def drops_edits_of_deleted_rows_and_says_so(surgery: Surgery) -> None:
    """Those that the cloud had refused before the deletion was read, too: their items are marked as sent again."""
    drops_edits_of_deleted_rows(surgery)
    _never_says_synced(surgery)


def _never_says_synced(surgery: Surgery) -> None:
    surgery.around(ENGINE, "status", lambda status: lambda self: replace(status(self), synced=False))


def calls_a_refusal_a_lost_line(surgery: Surgery) -> None:
    surgery.around(
        "syncengine.outbox.settlement",
        "_reject",
        lambda reject: lambda store, entry, **why: reject(store, entry, **{**why, "code": "timed_out"}),
    )


def swaps_two_edits_of_a_row(surgery: Surgery) -> None:
    """Both are sent once, in one request, the later one under the earlier number."""

    def swapped(chosen: Part) -> Part:
        def made(self: Any) -> list[Any]:
            entries = list(chosen(self))
            for number, later in enumerate(entries):
                for place, earlier in enumerate(entries[:number]):
                    if _are_patches_of_one_row(earlier, later):
                        entries[place], entries[number] = _with_body_of(earlier, later), _with_body_of(later, earlier)
                        return entries
            return entries

        return made

    surgery.around("syncengine.outbox.choice:Choice", "_chosen", swapped)


def _are_patches_of_one_row(earlier: Any, later: Any) -> bool:
    if not (earlier[KIND] == later[KIND] == "patch" and earlier[ROW] == later[ROW]):
        return False
    return bool(earlier[GROUP] != later[GROUP] and json.loads(earlier[BODY]).keys() & json.loads(later[BODY]).keys())


def _with_body_of(entry: Any, other: Any) -> Any:
    changed = (*entry[:BODY], other[BODY], *entry[BODY + 1 :])
    return changed if type(entry) is tuple else type(entry)(*changed)


def _behind_each_migration(surgery: Surgery, then: Callable[[Any, Any], None]) -> None:
    """`then(engine, report)` is done when `migrate` of an engine is through."""

    def followed(migrate: Part) -> Part:
        def migrated(self: Any) -> Any:
            report = migrate(self)
            then(self, report)
            return report

        return migrated

    surgery.around(ENGINE, "migrate", followed)


def lets_rows_refer_to_nothing(surgery: Surgery) -> None:
    """Foreign keys are switched off for a migration, and not on again."""

    def unbind(engine: Any, _: Any) -> None:
        engine._store.connection.execute("PRAGMA foreign_keys = OFF").fetchall()

    _behind_each_migration(surgery, unbind)


def hides_why_it_may_only_read(surgery: Surgery) -> None:
    surgery.replace(ENGINE, "read_only", property(lambda self: None))


def swallows_what_an_older_app_writes(surgery: Surgery) -> None:
    class Swallowing:
        def execute(self, *told: Any) -> None:
            """Nothing comes of it."""

    @contextmanager
    def swallowed() -> Iterator[Swallowing]:
        yield Swallowing()

    surgery.around(
        ENGINE,
        "write",
        lambda write: lambda self, **more: swallowed() if self.read_only is not None else write(self, **more),
    )


def calls_damage_by_another_name(surgery: Surgery) -> None:
    """The store cannot be used, it says, as if that would pass; and `doctor` finds nothing."""
    for name in KNOW_OF_DAMAGE:
        surgery.replace(f"syncengine.local.{name}", "StoreDamaged", StoreUnusable)
    surgery.replace(
        "syncengine.cli.checks",
        "_carried_out",
        lambda name, check, look: Finding(check=name, verdict=Verdict.OK, found="well"),
    )


def tells_rows_to_whoever_helps(surgery: Surgery) -> None:
    def told(diagnosed: Part) -> Part:
        return lambda store, **more: {**diagnosed(store, **more), "marks": store.query("SELECT * FROM marks")}

    surgery.around("syncengine.diagnostics", "diagnosed", told)


def counts_a_row_too_many(surgery: Surgery) -> None:
    """And the constraints of the history's table are not asked."""

    def careless(open_store: Part) -> Part:
        def opened(*told: Any, **more: Any) -> Any:
            connection = open_store(*told, **more)
            connection.execute("PRAGMA ignore_check_constraints = ON").fetchall()
            return connection

        return opened

    def counted(record: Part) -> Part:
        def recorded(store: Any, run: Any) -> None:
            more = run.counts.written + bool(run.counts.written)
            record(store, replace(run, counts=replace(run.counts, written=more)))

        return recorded

    surgery.around("syncengine.local.store", "open_store", careless)
    surgery.around("syncengine.migrate.migration_run", "record_run", counted)


def reads_its_rows_again_after_an_upgrade(surgery: Surgery) -> None:
    """All rows that do not wait go, and come back from the cloud, where there is a line to it."""

    def empty(engine: Any, report: Any) -> None:
        if report is not None and any(one.counts.read and one.scope == "store" for one in report.results):
            with engine._store.transaction(), writing_uncaptured(engine._store, ("notes",)):
                engine._store.query(_WITHOUT_EDITS)
                engine._store.query("DELETE FROM _sync_cursor")

    _behind_each_migration(surgery, empty)


_WITHOUT_EDITS = "DELETE FROM notes WHERE id NOT IN (SELECT row_key FROM _sync_outbox)"


def tidies_the_phone(surgery: Surgery) -> None:
    """What has been imported is marked as done, where it lies."""

    def mark(engine: Any, _: Any) -> None:
        for folder in engine._sources.values():
            Path(folder, "imported").touch()

    _behind_each_migration(surgery, mark)


def reports_a_done_migration_as_failed(surgery: Surgery) -> None:
    def failed(migrate: Part) -> Part:
        def migrated(self: Any) -> Any:
            report = migrate(self)
            if report is None:
                return None
            return replace(report, results=tuple(replace(result, success=False) for result in report.results))

        return migrated

    surgery.around(ENGINE, "migrate", failed)


def never_notes_the_end_of_a_reading(surgery: Surgery) -> None:
    move = importlib.import_module("syncengine.sync.position").move_cursor
    for name in ("apply", "pull"):
        surgery.replace(
            f"syncengine.sync.{name}",
            "move_cursor",
            lambda store, owner, position: move(store, owner, replace(position, at_head=False)),
        )


def keeps_a_copy_of_who_is_wiped(surgery: Surgery) -> None:
    """Of the files as they were before, in case somebody regrets it."""

    def copied(wipe: Part) -> Part:
        def wiped(self: Any, *told: Any, **more: Any) -> Any:
            for end in ("", "-wal"):
                shutil.copyfile(f"{self._store.path}{end}", f"{self._store.path}{end}.before")
            return wipe(self, *told, **more)

        return wiped

    surgery.around(ENGINE, "wipe", copied)


def calls_every_write_a_merge(surgery: Surgery) -> None:
    """The cloud does what it should, and says that others have written, too."""

    def merged(judged: Part) -> Part:
        def made(*told: Any, **more: Any) -> Any:
            found = judged(*told, **more)
            return found._replace(status="merged") if found.status == "applied" else found

        return made

    surgery.around("syncengine.server.rows_at_work", "judged", merged)


MUTANTS = (
    Mutant(
        name="a refused entry is dropped, and status does not hide it",
        put_in=drops_what_is_refused_and_says_so,
        caught_by=("P2",),
        plan=STORMY,
    ),
    Mutant(
        name="edits of a row that is deleted elsewhere are dropped, and status does not hide it",
        put_in=drops_edits_of_deleted_rows_and_says_so,
        caught_by=("P2",),
        plan=STORMY,
    ),
    Mutant(
        name="a refusal is called a lost line",
        put_in=calls_a_refusal_a_lost_line,
        caught_by=("P2",),
        plan={**STORMY, "few_keys": True, "edits_per_device": 14},
    ),
    Mutant(
        name="two edits of a row change places",
        put_in=swaps_two_edits_of_a_row,
        caught_by=("P4",),
        plan={**QUIET, "few_keys": True, "edits_per_device": 14, "partitions": True},
    ),
    Mutant(
        name="rows may refer to nothing",
        put_in=lets_rows_refer_to_nothing,
        caught_by=("P10",),
        plan=KIN,
    ),
    Mutant(
        name="nobody hears why a store may only be read",
        put_in=hides_why_it_may_only_read,
        caught_by=("P13",),
        plan={**PLAIN, "power_share": 0.0, "upgrades": True, "downgrades": True},
    ),
    Mutant(
        name="what an older app writes is swallowed",
        put_in=swallows_what_an_older_app_writes,
        caught_by=("P13",),
        plan={**PLAIN, "power_share": 0.0, "upgrades": True, "downgrades": True},
    ),
    Mutant(
        name="damage is called by another name",
        put_in=calls_damage_by_another_name,
        caught_by=("P13",),
        plan={**QUIET, "damages": True},
    ),
    Mutant(name="diagnostics hold rows", put_in=tells_rows_to_whoever_helps, caught_by=("P12",), plan=QUIET),
    Mutant(name="a run counts a row too many", put_in=counts_a_row_too_many, caught_by=("P8",), plan=UPGRADED),
    Mutant(
        name="after an upgrade rows are read again",
        put_in=reads_its_rows_again_after_an_upgrade,
        caught_by=("P8",),
        plan=UPGRADED,
    ),
    Mutant(
        name="an import tidies the phone",
        put_in=tidies_the_phone,
        caught_by=("P8",),
        plan={"imports": True, "power_share": 0.0, "clones": False},
        profile="heros_path",
    ),
    Mutant(
        name="a done migration is reported as failed",
        put_in=reports_a_done_migration_as_failed,
        caught_by=("P6",),
        plan=UPGRADED,
    ),
    Mutant(
        name="the end of a reading is not noted",
        put_in=never_notes_the_end_of_a_reading,
        caught_by=("P10",),
        plan=QUIET,
    ),
    Mutant(
        name="a copy of who is wiped stays",
        put_in=keeps_a_copy_of_who_is_wiped,
        caught_by=("P11",),
        plan={**QUIET, "leaves": True},
    ),
    Mutant(name="every write is called a merge", put_in=calls_every_write_a_merge, caught_by=("P3",), plan=QUIET),
)
