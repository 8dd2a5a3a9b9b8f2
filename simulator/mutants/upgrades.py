"""Bugs in upgrades: entries that wait while the shape changes, rows, triggers, markers."""

from dataclasses import replace
from typing import Any

from simulator.mutants.surgery import QUIET, ROUGH, Mutant, Part, Surgery

OF_RUN = "syncengine.migrate.entries_of_run"
UPGRADES: dict[str, Any] = {"upgrades": True, **QUIET}


def drops_an_entry_at_conversion(surgery: Surgery) -> None:
    """Before the engine has counted what there is to convert."""

    def one_less(convert: Part) -> Part:
        def converted(executor: Any, work: Any) -> Any:
            work.store.query(
                "DELETE FROM _sync_outbox WHERE entry_id ="
                " (SELECT max(entry_id) FROM _sync_outbox WHERE state = 'waiting' AND collection = 'notes')"
            )
            return convert(executor, work)

        return converted

    surgery.around(OF_RUN, "convert_entries", one_less)


def only_says_that_it_converts(surgery: Surgery) -> None:
    """Entries get the number of the new shape and keep the bodies of the old one."""

    def relabelled(executor: Any, work: Any) -> Any:
        from syncengine.migrate.definition import EntryCounts

        name, version = executor.collection, executor.definition.to_version
        read = int(work.store.value("entries", "count", collection=name))
        work.store.run("entries", "relabel_all", collection=name, shape_version=version)
        work.store.run("entries", "relabel_items", collection=name, shape_version=version)
        return EntryCounts(read=read, converted=read)

    for name in ("convert_entries", "convert_beside"):
        surgery.replace(OF_RUN, name, relabelled)


def leaves_entries_in_the_old_shape(surgery: Surgery) -> None:
    from syncengine.migrate.definition import EntryCounts

    for name in ("convert_entries", "convert_beside"):
        surgery.replace(OF_RUN, name, lambda executor, work: EntryCounts())


def loses_a_row(surgery: Surgery) -> None:
    """The last row of each batch, and it is not counted."""
    surgery.around(
        "syncengine.migrate.row_function:RowFunctionExecutor",
        "made_of",
        lambda made_of: (
            lambda self, rows, work: (
                [*made_of(self, rows, work)[:-1], []] if len(rows) > 1 else made_of(self, rows, work)
            )
        ),
    )


def forgets_the_triggers(surgery: Surgery) -> None:
    """After the table was made anew nothing captures its edits until the next start."""

    def once(install: Part) -> Part:
        def installed(store: Any, collection: str) -> None:
            if store.query("SELECT count(*) FROM _sync_run WHERE state = 'completed'")[0][0] < 1:
                install(store, collection)

        return installed

    surgery.around("syncengine.outbox.capture", "install_capture", once)


def marks_it_done_too_late(surgery: Surgery) -> None:
    """A fault that looks harmless: the rows are committed, and what says so comes in the next transaction."""

    def later(record: Part) -> Part:
        def recorded(self: Any, state: str, failure: Any = None) -> None:
            if state == "completed":
                here, store = f'"migration_{self.step.id}"', self.store
                store.committing = True
                for sql in (f"RELEASE {here}", "COMMIT", "BEGIN IMMEDIATE", f"SAVEPOINT {here}"):
                    store.connection.execute(sql)
                store.committing = False
            record(self, state, failure)

        return recorded

    surgery.around("syncengine.migrate.migration_run:Run", "record", later)


def takes_the_old_value_of_a_field(surgery: Surgery) -> None:
    """Entries are converted by what the row held before them."""
    surgery.around(
        "syncengine.migrate.lifting:Lifter",
        "up",
        lambda up: lambda self, collection, body, **more: up(self, collection, _without_body(body), **more),
    )


def _without_body(body: Any) -> Any:
    return {**body, "body": None} if "body" in body else body


def writes_into_a_shape_that_it_does_not_know(surgery: Surgery) -> None:
    """What cannot be read yet is taken as if it were of the present shape."""

    def careless(lifted: Part) -> Part:
        from syncengine.sync.beside import NewerShape

        def made(item: Any, *, lifter: Any, owner: str) -> Any:
            try:
                return lifted(item, lifter=lifter, owner=owner)
            except NewerShape:
                present = lifter.present_shape(item.collection)
                return lifted(replace(item, shape_version=str(present), patches=()), lifter=lifter, owner=owner)

        return made

    surgery.around("syncengine.sync.apply", "lifted", careless)


MUTANTS = (
    Mutant(
        name="an entry is dropped at conversion",
        put_in=drops_an_entry_at_conversion,
        caught_by=("P9",),
        plan=UPGRADES,
    ),
    Mutant(
        name="entries are only said to be converted",
        put_in=only_says_that_it_converts,
        caught_by=("P10", "P2", "P15"),
        plan=UPGRADES,
    ),
    Mutant(
        name="entries stay in the old shape",
        put_in=leaves_entries_in_the_old_shape,
        caught_by=("P10", "P2", "P15", "P9"),
        plan=UPGRADES,
    ),
    Mutant(
        name="a migration loses a row", put_in=loses_a_row, caught_by=("P8", "P10", "P6", "P2", "P14"), plan=UPGRADES
    ),
    Mutant(
        name="a new table has no triggers",
        put_in=forgets_the_triggers,
        caught_by=("P2", "P10", "P14"),
        plan=UPGRADES,
    ),
    Mutant(
        name="a migration is marked in a transaction of its own",
        put_in=marks_it_done_too_late,
        caught_by=("P1", "P6", "P15"),
        plan={"upgrades": True, **ROUGH, "power_share": 0.6, "has_weather": False, "edits_per_device": 4},
    ),
    Mutant(
        name="a field is lost when a row is lifted",
        put_in=takes_the_old_value_of_a_field,
        caught_by=("P10", "P2"),
        plan=UPGRADES,
    ),
    Mutant(
        name="rows of a newer shape are taken as they are",
        put_in=writes_into_a_shape_that_it_does_not_know,
        caught_by=("P10", "P2", "P15"),
        plan=UPGRADES,
    ),
)
