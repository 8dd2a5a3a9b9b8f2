"""What does not go back in time with a restore: numbers that were given out, the history, and what waits.

Works on the opened copy (`main`) with the present store attached as `present`, inside a transaction of the copy.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncengine.local.identifiers import quoted

if TYPE_CHECKING:
    from syncengine.local.store import Store

AS_AT_PRESENT = (
    "_sync_state",  # the device's id, the group counter, who may send
    "_sync_run",  # the history goes on
    "_sync_source",  # a legacy store stays its importer's; the same user may import it again
    "_sync_lease",
    "_sync_drain",  # numbers are never given out twice
    "_sync_quarantine",
    "_sync_restore_point",
    "_sync_erasure",  # no copy that may be restored is older than one
    "_sync_conflict",
    "_sync_receipt",
)
"""Taken over whole."""
AS_IT_WAS = (
    "_sync_collection",  # the shapes of the tables that come back
    "_sync_archive",
    "_sync_shape_before",
    "_sync_row_set",
    "_sync_row",  # with the cursor, so that what the cloud has is pulled again
    "_sync_cursor",
    "_sync_parked",
    "_sync_shadow",
    "_sync_shadow_touched",
    "_sync_shadow_made",
    "_sync_shadow_aside",
    "_sync_entry_staged",  # each holds only for an entry that is as it was
    "_sync_kept_table",
)
"""They speak of the rows that come back, and go with them."""
BY_OWN_RULE = ("_sync_version", "_sync_outbox", "_sync_last_entry")


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedOver:
    """What became of what waited and of what had run."""

    owners: frozenset[str]
    """Whose unsent entries were set aside."""
    entries_set_aside: int
    undone: tuple[tuple[str, str], ...]


def carry_over(copy: "Store", *, restore_point_id: int, now: str) -> CarriedOver:
    """Complete the copy so that it can take the present store's place."""
    was, newest_item = _applied(copy), copy.value("restore_points", "newest_item")
    for table in AS_AT_PRESENT:
        _take_over(copy, table)
    _keep_counters(copy)
    # The cloud does not go back.
    copy.query(
        "UPDATE main._sync_version AS v SET cloud_version = p.cloud_version FROM present._sync_version AS p "
        "WHERE p.scope = v.scope"
    )
    undone = _settle_history(copy, was, restore_point_id=restore_point_id, now=now)
    for migration, scope in undone:
        copy.run(
            "restore_points",
            "items_of_migration",
            migration=migration,
            scope=scope,
            newest_item=newest_item,
            now=now,
        )
    aside = _settle_outbox(copy, undone={migration for migration, _ in undone}, now=now)
    copy.run("restore_points", "fence_leases", pid=os.getpid())
    return CarriedOver(owners=frozenset(aside), entries_set_aside=len(aside), undone=undone)


def _applied(copy: "Store") -> dict[tuple[str, str], int]:
    return {(migration, scope): level for migration, scope, level in copy.rows("state", "applied")}


def _take_over(copy: "Store", table: str) -> None:
    columns = _columns(copy, table)
    copy.query(f"DELETE FROM main.{quoted(table)}")
    copy.query(f"INSERT INTO main.{quoted(table)} ({columns}) SELECT {columns} FROM present.{quoted(table)}")


def _columns(copy: "Store", table: str) -> str:
    return ", ".join(
        quoted(name) for (name,) in copy.query("SELECT name FROM pragma_table_info(?, 'main')", (table,))
    )


