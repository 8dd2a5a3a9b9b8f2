"""Bugs in upgrades: entries that wait while the shape changes, rows, triggers, markers."""

import json
from dataclasses import replace
from typing import Any

from simulator.mutants.surgery import UPGRADED, Mutant, Part, Surgery
from syncengine.errors import ReconciliationFailed
from syncengine.outbox.capture import capture_off
from syncengine.sync.merge import Conflict
from syncengine.sync.pending import record_conflicts

OF_RUN = "syncengine.migrate.entries_of_run"


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


def forgets_what_it_has_done(surgery: Surgery) -> None:
    """Rows are made anew, and the history does not say so: the next start does it again."""

    def unmarked(record: Part) -> Part:
        def recorded(self: Any, state: str, failure: Any = None) -> None:
            record(self, state, failure)
            if state == "completed":
                self.store.query("DELETE FROM _sync_run WHERE migration = ?", (self.step.id,))

        return recorded

    surgery.around("syncengine.migrate.migration_run:Run", "record", unmarked)


def gives_up_where_edits_wait(surgery: Surgery) -> None:
    def fragile(convert: Part) -> Part:
        def converted(executor: Any, work: Any) -> Any:
            counts = convert(executor, work)
            if counts.read:
                raise ReconciliationFailed("Edits wait.", fix="Send them first.")
            return counts

        return converted

    for name in ("convert_entries", "convert_beside"):
        surgery.around(OF_RUN, name, fragile)


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


def takes_waiting_edits_back(surgery: Surgery) -> None:
    """Before the shape changes, waiting changes of notes are undone as if the cloud had won: nobody is to convert
    them."""

    def undone(convert: Part) -> Part:
        def converted(executor: Any, work: Any) -> Any:
            if executor.collection == "notes":
                _take_back(work.store)
            return convert(executor, work)

        return converted

    surgery.around(OF_RUN, "convert_beside", undone)


def _take_back(store: Any) -> None:
    found = store.query(
        "SELECT entry_id, owner, row_key, set_json, before_json FROM _sync_outbox AS o"
        " WHERE state = 'waiting' AND kind = 'patch' AND collection = 'notes' AND NOT EXISTS"
        " (SELECT 1 FROM _sync_outbox AS other WHERE other.row_key = o.row_key AND other.entry_id <> o.entry_id)"
    )
    for entry_id, owner, key, set_json, before_json in found:
        before = json.loads(before_json)
        sets = ", ".join(f"{name} = ?" for name in before)
        with capture_off(store, ("notes",)):
            where = (*before.values(), owner, key)
            store.query(f"UPDATE notes SET {sets} WHERE user_id = ? AND id = ?", where)
        store.query("DELETE FROM _sync_outbox WHERE entry_id = ?", (entry_id,))
        told = Conflict(field="*", local=json.loads(set_json), server=None, winner="server")
        record_conflicts(store, [told], owner=owner, row=("notes", key), policy="server_wins", version=0)


def imports_all_but_the_last(surgery: Surgery) -> None:
    def but_the_last(elements: Part) -> Part:
        return lambda self, key: iter(list(elements(self, key))[:-1])

    surgery.around("syncengine.migrate.work:Work", "elements", but_the_last)


MUTANTS = (
    Mutant(
        name="an upgrade takes waiting edits back",
        put_in=takes_waiting_edits_back,
        caught_by=("P9",),
        plan={**UPGRADED, "edits_per_device": 14},
    ),
    Mutant(
        name="an entry is dropped at conversion",
        put_in=drops_an_entry_at_conversion,
        caught_by=("P9",),
        plan=UPGRADED,
    ),
    Mutant(
        name="entries are only said to be converted",
        put_in=only_says_that_it_converts,
        caught_by=("P10", "P2", "P15"),
        plan=UPGRADED,
    ),
    Mutant(
        name="entries stay in the old shape",
        put_in=leaves_entries_in_the_old_shape,
        caught_by=("P10", "P2", "P15", "P9"),
        plan=UPGRADED,
    ),
    Mutant(
        name="a migration loses a row", put_in=loses_a_row, caught_by=("P8", "P10", "P6", "P2", "P14"), plan=UPGRADED
    ),
    Mutant(
        name="a new table has no triggers",
        put_in=forgets_the_triggers,
        caught_by=("P2", "P10", "P14"),
        plan=UPGRADED,
    ),
    Mutant(
        name="a migration gives up where edits wait",
        put_in=gives_up_where_edits_wait,
        caught_by=("P6",),
        plan=UPGRADED,
    ),
    Mutant(
        name="a migration is done and not marked",
        put_in=forgets_what_it_has_done,
        caught_by=("P1", "P6", "P15"),
        plan={**UPGRADED, "power_share": 0.1},
    ),
    Mutant(
        name="a field is lost when a row is lifted",
        put_in=takes_the_old_value_of_a_field,
        caught_by=("P10", "P2"),
        plan=UPGRADED,
    ),
    Mutant(
        name="rows of a newer shape are taken as they are",
        put_in=writes_into_a_shape_that_it_does_not_know,
        caught_by=("P10", "P2", "P15"),
        plan=UPGRADED,
    ),
    Mutant(
        name="what lay last on a phone is not imported",
        put_in=imports_all_but_the_last,
        caught_by=("P8",),
        plan={"imports": True, "power_share": 0.0, "clones": False},
        profile="heros_path",
    ),
)
