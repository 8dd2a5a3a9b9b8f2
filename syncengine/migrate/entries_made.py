"""What rows of the old shape become, for entries: by the executor's own code, row by row or a whole group at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from syncengine.local.identifiers import quoted
from syncengine.migrate.declared_values import python_type_of
from syncengine.migrate.definition import Item
from syncengine.migrate.entries_body import Values
from syncengine.migrate.paging import page_of
from syncengine.migrate.rejection import Rejection, rejection_for
from syncengine.migrate.repair import RepairAttempt
from syncengine.migrate.shadow_rows import RowConverter
from syncengine.migrate.shadow_table import Layout
from syncengine.migrate.work import key_columns

if TYPE_CHECKING:
    from syncengine.local.store import Row
    from syncengine.migrate.rebuild import RebuildingExecutor
    from syncengine.migrate.work import Work

OTHER_OWNER = Rejection(code="other_owner", text="it would become a row of another owner")

Outcome = Mapping[str, Values] | Rejection
"""The rows of one owner by key, or why they cannot be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Of the table before and after, with the key and the owner column in both."""

    source: tuple[str, ...]
    new: tuple[str, ...]
    key: str
    owner: str


class Making:
    """States of rows to rows of the new shape. Writes nothing."""

    def __init__(self, executor: "RebuildingExecutor", work: "Work") -> None:
        self._executor = executor
        self._work = work
        collection = work.collections[executor.collection]
        assert collection.owner is not None, "only a synced collection has entries"
        self.columns = Columns(
            source=executor.source_columns(work),
            new=executor.final_columns(work),
            key=collection.key,
            owner=collection.owner,
        )
        keys = key_columns(collection)
        layout = Layout(source=self.columns.source, new=executor.new_columns(work), keys=keys, order=keys)
        self._converter = RowConverter(executor, work, layout)
        self._new_key, self._new_owner = map(self.columns.new.index, (self.columns.key, self.columns.owner))
        self._owner_type = self._type_of_owner()
        self._of_owner = f" FROM {quoted(executor.collection)} WHERE {quoted(self.columns.owner)} = ? AND "

    def _type_of_owner(self) -> type | None:
        declared = self._work.store.query(
            "SELECT upper(type) FROM pragma_table_xinfo(?) WHERE name = ?",
            (self._executor.collection, self.columns.owner),
        )
        return python_type_of(declared[0][0]) if declared else None

    def live(self, owner: str, key: str) -> Values | None:
        """The row that is there, without its owner."""
        found = self._live(self.columns.key, "=", (owner, key))
        return found[0] if found else None

    def live_group(self, owner: str, group_by: str, value: Any) -> list[Values]:
        """The rows of this owner that have a value in a column."""
        return self._live(group_by, "IS", (owner, value))

    def _live(self, column: str, compares: str, values: tuple[Any, ...]) -> list[Values]:
        rest = f"{self._of_owner}{quoted(column)} {compares} ?"
        return [self._values(row) for row in page_of(self._work.store, self.columns.source, rest, values)]

    def _values(self, row: "Row") -> Values:
        """A row of the source columns by names, without its owner."""
        return {
            name: value for name, value in zip(self.columns.source, row, strict=True) if name != self.columns.owner
        }

    def row(self, state: Values, owner: str) -> tuple[Any, ...]:
        """The source columns of a state; NULL for what it says nothing of."""
        owner_value: Any = int(owner) if self._owner_type is int and owner.lstrip("-").isdecimal() else owner
        return tuple(owner_value if name == self.columns.owner else state.get(name) for name in self.columns.source)

    def made_of(self, states: Sequence[Values], *, owner: str) -> list[Outcome]:
        """For each state by itself the rows that it becomes."""
        return self.made_of_rows([self.row(state, owner) for state in states], owner=owner)

    def made_of_rows(self, rows: "Sequence[Row]", *, owner: str) -> list[Outcome]:
        """The same for rows of the source columns."""
        converted = self._converter.converted(rows)
        return [one.rejection or self._by_key(one.made, owner) for one in converted]

    def made_of_group(self, states: Sequence[Values], *, owner: str) -> Outcome:
        """For rows that are merged, what all of them become."""
        try:
            rows = [row for row in self._in_order(states, owner) if self._is_good(row)]
            made = self._executor.made_of(rows, self._work)[0] if rows else []
        except Exception as error:
            rejection = rejection_for(error)
            if rejection is None:
                raise
            return rejection
        return self._by_key(made, owner)

    def _in_order(self, states: Sequence[Values], owner: str) -> "Iterator[Row]":
        """As the run reads them: by key, as SQLite compares text."""
        by_key = sorted(states, key=lambda state: key_text(state.get(self.columns.key)).encode(errors="replace"))
        for state in by_key:
            yield self._repaired(self.row(state, owner), owner)

    def _repaired(self, row: "Row", owner: str) -> "Row":
        """As its repair rules leave it. A row that stays bad is looked at again by `_is_good`."""
        key = key_text(row[self.columns.source.index(self.columns.key)])
        attempt = RepairAttempt(Item(key, row, owner=owner), executor=self._executor, work=self._work)
        while (rejection := self._checked(attempt.item)) is not None and attempt.next(rejection.field):
            continue
        repaired: Row = attempt.item.value
        return repaired

    def _checked(self, item: Item) -> Rejection | None:
        try:
            self._executor.check(item)
        except Exception as error:
            rejection = rejection_for(error)
            if rejection is None:
                raise
            return rejection
        return None

    def _is_good(self, row: "Row") -> bool:
        """A member that is bad by itself is set aside, and the group is made of the others."""
        return self._checked(Item("", row)) is None

    def _by_key(self, made: Sequence[tuple[Any, ...]], owner: str) -> Outcome:
        rows: dict[str, Values] = {}
        for values in made:
            if str(values[self._new_owner]) != owner:
                return OTHER_OWNER
            row = dict(zip(self.columns.new, values, strict=True))
            del row[self.columns.owner]
            rows[key_text(values[self._new_key])] = row
        return rows


def key_text(value: Any) -> str:
    """A key as entries name it: as SQLite writes it as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(int(value)) if isinstance(value, bool) else str(value)