def _keep_counters(copy: "Store") -> None:
    """AUTOINCREMENT and the entries go on where they were, in every table that both have: no number comes twice."""
    copy.query(
        "UPDATE main.sqlite_sequence AS c SET seq = max(c.seq, p.seq) FROM present.sqlite_sequence AS p "
        "WHERE p.name = c.name"
    )
    copy.query(
        "INSERT INTO main.sqlite_sequence (name, seq) SELECT name, seq FROM present.sqlite_sequence "
        "WHERE name NOT IN (SELECT name FROM main.sqlite_sequence) "
        "AND name IN (SELECT name FROM main.sqlite_schema WHERE type = 'table')"
    )
    copy.query(
        "UPDATE main._sync_last_entry SET entry_id = max("
        "(SELECT entry_id FROM main._sync_newest_entry), (SELECT entry_id FROM present._sync_newest_entry))"
    )


def _settle_history(
    copy: "Store", was: dict[tuple[str, str], int], *, restore_point_id: int, now: str
) -> tuple[tuple[str, str], ...]:
    """The history is the present one by now; let it say what holds of the rows that came back."""
    present = _applied(copy)
    # Queued then and confirmed since stays confirmed: the cloud does not go back.
    undone = [pair for pair in present if pair not in was or (was[pair] == 0 < present[pair])]
    for migration, scope in undone:
        copy.run(
            "restore_points",
            "taken_back",
            migration=migration,
            scope=scope,
            restore_point_id=restore_point_id,
            now=now,
        )
    for (migration, scope), level in was.items():
        if (migration, scope) not in present or (migration, scope) in undone:
            copy.run(
                "restore_points",
                "done_again",
                migration=migration,
                scope=scope,
                level=level,
                restore_point_id=restore_point_id,
                now=now,
            )
    return tuple(sorted(undone))


def _settle_outbox(copy: "Store", *, undone: set[str], now: str) -> list[str]:
    """The owners of entries that were set aside, one for each.

    A numbered entry stays as it is at present: the cloud may have it. An unsent one that was there already comes back
    in its old form. One that was settled since does not come back. A new one goes to quarantine; if it holds nothing
    that a user wrote, and is queued again by the migration that has not run any more, it goes away.
    """
    columns = _columns(copy, "_sync_outbox")
    # Before one of a group goes. The mark of what is in the indexes is that of the present store.
    copy.run("outbox", "file", after=0)
    copy.query(
        "DELETE FROM main._sync_outbox WHERE sequence IS NOT NULL OR entry_id NOT IN ("
        "SELECT entry_id FROM present._sync_outbox WHERE sequence IS NULL)"
    )
    copy.query(
        "UPDATE main._sync_outbox AS c SET state = p.state, held_by = p.held_by, attempts = p.attempts, "
        "last_error = p.last_error FROM present._sync_outbox AS p WHERE p.entry_id = c.entry_id"
    )
    old = {entry_id for (entry_id,) in copy.query("SELECT entry_id FROM main._sync_outbox")}
    copy.query(
        f"INSERT INTO main._sync_outbox ({columns}) SELECT {columns} FROM present._sync_outbox "
        "WHERE entry_id NOT IN (SELECT entry_id FROM main._sync_outbox)"
    )
    copy.query(
        "UPDATE main._sync_outbox AS c SET group_id = g.group_id FROM present._sync_group AS g "
        "WHERE g.entry_id = c.entry_id AND c.group_id IS NULL"
    )
    copy.run("outbox", "file", after=0)
    new = copy.query(
        "SELECT entry_id, owner, kind, migration, set_json FROM main._sync_outbox WHERE sequence IS NULL "
        "ORDER BY entry_id"
    )
    aside = []
    for entry_id, owner, kind, migration, set_json in new:
        if entry_id in old:
            continue
        is_queued_again = kind == "migration" or (set_json is None and migration in undone)
        if not is_queued_again:
            _set_entry_aside(copy, entry_id, now=now)
            aside.append(str(owner))
        copy.run("outbox", "delete", entry_id=entry_id)
    return aside


def _set_entry_aside(copy: "Store", entry_id: int, *, now: str) -> None:
    copy.value(
        "quarantine",
        "set_aside",
        entry_id=entry_id,
        error_code="restored_over",
        error_text="the store went back to a time before this entry was written",
        now=now,
    )
