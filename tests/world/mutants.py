"""Bugs that an engine could have, each to be put into ours for a while."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from syncengine.engine import Engine
from syncengine.migrate import entries_of_run
from syncengine.outbox import claim as claiming
from syncengine.outbox.entry import Kind
from syncengine.outbox.queue import Outbox
from syncengine.sync import apply
from syncengine.sync.apply import Applier, move_cursor
from syncengine.sync.drain import Standing

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutant:
    """`plan`: what the worlds have in which it shows soon. `caught_by`: the promises that it breaks."""

    name: str
    put_in: Callable[[Patch], None]
    caught_by: tuple[str, ...]
    plan: dict[str, object] = field(default_factory=dict)


def drops_an_entry_at_conversion(patch: Patch) -> None:
    """Before the engine has counted what there is to convert."""
    convert = entries_of_run.convert_entries

    def convert_one_less(executor, work):
        work.store.query(
            "DELETE FROM _sync_outbox WHERE entry_id ="
            " (SELECT max(entry_id) FROM _sync_outbox WHERE state = 'waiting' AND collection = 'notes')"
        )
        return convert(executor, work)

    patch.setattr(entries_of_run, "convert_entries", convert_one_less)


def moves_the_cursor_before_the_page(patch: Patch) -> None:
    write = Applier.apply

    def cursor_first(self, rows, *, position, moves_cursor=True):
        if moves_cursor:
            with self.store.transaction(durable=True):
                move_cursor(self.store, self.owner, position)
        return write(self, rows, position=position, moves_cursor=False)

    patch.setattr(Applier, "apply", cursor_first)


def uses_a_number_again(patch: Patch) -> None:
    """The highest number is kept in memory only, so a restart counts from what is claimed.

    With tokens the cloud would tell and nothing would be lost, so there are none.
    """
    number = claiming.ensure_drain

    def forgetful(store, owner):
        drain = number(store, owner)
        if hasattr(store, "counted_on"):
            return drain
        store.counted_on = True
        highest = store.query("SELECT coalesce(max(sequence), 0) FROM _sync_outbox WHERE owner = ?", (owner,))[0][0]
        store.query("UPDATE _sync_drain SET next_sequence = ? WHERE owner = ?", (highest + 1, owner))
        return number(store, owner)

    patch.setattr(claiming, "ensure_drain", forgetful)
    claim = Outbox.claim
    patch.setattr(Outbox, "claim", lambda self, *args, **more: claim(self, *args, **{**more, "token": None}))
    patch.setattr("syncengine.sync.drain.standing", lambda drain, *, device_seq: Standing.AGREES)


def forgets_to_replay_pending_edits(patch: Patch) -> None:
    patch.setattr(apply, "pending_edits", lambda store, owner, rows: {})


def sends_whole_rows(patch: Patch) -> None:
    claim = Outbox.claim

    def whole(self, *args, **more):
        batch = claim(self, *args, **more)
        return replace(batch, entries=tuple(_whole(self.store, entry) for entry in batch.entries))

    patch.setattr(Outbox, "claim", whole)


def _whole(store, entry):
    if entry.kind is not Kind.PATCH or entry.collection != "notes":
        return entry
    names = [name for (name,) in store.query("SELECT name FROM pragma_table_info('notes')")]
    rows = store.query("SELECT * FROM notes WHERE user_id = ? AND id = ?", (entry.owner, entry.row_key))
    if not rows:
        return entry
    body = dict(zip(names, rows[0], strict=True))
    del body["user_id"]
    return entry._replace(set_json=json.dumps(body))


def deletes_what_it_sends(patch: Patch) -> None:
    """Fire and forget."""
    claim = Outbox.claim

    def claim_and_delete(self, *args, **more):
        batch = claim(self, *args, **more)
        for entry in batch.entries:
            with self.store.transaction():
                self.store.query("DELETE FROM _sync_outbox WHERE entry_id = ?", (entry.entry_id,))
        return batch

    patch.setattr(Outbox, "claim", claim_and_delete)


def tears_groups_apart(patch: Patch) -> None:
    claim = Outbox.claim

    def first_entry_only(self, *args, **more):
        batch = claim(self, *args, **more)
        return replace(batch, entries=batch.entries[:1])

    patch.setattr(Outbox, "claim", first_entry_only)


def reads_for_the_first_user(patch: Patch) -> None:
    """Rows that come from the cloud are given to whoever was signed in first."""
    made = Applier.__init__

    def for_the_first(self, store, registry, *, owner):
        first = store.query("SELECT owner FROM _sync_drain ORDER BY last_success_at LIMIT 1")
        made(self, store, registry, owner=first[0][0] if first else owner)

    patch.setattr(Applier, "__init__", for_the_first)


def says_that_all_is_synced(patch: Patch) -> None:
    status = Engine.status
    patch.setattr(Engine, "status", lambda self: replace(status(self), synced=True))


def waits_for_ever(patch: Patch) -> None:
    """After a failure the next try is so far away that it never comes."""
    claim = Outbox.next_try_ms
    patch.setattr(Outbox, "next_try_ms", lambda self, owner: claim(self, owner) * 10_000)


ROUGH = {"power_share": 0.05, "records_disk": True, "edits_per_device": 10}
DARK = {"power_share": 0.1, "records_disk": True, "has_weather": False, "partitions": False}
QUIET = {"power_share": 0.0, "records_disk": False, "clones": False, "restores_cloud": False}

MUTANTS = (
    Mutant("an entry is dropped at conversion", drops_an_entry_at_conversion, ("P9",), {"upgrades": True, **QUIET}),
    Mutant("the cursor moves before its page", moves_the_cursor_before_the_page, ("P10",), DARK),
    Mutant("a number is used again", uses_a_number_again, ("P2", "P14"), ROUGH),
    Mutant("pending edits are not replayed", forgets_to_replay_pending_edits, ("P10",), QUIET),
    Mutant("whole rows are sent", sends_whole_rows, ("P3",), QUIET),
    Mutant("what is sent is deleted", deletes_what_it_sends, ("P2", "P14"), QUIET),
    Mutant("groups are torn apart", tears_groups_apart, ("P4",), QUIET),
    Mutant(
        "rows are given to another user",
        reads_for_the_first_user,
        ("P11", "P10"),
        {"users": 2, "switches_users": True, **QUIET},
    ),
    Mutant("status always says synced", says_that_all_is_synced, ("P14",), QUIET),
    Mutant("the next try never comes", waits_for_ever, ("P10",), QUIET),
)
