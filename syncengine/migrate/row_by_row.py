"""A batch that failed is done again one row at a time: each is converted, repaired, or set aside with its reason."""

import logging
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.logs import log_event
from syncengine.migrate.definition import Counts, Item
from syncengine.migrate.history import code_hash
from syncengine.migrate.rebuild import RebuildingExecutor
from syncengine.migrate.rejection import CODE_FAILED, Rejection, rejection_for
from syncengine.migrate.repair import RepairAttempt, column_of
from syncengine.migrate.results import RefusedRow
from syncengine.migrate.shape import columns_of

if TYPE_CHECKING:
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.work import Work

_logger = logging.getLogger("syncengine.migrate")

REFUSED_MAX = 10
"""So many of the rows that made a migration fail are named: enough to see what they share."""


class RowByRow:
    """The rows of one run that needed a look of their own."""

    def __init__(self, executor: "BaseMigrationExecutor", work: "Work") -> None:
        self.executor = executor
        self.work = work
        self.store = work.store
        self.first: Rejection | None = None
        """Why the first row was set aside."""
        self.refused: list[RefusedRow] = []
        """The first rows that were set aside."""
        self.code_faults = 0
        """Rows that the migration's code itself raised for."""
        self.repaired: Counter[str] = Counter()
        """What the repair rules did, and how often."""
        self.set_aside_keys: dict[tuple[str, str], set[str]] = {}
        """The owners of the rows that were set aside, by collection and key."""
        self._columns: dict[str, frozenset[str]] = {}

    @cached_property
    def _code_hash(self) -> str | None:
        return code_hash(self.executor)

    def unit(self, unit: list[Item]) -> Counts:
        """A single row, or a single group without the members that are bad by themselves."""
        if not self.executor.grouped:
            return self._row(unit[0])
        counts = Counts()
        good = []
        for item in unit:
            attempt, rejection = self._checked(item)
            if rejection is None:
                good.append(attempt)
            else:
                counts.add(self._set_aside([item], rejection))
        if good:
            counts.add(self._group(good))
        return counts

    def rejection(self, error: Exception) -> Rejection | None:
        """None also when SQLite ended the whole transaction for one row, as RAISE(ROLLBACK) in a trigger does."""
        return rejection_for(error) if self.store.connection.in_transaction else None

    def _row(self, item: Item) -> Counts:
        """The row as it is, then after each repair rule for what was wrong."""
        attempt = self._attempt(item)
        while True:
            warned = self.work.warned
            try:
                return self._written([attempt])
            except Exception as error:  # noqa: BLE001  (passed on by _after_repair when it is not the row's)
                rejection = self._after_repair(error, attempt)
                if rejection is not None:
                    return self._set_aside([item], rejection)
                self.work.forget_warnings(since=warned)

    def _checked(self, item: Item) -> tuple[RepairAttempt, Rejection | None]:
        attempt = self._attempt(item)
        while True:
            try:
                self.executor.check(attempt.item)
                return attempt, None
            except Exception as error:  # noqa: BLE001  (the same)
                rejection = self._after_repair(error, attempt)
                if rejection is not None:
                    return attempt, rejection

    def _after_repair(self, error: Exception, attempt: RepairAttempt) -> Rejection | None:
        """None when a rule has changed the row: it is worth another try. Raises what is not the row's fault."""
        rejection = self.rejection(error)
        if rejection is None:
            raise error
        try:
            return None if attempt.next(rejection.field) else rejection
        except Exception as failed:
            worse = self.rejection(failed)
            if worse is None:
                raise
            return worse

    def _group(self, attempts: list[RepairAttempt]) -> Counts:
        try:
            return self._written(attempts)
        except Exception as error:
            rejection = self.rejection(error)
            if rejection is None:
                raise
            return self._set_aside([attempt.first for attempt in attempts], rejection)

    def _attempt(self, item: Item) -> RepairAttempt:
        return RepairAttempt(item, executor=self.executor, work=self.work)

    def _written(self, attempts: list[RepairAttempt]) -> Counts:
        with self.store.savepoint("row"):
            counts = self.executor.apply([attempt.item for attempt in attempts], self.work)
            for attempt in attempts:
                attempt.keep_originals()
        for attempt in attempts:
            self.repaired.update(attempt.done)
        return counts

    def _set_aside(self, items: list[Item], why: Rejection) -> Counts:
        definition = self.executor.definition
        if why.code == CODE_FAILED:
            self.code_faults += len(items)
        for item in items:
            self.put_into_quarantine(
                why,
                collection=definition.collections[0],
                key=item.key,
                body=self.executor.set_aside(item, self.work),
                owner=item.owner or self.work.user,
                shape_version=definition.from_version if self.executor.rebuilds_tables else None,
            )
        return Counts(read=len(items), quarantined=len(items))

    def put_into_quarantine(
        self, why: Rejection, *, collection: str, key: str, body: str, owner: str | None, shape_version: str | None
    ) -> None:
        """Keep a whole row, in the shape of a version, or an element of a legacy store (no version)."""
        self.first = self.first or why
        if len(self.refused) < REFUSED_MAX:
            self.refused.append(RefusedRow(collection=collection, key=key, reason=why.told))
        log_event(
            _logger,
            logging.INFO,
            "row set aside",
            migration=self.executor.definition.id,
            collection=collection,
            code=why.code,
            field=self._known_column(why.field, collection),
        )
        self.set_aside_keys.setdefault((collection, key), set()).add(str(owner))
        self.store.run(
            "quarantine",
            "set_row_aside",
            migration=self.executor.definition.id,
            owner=owner,
            collection=collection,
            row_key=key,
            body=body,
            error_code=why.code,
            error_text=why.text,
            field=why.field,
            shape_version=shape_version,
            code_hash=self._code_hash,
            now=iso(self.store.clock.now_ms()),
        )

    def _known_column(self, field: str | None, collection: str) -> str | None:
        """The column that a field's path begins with: all other parts of it may be names that a user gave."""
        column = column_of(field)
        if column is None:
            return None
        columns = self._columns.get(collection)
        if columns is None:
            columns = frozenset(columns_of(self.store, collection))
            if isinstance(self.executor, RebuildingExecutor) and self.executor.collection == collection:
                columns |= frozenset(columns_of(self.store, self.executor.new_table))
            self._columns[collection] = columns
        return column if column in columns else None
