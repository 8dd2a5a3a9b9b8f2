"""The entries that wait for the rows of a page: read together, and written again on top of what the cloud has."""

import json
import logging
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from syncengine.clock import iso
from syncengine.logs import log_event
from syncengine.outbox.consequences import Consequences
from syncengine.outbox.filing import file_entries
from syncengine.outbox.row_body import RowUnreadable, sendable_json
from syncengine.outbox.set_aside import release
from syncengine.sync.calls import PulledRow
from syncengine.sync.merge import Conflict, Decide, Edit, Fields, Merged, Policy, merged, one_after_the_other

if TYPE_CHECKING:
    from syncengine.local.store import Store

Key = tuple[str, str]
"""Collection and key of a row."""

_log = logging.getLogger("syncengine.sync")


def pending_edits(store: "Store", owner: str, rows: Iterable[PulledRow]) -> dict[Key, list[Edit]]:
    """The entries of each of these rows that the cloud has not answered, oldest first. One question for all."""
    if not store.value("pull", "any_queued"):
        return {}
    file_entries(store)
    if not store.value("pull", "has_entries", owner=owner):
        return {}
    found: dict[Key, list[Edit]] = defaultdict(list)
    versions = {(row.collection, row.key): row.version for row in rows}
    asked = json.dumps(list(versions))
    for entry_id, collection, key, kind, set_json, before_json, state in store.rows(
        "pull", "pending", owner=owner, keys=asked
    ):
        if kind == "lift":
            continue
        if kind == "changes":
            row = collection, key
            found[row] += _members(entry_id, row, set_json, version=versions[row])
        else:
            edit = Edit(
                entry_id=entry_id,
                kind=kind,
                set=body_of(set_json),
                before=body_of(before_json),
                frozen=state == "claimed",
            )
            found[collection, key].append(edit)
    return found


def take_back_refused(store: "Store", owner: str, row: Key) -> list[Edit]:
    """Edits that were sent before it was known here that the row is deleted: they are decided about with the rest.

    Their quarantine items are resolved. Inside the transaction that applies the deletion.
    """
    found = store.rows("pull", "refused_as_gone", collection=row[0], owner=owner, row_key=row[1])
    for item_id, *_ in found:
        store.run("quarantine", "resolve", item_id=item_id, resolution="retried", now=iso(store.clock.now_ms()))
        release(store, item_id)
    return [
        Edit(entry_id=entry_id, kind="patch", set=body_of(set_json), before=body_of(before_json))
        for _, entry_id, set_json, before_json in found
    ]


def fallen_away(consequences: Consequences, collection: str, edits: Iterable[Edit]) -> tuple[int, ...]:
    """Those that no person made: the row lost its parent, which was deleted here, as its foreign key says."""
    free = [edit for edit in edits if edit.kind == "patch" and not edit.frozen and edit.set and edit.before]
    return tuple(
        edit.entry_id
        for edit in free
        if consequences.is_one(
            collection,
            set_=dict(edit.set or {}),
            before=dict(edit.before or {}),
            deleted=consequences.deleted_beside(edit.entry_id),
        )
    )


def body_of(text: str | None) -> Fields | None:
    """What an entry of the outbox sets, or what was there before."""
    if text is None:
        return None
    # What cannot be sent goes to quarantine when its turn comes; its other fields are merged until then.
    with suppress(RowUnreadable):
        text = sendable_json(text)
    body: Fields = json.loads(text)
    return body


def _members(entry_id: int, row: Key, set_json: str | None, *, version: int) -> list[Edit]:
    """What an entry of several rows does to this one, which is at a version; it is sent as it is.

    What is for another version the cloud leaves out, so nothing of it is done here.
    """
    changes: list[dict[str, Any]] = json.loads(sendable_json(set_json or "[]"))
    return [
        Edit(entry_id=entry_id, kind=each["kind"], set=each.get("set"), before=each.get("before"), frozen=True)
        for each in changes
        if (each["collection"], each["key"]) == row and each.get("if_version", version) == version
    ]


