"""Bugs in what waits to be sent: capture, claims, numbers, joining, settling."""

import json
from dataclasses import replace
from inspect import unwrap
from typing import Any

from simulator.mutants.surgery import BUSY, CROWDED, QUIET, ROUGH, STORMY, Mutant, Part, Surgery
from syncengine.errors import QuotaExceeded
from syncengine.outbox.capture_triggers import PREFIX
from syncengine.outbox.entry import Kind, entry_of
from syncengine.outbox.numbering import DrainState
from syncengine.sync.standing import Standing

OUTBOX = "syncengine.outbox.queue:Outbox"
CAPTURE = "syncengine.outbox.capture"
CLAIM = "syncengine.outbox.claim"
SQUASH = "syncengine.outbox.squash"
DRAINING = "syncengine.sync.drain:Draining"


def uses_a_number_again(surgery: Surgery) -> None:
    """The highest number is kept in memory only, so a restart counts from what is claimed.

    With tokens the cloud would tell and nothing would be lost, so there are none.
    """

    def forgetful(number: Part) -> Part:
        def numbered(store: Any, owner: str) -> DrainState:
            drain: DrainState = number(store, owner)
            if hasattr(store, "counted_on"):
                return drain
            store.counted_on = True
            highest = "SELECT coalesce(max(sequence), 0) FROM _sync_outbox WHERE owner = ?"
            found = store.query(highest, (owner,))[0][0]
            store.query("UPDATE _sync_drain SET next_sequence = ? WHERE owner = ?", (found + 1, owner))
            drain = number(store, owner)
            return drain

        return numbered

    surgery.around(CLAIM, "ensure_drain", forgetful)
    surgery.around(
        OUTBOX, "claim", lambda claim: lambda self, *told, **more: claim(self, *told, **{**more, "token": None})
    )
    surgery.replace("syncengine.sync.drain", "standing", lambda drain, *, device_seq: Standing.AGREES)


def sends_whole_rows(surgery: Surgery) -> None:
    def whole_rows(claim: Part) -> Part:
        def claimed(self: Any, *told: Any, **more: Any) -> Any:
            batch = claim(self, *told, **more)
            return replace(batch, entries=tuple(_whole(self.store, entry) for entry in batch.entries))

        return claimed

    surgery.around(OUTBOX, "claim", whole_rows)


def _whole(store: Any, entry: Any) -> Any:
    if entry.kind is not Kind.PATCH or entry.collection != "notes":
        return entry
    names = [name for (name,) in store.query("SELECT name FROM pragma_table_info('notes')")]
    rows = store.query("SELECT * FROM notes WHERE user_id = ? AND id = ?", (entry.owner, entry.row_key))
    if not rows:
        return entry
    body = dict(zip(names, rows[0], strict=True))
    del body["user_id"]
    return entry._replace(set_json=json.dumps(body))


def deletes_what_it_sends(surgery: Surgery) -> None:
    """Fire and forget."""

    def fire(claim: Part) -> Part:
        def claimed(self: Any, *told: Any, **more: Any) -> Any:
            batch = claim(self, *told, **more)
            for entry in batch.entries:
                with self.store.transaction():
                    self.store.query("DELETE FROM _sync_outbox WHERE entry_id = ?", (entry.entry_id,))
            return batch

        return claimed

    surgery.around(OUTBOX, "claim", fire)


def tears_groups_apart(surgery: Surgery) -> None:
    def first_only(claim: Part) -> Part:
        def claimed(self: Any, *told: Any, **more: Any) -> Any:
            batch = claim(self, *told, **more)
            return replace(batch, entries=batch.entries[:1])

        return claimed

    surgery.around(OUTBOX, "claim", first_only)


def sends_the_newest_first(surgery: Surgery) -> None:
    """Each edit alone, from the end of the queue."""
    surgery.replace("syncengine.outbox.choice:Choice", "entries", _newest_only)


def _newest_only(self: Any) -> list[Any]:
    sql = "SELECT max(entry_id) FROM _sync_outbox WHERE owner = ? AND state = 'waiting'"
    (newest,) = self._store.query(sql, (self._owner,))[0]
    if newest is None:
        return []
    entry = entry_of(self._store.rows("outbox", "entry", entry_id=newest)[0])
    return self._frozen([entry])  # type: ignore[no-any-return]  # the engine's own list


def numbers_anew_after_a_lost_answer(surgery: Surgery) -> None:
    """A call that failed has surely done nothing, it thinks."""

    def renumbering(failed: Part) -> Part:
        def handled(self: Any, error: Exception) -> Any:
            self._begin_epoch()
            return failed(self, error)

        return handled

    surgery.around(DRAINING, "_failed", renumbering)


