"""All that the cloud has was read: rows that wait for parents or children are decided by their foreign keys."""

from collections.abc import Iterator

from syncengine.sync.apply import Applied, Applier
from syncengine.sync.calls import PulledRow
from syncengine.sync.deciding import Decision
from syncengine.sync.kin import Fate
from syncengine.sync.merge import WHOLE_ROW, Conflict
from syncengine.sync.page_record import PageRecord
from syncengine.sync.parked import parked_rows
from syncengine.sync.parking import Reason, unpark
from syncengine.sync.pending import Key, pending_edits, take_back_refused
from syncengine.sync.position import Position
from syncengine.sync.resync import tell_again


def decide_kin(applier: Applier, position: Position) -> Applied:
    """Deleted parents go, and what refers to them as the foreign keys say; where those refuse, the parents stay and
    are told to the cloud again. Each row in a transaction of its own; after a crash the rest is done."""
    told = Applied()
    orphans: set[Key] = set()
    # Each time round, one row at least waits no longer.
    while _decided(applier, position, Decision(orphans=orphans), told):
        pass
    for item in _waiting(applier, Reason.CHILDREN_LEFT):
        if item.body is None:
            _keep_parent(applier, item, position, told)
        else:
            _add(told, _apply(applier, item, position, Decision(keeps=True, orphans=orphans)))
    return told


def _decided(applier: Applier, position: Position, decision: Decision, told: Applied) -> bool:
    rows = told.rows
    for item in _waiting(applier, Reason.CHILDREN_LEFT):
        _add(told, _apply(applier, item, position, decision))
    for item in _waiting(applier, Reason.PARENT_MISSING):
        if _may_be_decided(applier, item, decision):
            _add(told, _apply(applier, item, position, decision))
    return told.rows > rows


def _may_be_decided(applier: Applier, item: PulledRow, decision: Decision) -> bool:
    """Parents that were never here may still come; there may be many such rows, and each try is a transaction."""
    table = applier.tables().get(item.collection)
    if table is None or item.body is None or item.shape_version != table.shape_text:
        return table is not None
    return applier.kin.fate(table, item.body, orphans=frozenset(decision.orphans)) != Fate()


def _waiting(applier: Applier, reason: Reason) -> Iterator[PulledRow]:
    for items in parked_rows(applier, (reason,)):
        yield from items


def _apply(applier: Applier, item: PulledRow, position: Position, decision: Decision) -> Applied:
    return applier.apply([item], position=position, moves_cursor=False, decision=decision)


def _add(told: Applied, done: Applied) -> None:
    told.rows += done.rows
    told.conflicts += done.conflicts
    told.items += done.items
    told.collections |= done.collections


def _keep_parent(applier: Applier, item: PulledRow, position: Position, told: Applied) -> None:
    """Rows here refer to it and may not be without it: it is put again, and its deletion is a conflict."""
    store, owner = applier.store, applier.owner
    with store.transaction(durable=True):
        record = PageRecord(store, applier.registry, owner=owner, position=position)
        table, row = applier.tables()[item.collection], (item.collection, item.key)
        local = table.read(owner, item.key)
        if local is not None:
            waiting = [*take_back_refused(store, owner, row), *pending_edits(store, owner, [item]).get(row, [])]
            tell_again(store, owner, table, item.key, waiting=waiting)
            lost = Conflict(field=WHOLE_ROW, local=local, server=None, winner="local")
            record.conflicts([lost], row, policy=table.merge_policy, version=item.version)
        unpark(store, item, owner=owner)
    _add(told, record.applied)


__all__ = ["decide_kin"]