def decide(
    server: Fields | None, *, local: Fields | None, edits: list[Edit], policy: Policy, collection: str
) -> Merged:
    """As `merged`; a function of the app that raises is passed over, as if the collection had none."""
    try:
        return merged(server, local=local, edits=edits, policy=policy)
    except Exception as error:
        if policy.decide is None:
            raise
        log_event(
            _log,
            logging.ERROR,
            "a merge function failed, so both sides are merged field by field",
            collection=collection,
            error=type(error).__name__,
        )
        return merged(server, local=local, edits=edits, policy=Policy())


def decide_pulled(
    store: "Store",
    item: PulledRow,
    server: Fields | None,
    *,
    owner: str,
    local: Fields | None,
    edits: list[Edit],
    policy: Policy,
    doubtful_to: int,
) -> Merged:
    """What becomes of a row that was pulled, and of the edits that wait for it.

    Those up to the entry `doubtful_to` another copy of this store may have sent: then the cloud's values stay where
    both differ. Newer ones are done on top of that, as the collection's policy says.
    """
    doubtful = [edit for edit in edits if edit.entry_id <= doubtful_to]
    if not doubtful:
        return decide(server, local=local, edits=edits, policy=policy, collection=item.collection)
    cautious = Policy(name="server_wins", has_moved=_has_moved(store, owner, item))
    first = merged(server, local=local, edits=doubtful, policy=cautious)
    newer = [edit for edit in edits if edit.entry_id > doubtful_to]
    then = decide(first.row, local=local, edits=newer, policy=policy, collection=item.collection)
    return one_after_the_other(first, then)


def _has_moved(store: "Store", owner: str, item: PulledRow) -> bool:
    """Whether it has changed at the cloud since its version was last known here."""
    known = store.rows("pull", "known_rows", owner=owner, keys=json.dumps([[item.collection, item.key]]))
    if not known:
        return True
    _, _, version, _, deleted = known[0]
    return (item.version, item.body is None) != (version, bool(deleted))


def policy_of(name: str, merge: str | Decide | None) -> Policy:
    """The policy of a collection by its record and by what the app says now."""
    return Policy(name="function", decide=merge) if callable(merge) else Policy(name=name)


def write_edits(store: "Store", outcome: Merged) -> None:
    """Let the queue say what is left to do. Inside the transaction that writes the row."""
    now = iso(store.clock.now_ms())
    for ended, entries in (("merged_away", outcome.beaten), ("set_aside", outcome.set_aside)):
        for entry_id in entries:
            store.run("receipts", "note_end", entry_id=entry_id, ended=ended, now=now)
    for entry_id in (*outcome.dropped, *outcome.set_aside):
        store.run("pull", "drop_entry", entry_id=entry_id)
    for edit in outcome.edits:
        store.run(
            "pull",
            "rewrite_entry",
            entry_id=edit.entry_id,
            kind=edit.kind,
            set_json=None if edit.set is None else json.dumps(edit.set),
            before_json=None if edit.before is None else json.dumps(edit.before),
        )


def record_conflicts(
    store: "Store", conflicts: Iterable[Conflict], *, owner: str, row: Key, policy: str, version: int
) -> None:
    """Write down what both sides had. Inside the same transaction."""
    for conflict in conflicts:
        store.run(
            "pull",
            "record_conflict",
            owner=owner,
            collection=row[0],
            row_key=row[1],
            field=conflict.field,
            local_json=json.dumps(conflict.local),
            server_json=json.dumps(conflict.server),
            winner=conflict.winner,
            policy=policy,
            version=version,
            now=iso(store.clock.now_ms()),
        )


__all__ = [
    "Key",
    "body_of",
    "decide",
    "decide_pulled",
    "fallen_away",
    "pending_edits",
    "policy_of",
    "record_conflicts",
    "take_back_refused",
    "write_edits",
]