def takes_silence_for_consent(surgery: Surgery) -> None:
    """A call that failed has surely done everything, it thinks."""

    def trusting(failed: Part) -> Part:
        def handled(self: Any, error: Exception) -> Any:
            with self._outbox.store.transaction():
                self._outbox.store.query(
                    "DELETE FROM _sync_outbox WHERE owner = ? AND state = 'claimed'", (self._owner,)
                )
            return failed(self, error)

        return handled

    surgery.around(DRAINING, "_failed", trusting)


def takes_a_refusal_for_consent(surgery: Surgery) -> None:
    surgery.replace("syncengine.outbox.settlement", "_reject", _drop)


def _drop(store: Any, entry: Any, **why: str) -> int:
    store.run("outbox", "delete", entry_id=entry.entry_id)
    return 0


def waits_for_ever(surgery: Surgery) -> None:
    """After a failure the next try is so far away that it never comes."""
    surgery.around(OUTBOX, "next_try_ms", lambda wait_ms: lambda self, owner: wait_ms(self, owner) * 10_000)


def never_gives_a_number_twice(surgery: Surgery) -> None:
    """What has a number and no answer is not sent again."""
    surgery.replace(CLAIM, "_claimed_again", lambda *told, **more: [])


def joins_the_older_value_over_the_newer(surgery: Surgery) -> None:
    surgery.around(SQUASH, "_both", lambda both: lambda under, over: both(over, under))


def joins_edits_over_what_came_between(surgery: Surgery) -> None:
    """A deletion takes in the row that was made again behind it."""

    def careless(joined: Part) -> Part:
        def both(earlier: Any, later: Any, **more: Any) -> Any:
            if earlier.kind is Kind.DELETE and later.kind is Kind.PUT and earlier.row_key == later.row_key:
                return earlier
            return joined(earlier, later, **more)

        return both

    surgery.around(SQUASH, "joined", careless)


def misses_changes(surgery: Surgery) -> None:
    _without_trigger(surgery, "_update")


def misses_deletions(surgery: Surgery) -> None:
    _without_trigger(surgery, "_delete")


def _without_trigger(surgery: Surgery, event: str) -> None:
    def fewer(triggers_of: Part) -> Part:
        def left(table: Any) -> dict[str, str]:
            return {name: sql for name, sql in triggers_of(table).items() if name != f"{PREFIX}{table.name}{event}"}

        return left

    surgery.around(CAPTURE, "triggers_of", fewer)


def captures_all_columns_but_one(surgery: Surgery) -> None:
    def narrow(changed: Part) -> Part:
        def first(table: Any, row: str) -> str:
            kept = tuple(column for column in table.columns if column.name != "body")
            text: str = changed(replace(table, columns=kept), row)
            return text

        return first

    surgery.around("syncengine.outbox.capture_triggers", "_changed", narrow)
    # Else a process that made the triggers of this table before has them ready.
    surgery.around(CAPTURE, "triggers_of", unwrap)


def commits_without_the_disk(surgery: Surgery) -> None:
    """PRAGMA synchronous = OFF: fast, until the power goes."""

    def unsynced(begin: Part) -> Part:
        def begun(self: Any) -> None:
            self._durable = False
            begin(self)

        return begun

    def off(open_store: Part) -> Part:
        def opened(*told: Any, **more: Any) -> Any:
            connection = open_store(*told, **more)
            connection.execute("PRAGMA synchronous = OFF").fetchall()
            return connection

        return opened

    surgery.around("syncengine.local.savepoint:Transaction", "_begin", unsynced)
    surgery.around("syncengine.local.store", "open_store", off)


def says_that_all_is_synced(surgery: Surgery) -> None:
    surgery.around(
        "syncengine.engine:Engine", "status", lambda status: lambda self: replace(status(self), synced=True)
    )


def leaves_sending_to_others_after_a_failure(surgery: Surgery) -> None:
    """Whoever has failed once thinks that another process has the right to send."""

    def modest(keep: Part) -> Part:
        def kept(self: Any) -> bool:
            has_failed = self._outbox.drain_state(self._owner).attempts > 0
            return not has_failed and bool(keep(self))

        return kept

    surgery.around(DRAINING, "keep_lease", modest)


