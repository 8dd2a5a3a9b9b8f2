"""Bugs in what comes from the cloud: pages, merging, lifting, parking, reading again."""

from dataclasses import replace
from typing import Any

from simulator.mutants.surgery import DARK, KIN, QUIET, RESTORED, STORMY, Mutant, Part, Surgery
from syncengine.errors import SyncEngineError
from syncengine.sync.apply import Applied
from syncengine.sync.merge import Merged
from syncengine.sync.parking import unpark
from syncengine.sync.position import Position, move_cursor

APPLY = "syncengine.sync.apply"
LANDING = "syncengine.sync.landing"
PENDING = "syncengine.sync.pending"
PULLING = "syncengine.sync.pull:Pulling"
RESYNC = "syncengine.sync.resync"


def moves_the_cursor_before_the_page(surgery: Surgery) -> None:
    def cursor_first(apply: Part) -> Part:
        def applied(self: Any, rows: Any, *, position: Position, moves_cursor: bool = True) -> Any:
            if moves_cursor:
                with self.store.transaction(durable=True):
                    move_cursor(self.store, self.owner, position)
            return apply(self, rows, position=position, moves_cursor=False)

        return applied

    surgery.around(f"{APPLY}:Applier", "apply", cursor_first)


def forgets_to_replay_pending_edits(surgery: Surgery) -> None:
    surgery.replace(APPLY, "pending_edits", lambda store, owner, rows: {})


def sends_back_what_it_reads(surgery: Surgery) -> None:
    """Capture goes on while a page is written."""
    from contextlib import nullcontext

    surgery.replace(APPLY, "writing_uncaptured", lambda store, collections, **_: nullcontext())


def passes_over_deletions(surgery: Surgery) -> None:
    def but_deletions(write: Part) -> Part:
        return lambda self, rows: write(self, [row for row in rows if row.body is not None])

    surgery.around(f"{APPLY}:_Page", "write", but_deletions)


def drops_edits_of_deleted_rows(surgery: Surgery) -> None:
    """A row that is deleted at the cloud takes its waiting edits along, and nobody is told."""
    surgery.around(PENDING, "decide", lambda decide: lambda *told, **more: _silent(decide(*told, **more)))
    surgery.replace("syncengine.sync.page_record:PageRecord", "set_aside_edited", lambda self, *told: None)


def _silent(merged: Merged) -> Merged:
    return replace(merged, conflicts=()) if merged.set_aside else merged


def forgets_what_is_of_a_newer_shape(surgery: Surgery) -> None:
    surgery.replace("syncengine.sync.page_record:PageRecord", "park", lambda self, *told, **more: None)


def never_looks_at_what_is_parked(surgery: Surgery) -> None:
    surgery.replace("syncengine.sync.pull", "apply_parked", lambda *told, **more: 0)
    surgery.replace("syncengine.sync.parked", "apply_parked", lambda *told, **more: 0)


def stops_after_the_first_page(surgery: Surgery) -> None:
    """A page that is full is taken for the last one."""

    def one_page(reading: Part) -> Part:
        def read(self: Any, *told: Any) -> Any:
            steps = reading(self, *told)
            try:
                call = next(steps)
                while True:
                    try:
                        said = yield call
                    except SyncEngineError as error:
                        call = steps.throw(error)
                    else:
                        call = steps.send(replace(said, more=False))
            except StopIteration as stop:
                return stop.value

        return read

    surgery.around(PULLING, "_read", one_page)


def takes_pending_edits_for_the_clouds(surgery: Surgery) -> None:
    """Where both sides changed a row the cloud's stays, whatever the policy says, and it is not written down."""
    surgery.replace(
        PENDING,
        "decide",
        lambda server, *, local, edits, policy, collection: Merged(
            row=server, dropped=tuple(edit.entry_id for edit in edits if not edit.frozen)
        ),
    )


def loses_what_lay_beside(surgery: Surgery) -> None:
    """Writes in other shapes are passed over, and said to be in the document."""
    surgery.around(
        "syncengine.sync.beside:_Lifting",
        "_fields_of",
        lambda fields_of: lambda self, body, patch, shape: {},
    )


def never_hands_back_what_it_lifts(surgery: Surgery) -> None:
    surgery.replace(f"{LANDING}:Landings", "_hand_back", lambda self, item, made: None)


def takes_a_restored_cloud_at_its_word(surgery: Surgery) -> None:
    """Nothing that the older copy lacks is told to it again."""
    surgery.replace(RESYNC, "tell_again", lambda *told, **more: None)
    surgery.replace(LANDING, "tell_again", lambda *told, **more: None)


