"""What the cloud's answers do to the outbox, in one durable transaction."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from syncengine.local.version_table import read_installed, write_cloud_version
from syncengine.outbox.barrier_page import Barrier, Page
from syncengine.outbox.delivery import Event, State, next_state
from syncengine.outbox.entry import Batch, Entry, Kind, Result, Settled, entry_of
from syncengine.outbox.set_aside import resolve_void, set_aside
from syncengine.vocabulary import SchemaVersion, user_scope

if TYPE_CHECKING:
    from syncengine.local.store import Store

Also = Callable[[str], None]
"""Called with the owner inside the transaction that confirms, after the entries are gone."""


def confirm(store: "Store", batch: Batch, results: Iterable[Result], *, also: Also | None = None) -> Settled:
    """Settle each entry of a batch by its result; all of it, or nothing when the transaction fails.

    An entry without a result stays claimed and is sent again. One that another process has settled meanwhile, or
    whose epoch has ended, is passed over.
    """
    answers = {result.sequence: result for result in results}
    applied, unanswered, items = 0, 0, []
    with store.transaction(durable=True):
        for sent in batch.entries:
            answer = answers.get(sent.sequence or 0)
            if answer is None or not (answer.took_effect or answer.was_rejected):
                unanswered += 1
                continue
            entry = _still_claimed(store, sent)
            if entry is not None:
                item = _settle(store, entry, answer)
                items += [item] if item is not None else []
                applied += answer.took_effect
        store.run("drain", "confirm", owner=batch.owner, applied=applied)
        if also is not None:
            also(batch.owner)
    return Settled(applied=applied, unanswered=unanswered, items=tuple(items))


def _still_claimed(store: "Store", sent: Entry) -> Entry | None:
    found = store.row("outbox", "by_sequence", owner=sent.owner, epoch=sent.epoch, sequence=sent.sequence)
    return entry_of(found) if found else None


def _settle(store: "Store", entry: Entry, answer: Result) -> int | None:
    """Settle one entry; the quarantine item that came of it, if any."""
    if entry.kind is Kind.VOID:
        _settle_void(store, entry, answer)
    elif answer.was_rejected:
        return _reject(store, entry, code=answer.code or "rejected", message=answer.message or "")
    elif entry.kind is Kind.MIGRATION:
        return _settle_page(store, entry, skipped=answer.skipped)
    else:
        next_state(State.CLAIMED, Event.APPLIED)
        _remember_version(store, entry, answer.version)
        store.run("outbox", "delete", entry_id=entry.entry_id)
    return None


def _reject(store: "Store", entry: Entry, *, code: str, message: str) -> int:
    return set_aside(store, entry, event=Event.REJECTED, error_code=code, error_text=message)


def _settle_void(store: "Store", void: Entry, answer: Result) -> None:
    # An empty number has no row version, so a version in the first answer is that of the body: the cloud took it
    # before we made the number empty.
    first_copy_arrived = answer.status == "duplicate" and answer.took_effect and answer.version is not None
    if first_copy_arrived:
        next_state(State.VOID, Event.FIRST_COPY_APPLIED)
        resolve_void(store, void)
    else:
        next_state(State.VOID, Event.REJECTED if answer.was_rejected else Event.APPLIED)
    store.run("outbox", "delete", entry_id=void.entry_id)


def _remember_version(store: "Store", entry: Entry, version: int | None) -> None:
    row = {"collection": entry.collection, "owner": entry.owner, "row_key": entry.row_key}
    if entry.kind is Kind.DELETE:
        store.run("outbox", "forget_version", **row)
    elif version is not None:
        store.run("outbox", "remember_version", version=version, shape_version=entry.shape_version, **row)


def _settle_page(store: "Store", entry: Entry, *, skipped: tuple[str, ...]) -> int | None:
    barrier = Barrier.from_json(entry.barrier_json or "")
    if barrier.page is None:
        raise AssertionError("a numbered migration step has a page")
    if barrier.reads is None:
        # It only told the version: the last thing that a step does.
        reach_cloud_version(store, entry.owner, version=barrier.cloud_version)
        next_state(State.CLAIMED, Event.APPLIED)
        store.run("outbox", "delete", entry_id=entry.entry_id)
        return None
    after = barrier.after_page(barrier.page, skipped=_changed_meanwhile(barrier.page, skipped))
    if after.again and after.again.tries >= store.settings.attempts_of_one_entry_max:
        why = f"{len(skipped)} cloud rows changed again and again between reading and writing"
        return _reject(store, entry, code="rows_keep_changing", message=why)
    go_on(store, entry, after)
    return None


def _changed_meanwhile(page: Page, skipped: tuple[str, ...]) -> tuple[str, ...]:
    """The skipped keys whose row was read at another version; a new row that is there already needs nothing."""
    read = {change["key"] for change in page.changes if change["if_version"]}
    return tuple(key for key in skipped if key in read)


def reach_cloud_version(store: "Store", owner: str, *, version: str | None) -> None:
    """Record which version a user's cloud data has reached; it never goes back. Inside a transaction."""
    if version is None:
        return
    reached = SchemaVersion.parse(version)
    known = read_installed(store).cloud_versions.get(user_scope(owner))
    if known is None or known < reached:
        write_cloud_version(store, owner, version=reached)


def go_on(store: "Store", entry: Entry, barrier: Barrier) -> None:
    """A migration step goes on with its next page, or leaves when nothing is left. Inside a transaction."""
    state = State(entry.state)
    claimed = state is State.CLAIMED
    if barrier.is_done:
        next_state(state, Event.APPLIED if claimed else Event.NOT_NEEDED)
        store.run("outbox", "delete", entry_id=entry.entry_id)
        return
    waiting = next_state(state, Event.PAGE_APPLIED if claimed else Event.PAGE_UNCHANGED)
    store.run("outbox", "put_back", entry_id=entry.entry_id, state=waiting, barrier_json=barrier.to_json())