def leaves_deletions_behind_what_has_no_room(surgery: Surgery) -> None:
    """What the cloud had no room for is sent bit by bit, again and again."""

    def one_by_one(claim: Part) -> Part:
        def claimed(self: Any, owner: str, **more: Any) -> Any:
            has_no_room = self.drain_state(owner).last_error == QuotaExceeded.code()
            return claim(self, owner, **({**more, "entries_max": 1, "fresh": False} if has_no_room else more))

        return claimed

    surgery.around(OUTBOX, "claim", one_by_one)


def asks_again_before_it_may(surgery: Surgery) -> None:
    surgery.around(
        "syncengine.sync.failure_note",
        "wait_after_failure_ms",
        lambda wait: lambda attempts, **more: wait(attempts, **{**more, "retry_after_ms": None}),
    )


def sets_aside_what_has_no_room(surgery: Surgery) -> None:
    """As if the cloud could not read it."""
    surgery.around(DRAINING, "_push", _refused_for_want_of_room)


def _refused_for_want_of_room(push: Part) -> Part:
    def pushed(self: Any, batch: Any) -> Any:
        try:
            yield from push(self, batch)
        except QuotaExceeded as error:
            self._outbox.void(batch.entries, code=error.code(), message="no room")

    return pushed


MUTANTS = (
    Mutant(name="a number is used again", put_in=uses_a_number_again, caught_by=("P2", "P14"), plan=ROUGH),
    Mutant(name="whole rows are sent", put_in=sends_whole_rows, caught_by=("P3",), plan=QUIET),
    Mutant(name="what is sent is deleted", put_in=deletes_what_it_sends, caught_by=("P2", "P14"), plan=QUIET),
    Mutant(name="groups are torn apart", put_in=tears_groups_apart, caught_by=("P4",), plan=QUIET),
    Mutant(name="the newest edit is sent first", put_in=sends_the_newest_first, caught_by=("P4", "P3"), plan=QUIET),
    Mutant(
        name="a lost answer makes new numbers",
        put_in=numbers_anew_after_a_lost_answer,
        caught_by=("P3",),
        plan={**STORMY, "edits_per_device": 2},
    ),
    Mutant(
        name="a lost answer is taken for a yes",
        put_in=takes_silence_for_consent,
        caught_by=("P2", "P14"),
        plan=STORMY,
    ),
    Mutant(
        name="a refused entry is dropped", put_in=takes_a_refusal_for_consent, caught_by=("P2", "P14"), plan=STORMY
    ),
    Mutant(name="the next try never comes", put_in=waits_for_ever, caught_by=("P10",), plan=QUIET),
    Mutant(
        name="what has a number is not sent again",
        put_in=never_gives_a_number_twice,
        caught_by=("P10",),
        plan=STORMY,
    ),
    Mutant(
        name="of two edits of a field the older one is sent",
        put_in=joins_the_older_value_over_the_newer,
        caught_by=("P2", "P10", "P14"),
        plan=QUIET,
    ),
    Mutant(
        name="a row that was made again stays deleted",
        put_in=joins_edits_over_what_came_between,
        caught_by=("P2", "P10", "P14"),
        plan=QUIET,
    ),
    Mutant(name="changes are not captured", put_in=misses_changes, caught_by=("P2", "P10", "P14"), plan=QUIET),
    Mutant(name="deletions are not captured", put_in=misses_deletions, caught_by=("P10",), plan=QUIET),
    Mutant(
        name="a column is left out of captured changes",
        put_in=captures_all_columns_but_one,
        caught_by=("P2", "P10", "P14"),
        plan=QUIET,
    ),
    Mutant(
        name="commits are not synced to the disk",
        put_in=commits_without_the_disk,
        caught_by=("P2", "P13", "P15", "P14", "P3"),
        plan=ROUGH,
    ),
    Mutant(name="status always says synced", put_in=says_that_all_is_synced, caught_by=("P14",), plan=QUIET),
    Mutant(
        name="after a failure sending is left to others",
        put_in=leaves_sending_to_others_after_a_failure,
        caught_by=("P10",),
        plan=STORMY,
    ),
    Mutant(
        name="deletions wait behind what there is no room for",
        put_in=leaves_deletions_behind_what_has_no_room,
        caught_by=("P10",),
        plan=CROWDED,
    ),
    Mutant(
        name="the cloud is asked again before it may be",
        put_in=asks_again_before_it_may,
        caught_by=("P10",),
        plan=BUSY,
    ),
    Mutant(
        name="what there is no room for is set aside",
        put_in=sets_aside_what_has_no_room,
        caught_by=("P2",),
        plan=CROWDED,
    ),
)