def keeps_what_was_deleted_long_ago(surgery: Surgery) -> None:
    """After tombstones were forgotten, rows that a full reading did not bring stay."""
    surgery.replace("syncengine.sync.pull", "settle_unseen", lambda *told, **more: None)


def writes_only_fields_that_changed(surgery: Surgery) -> None:
    """Rows that are here already keep their values."""

    def keeping(write: Part) -> Part:
        def written(self: Any, owner: str, key: str, body: Any) -> Any:
            local = self.read(owner, key) or {}
            return write(self, owner, key, {**body, **{n: v for n, v in local.items() if n == "body" and v}})

        return written

    surgery.around("syncengine.sync.live_table:LiveTable", "write", keeping)


def decides_nothing_about_kin(surgery: Surgery) -> None:
    surgery.replace("syncengine.sync.pull", "decide_kin", lambda applier, position: Applied())


def keeps_nothing_that_goes_along(surgery: Surgery) -> None:
    surgery.replace("syncengine.sync.deciding:PageRecord", "set_aside", lambda self, *told, **more: None)


def lets_parents_go_that_are_needed(surgery: Surgery) -> None:
    def forgotten(applier: Any, item: Any, *told: Any) -> None:
        with applier.store.transaction(durable=True):
            unpark(applier.store, item, owner=applier.owner)

    surgery.replace("syncengine.sync.kin_at_end", "_keep_parent", forgotten)


MUTANTS = (
    Mutant(
        name="the cursor moves before its page",
        put_in=moves_the_cursor_before_the_page,
        caught_by=("P10",),
        plan=DARK,
    ),
    Mutant(
        name="pending edits are not replayed",
        put_in=forgets_to_replay_pending_edits,
        caught_by=("P10",),
        plan={**QUIET, "edits_while_reading": 0.5},
    ),
    Mutant(name="what is read is sent back", put_in=sends_back_what_it_reads, caught_by=("P3", "P10"), plan=QUIET),
    Mutant(name="deletions are not read", put_in=passes_over_deletions, caught_by=("P10",), plan=QUIET),
    Mutant(
        name="edits of a row that is deleted elsewhere are dropped",
        put_in=drops_edits_of_deleted_rows,
        caught_by=("P2", "P14"),
        plan=STORMY,
    ),
    Mutant(
        name="rows of a newer shape are forgotten",
        put_in=forgets_what_is_of_a_newer_shape,
        caught_by=("P10",),
        plan={"upgrades": True, "all_upgrade_at_end": True, **QUIET},
    ),
    Mutant(
        name="what was parked stays parked",
        put_in=never_looks_at_what_is_parked,
        caught_by=("P10",),
        plan={"upgrades": True, "all_upgrade_at_end": True, **QUIET},
    ),
    Mutant(
        name="reading stops after the first page",
        put_in=stops_after_the_first_page,
        caught_by=("P10",),
        plan={"batch_entries": 1, **QUIET},
    ),
    Mutant(
        name="the cloud always wins, and nobody is told",
        put_in=takes_pending_edits_for_the_clouds,
        caught_by=("P2", "P10", "P14"),
        plan=QUIET,
    ),
    Mutant(
        name="what lay beside a row is lost when it is lifted",
        put_in=loses_what_lay_beside,
        caught_by=("P2", "P10"),
        plan={"upgrades": True, "all_upgrade_at_end": True, **QUIET},
    ),
    Mutant(
        name="what is lifted is not handed back",
        put_in=never_hands_back_what_it_lifts,
        caught_by=("P10",),
        plan={"upgrades": True, "all_upgrade_at_end": True, **QUIET},
    ),
    Mutant(
        name="a restored cloud is not told what it lost",
        put_in=takes_a_restored_cloud_at_its_word,
        caught_by=("P10",),
        plan=RESTORED,
    ),
    Mutant(
        name="rows stay whose deletions were forgotten",
        put_in=keeps_what_was_deleted_long_ago,
        caught_by=("P10",),
        plan={"forgets_tombstones": True, "partitions": True, "edits_per_device": 14, **QUIET},
    ),
    Mutant(
        name="a field that is here is not written again",
        put_in=writes_only_fields_that_changed,
        caught_by=("P10",),
        plan=QUIET,
    ),
    Mutant(
        name="what waits for its parent waits for ever",
        put_in=decides_nothing_about_kin,
        caught_by=("P10",),
        plan=KIN,
    ),
    Mutant(
        name="what goes with its parent is not kept",
        put_in=keeps_nothing_that_goes_along,
        caught_by=("P2",),
        plan=KIN,
    ),
    Mutant(
        name="a parent that rows need stays deleted at the cloud",
        put_in=lets_parents_go_that_are_needed,
        caught_by=("P10",),
        plan=KIN,
    ),
)
