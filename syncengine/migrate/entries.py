"""Queued entries go through a change of shape together with their rows, in its transaction.

Each entry is converted by rebuilding its row before and after it: its new form is the difference of what the two
become. What cannot be converted goes to quarantine with its original. Nothing is left in the old shape, and all of it
is counted.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from syncengine.errors import ReconciliationFailed
from syncengine.local.identifiers import quoted
from syncengine.migrate.definition import EntryCounts
from syncengine.migrate.entries_chain import Change, Queued
from syncengine.migrate.entries_form import Form, form_of
from syncengine.migrate.entries_keys import queue_new_keys
from syncengine.migrate.entries_made import Making
from syncengine.migrate.entries_staged import StagingWriter, take_staged
from syncengine.migrate.entries_states import ROW_SET_ASIDE, Became, EditName, GroupOutcomes, name_of, row_outcomes
from syncengine.migrate.entries_units import RowName, Unit, units_of_owners, units_of_rows
from syncengine.migrate.entries_written import EntryWriter
from syncengine.migrate.rejection import Rejection
from syncengine.outbox.filing import file_entries

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.rebuild import RebuildingExecutor
    from syncengine.migrate.work import Work

OLDER_SHAPE = Rejection(code="older_shape", text="it was written in a shape from before the last one")
UNREADABLE = "entry_unreadable"


def convert_entries(executor: "RebuildingExecutor", work: "Work") -> EntryCounts:
    """Convert every queued entry and open item of the executor's collection. Inside the run's transaction.

    When the new table is filled, and the live one is still there. Raises ReconciliationFailed where an entry is
    neither in the new shape nor in quarantine afterwards, and what is no entry's fault.
    """
    if not has_entries(executor, work):
        return EntryCounts()
    warned = work.warned
    counts = _Conversion(executor, work).done()
    work.forget_warnings(since=warned)  # the rows themselves have warned when they were converted
    return counts


def convert_beside(executor: "RebuildingExecutor", work: "Work") -> EntryCounts:
    """The same where ALTER TABLE changes the live table: before it does, by a new table that stays empty."""
    if not has_entries(executor, work):
        return EntryCounts()
    executor.make_new_table(work)
    counts = convert_entries(executor, work)
    work.store.query(f"DROP TABLE {quoted(executor.new_table)}")
    return counts


def stage_entries(
    executor: "RebuildingExecutor", work: "Work", *, each: Callable[[Callable[[], bool]], bool]
) -> None:
    """Convert what waits of a large collection before the swap. `each` runs one page in a transaction of its own."""
    if executor.grouped or not has_entries(executor, work):
        return
    warned = work.warned
    conversion = _Conversion(executor, work)
    pages = conversion.staging()
    while each(lambda: conversion.stage_page(pages)):
        work.forget_warnings(since=warned)
    work.forget_warnings(since=warned)


def has_entries(executor: "RebuildingExecutor", work: "Work") -> bool:
    """Is there anything of the collection in the outbox, in quarantine, or known at the cloud?"""
    collection = work.collections[executor.collection]
    file_entries(work.store)
    return collection.owner is not None and bool(work.store.value("entries", "any", collection=collection.name))


class _Conversion:
    """One run's entries."""

    def __init__(self, executor: "RebuildingExecutor", work: "Work") -> None:
        self.executor = executor
        self.work = work
        self.store: Store = work.store
        self.name = executor.collection
        self.making = Making(executor, work)
        self.writer = EntryWriter(
            self.store, migration=executor.definition.id, shape_version=executor.definition.to_version
        )
        self._shape_before = self.store.value("runs", "shape_version", name=self.name)
        self._set_aside: frozenset[RowName] = frozenset(
            (str(owner), str(key))
            for owner, key in self.store.rows(
                "entries", "rows_set_aside", migration=executor.definition.id, collection=self.name
            )
        )

    def done(self) -> EntryCounts:
        file_entries(self.store)
        read = int(self.store.value("entries", "count", collection=self.name))
        newest = int(self.store.value("entries", "newest_entry"))
        take_staged(self.store, collection=self.name, set_aside=self._set_aside)
        for units in self._pages():
            self._convert(units)
        known = {"collection": self.name, "shape_version": self.executor.definition.to_version}
        converted = int(self.store.value("entries", "count_converted", newest=newest, **known)) + self.writer.left
        quarantined = int(self.store.value("entries", "count_set_aside", **known))
        check_entries(self.executor.definition.id, read=read, converted=converted, quarantined=quarantined)
        queued = queue_new_keys(self.executor, self.work, self.making, newest=newest)
        return EntryCounts(read=read, converted=converted, quarantined=quarantined, queued=queued)

    def _pages(self, *, only_simple: bool = False) -> Iterator[list[Unit]]:
        if self.executor.grouped:
            return units_of_owners(self.store, self.name)
        version = self.executor.definition.to_version
        return units_of_rows(self.store, self.name, shape_version=version, only_simple=only_simple)

    def stage_page(self, pages: Iterator[list[Unit]]) -> bool:
        """Convert one page beforehand; False behind the last. What is not plain is left for the swap."""
        units = next(pages, None)
        if units is None:
            return False
        writer = StagingWriter(self.store, collection=self.name, shape_version=self.executor.definition.to_version)
        outcomes = self._outcomes([unit for unit in units if all(map(self._is_readable, unit.edits))])
        for unit in units:
            forms = self._plain_forms(unit, outcomes)
            if forms is not None:
                writer.stage(forms)
        writer.flush()
        return True

    def _plain_forms(self, unit: Unit, outcomes: dict[EditName, list[Became]]) -> list[tuple[Queued, Form]] | None:
        """The forms of a unit of which every entry has one; None for any other."""
        forms, told = list[tuple[Queued, Form]](), set[str]()
        for edit in unit.edits:
            became = outcomes.get(name_of(edit), [])
            if not became or not edit.is_utf8 or edit.state == "squashed" or any(one.rejection for one in became):
                return None
            changes = self._changes(edit, became, told)
            form = form_of(edit, changes, collection=self.name, takes_new_key=True)
            if form is None or form.kind == "void":
                return None
            forms.append((edit, form))
        return forms

    def staging(self) -> Iterator[list[Unit]]:
        """The pages that can be converted beforehand."""
        return self._pages(only_simple=True)

    def _convert(self, units: list[Unit]) -> None:
        readable = [Unit(owner=unit.owner, edits=tuple(filter(self._is_readable, unit.edits))) for unit in units]
        outcomes = self._outcomes(readable)
        for unit in units:
            self._write_unit(unit, outcomes)
        self.writer.flush()

    def _outcomes(self, units: list[Unit]) -> dict[EditName, list[Became]]:
        group_by = self.executor.group_by
        if group_by is None:
            return row_outcomes(units, self.making, set_aside=self._set_aside)
        found: dict[EditName, list[Became]] = {}
        for unit in units:
            groups = GroupOutcomes(unit, self.making, group_by=group_by)
            found |= groups.found(set_aside=self._set_aside)
        return found

    def _is_readable(self, edit: Queued) -> bool:
        return self._fault(edit) is None

    def _fault(self, edit: Queued) -> Rejection | None:
        if edit.fault is not None:
            return Rejection(code=UNREADABLE, text=edit.fault)
        return OLDER_SHAPE if self._shape_before not in (None, edit.shape_version) else None

    def _write_unit(self, unit: Unit, outcomes: dict[EditName, list[Became]]) -> None:
        failed, told = False, set[str]()
        for edit in unit.edits:
            became = outcomes.get(name_of(edit), [])
            why = self._fault(edit) or next((one.rejection for one in became if one.rejection), None)
            if why is not None:
                failed = True
                self.writer.set_aside(edit, self._with_row(edit, why))
            elif edit.state == "squashed" or any(change.names_only_its_row for change in edit.changes):
                self.writer.relabel(edit)
            else:
                changes = self._changes(edit, became, told)
                # Behind what went to quarantine an entry has to be found by the key that it had.
                takes_new_key = not failed and edit.item_id is None
                form = form_of(edit, changes, collection=self.name, takes_new_key=takes_new_key)
                self.writer.write(edit, form)

    def _with_row(self, edit: Queued, why: Rejection) -> Rejection:
        """Where the row itself was set aside, its entries come back with it."""
        if all((edit.owner, change.key) not in self._set_aside for change in edit.changes):
            return why
        if why is ROW_SET_ASIDE:
            return why
        return replace(ROW_SET_ASIDE, text=f"{ROW_SET_ASIDE.text}: {why.text}", field=why.field)

    def _changes(self, edit: Queued, became: list[Became], told: set[str]) -> list[Change]:
        """`told` are the keys that the unit's earlier entries will have put."""

        def has(key: str) -> bool:
            row = {"collection": self.name, "owner": edit.owner, "row_key": key}
            return key in told or bool(self.store.value("entries", "cloud_has", **row))

        known = self.making.columns.source
        changes = [change for one in became for change in one.changes(known=known, has=has)]
        if not edit.has_number:  # the cloud may have taken that one as it was before
            told |= {change.key for change in changes if change.kind == "put"}
        return changes


def check_entries(migration: str, *, read: int, converted: int, quarantined: int) -> None:
    """Every entry that was queued is in the new shape or in quarantine. Raises ReconciliationFailed."""
    if read != converted + quarantined:
        raise ReconciliationFailed(
            f"Migration {migration} does not add up in the outbox.",
            why=f"{read} entries were queued, but {converted} were converted and {quarantined} set aside",
            fix="The store is as it was. This is a mistake of the engine; please report it.",
        )
