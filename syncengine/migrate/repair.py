"""Repair rules: what may be done to one field of a row that cannot be converted, before it is set aside.

A rule is tried on a data error of its field only, once for each row; then the row is checked and converted again. The
value as it was stays in `_sync_archive`, so a rollback can give it back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as with_default
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.clock import iso
from syncengine.errors import MigrationInvalid
from syncengine.migrate.definition import Item
from syncengine.migrate.rebuild import RebuildingExecutor
from syncengine.migrate.row_codec import codec_of, encode_mapping
from syncengine.migrate.row_migration import RowExecutor

if TYPE_CHECKING:
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One rule. Made by `clamp`, `trim`, `default` and `using`."""

    field: str
    """What it changes."""
    on: str
    """The field whose error it answers; mostly the same."""
    did: str
    """For the warning: "12 rows repaired: duration_ms clamped"."""
    function: Callable[[Any], Any]
    constants: tuple[Any, ...] = with_default(default=(), repr=False)
    """The bounds, or the default."""

    def __str__(self) -> str:
        return f"{self.field} {self.did}"


def clamp(
    field: str, *, at_least: float | None = None, at_most: float | None = None, on: str | None = None
) -> Repair:
    """A number outside of the bounds becomes the nearest bound; what is no number stays as it is.

    `on` names the field whose error is answered where that is another one, such as what the new row calls it.
    Raises MigrationInvalid without a bound.
    """
    if at_least is None and at_most is None:
        raise MigrationInvalid(f"The repair rule for {field} has no bound.", fix="Give at_least, at_most or both.")

    def clamped(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        if at_least is not None and value < at_least:
            return at_least
        return at_most if at_most is not None and value > at_most else value

    return Repair(field=field, on=on or field, did="clamped", function=clamped, constants=(at_least, at_most))


def trim(field: str, *, on: str | None = None) -> Repair:
    """Blanks around a text go; what is no text stays as it is. `on`: see `clamp`."""

    def trimmed(value: Any) -> Any:
        return value.strip() if isinstance(value, str) else value

    return Repair(field=field, on=on or field, did="trimmed", function=trimmed)


def default(field: str, value: Any, *, on: str | None = None) -> Repair:
    """Whatever is there becomes this value. `on`: see `clamp`."""
    return Repair(field=field, on=on or field, did="set to its default", function=lambda _: value, constants=(value,))


def using(field: str, function: Callable[[Any], Any], *, on: str | None = None) -> Repair:
    """What a pure function makes of the value. It may raise: the row is then set aside. `on`: see `clamp`."""
    name = getattr(function, "__name__", "a function").replace("<lambda>", "a function")
    return Repair(field=field, on=on or field, did=f"repaired by {name}", function=function)


class RepairAttempt:
    """One item on its way through the rules: `item` is what to convert next."""

    def __init__(self, item: Item, *, executor: "BaseMigrationExecutor", work: "Work") -> None:
        self.item = item
        self.first = item
        self._executor = executor
        self._work = work
        self._left = list(executor.repairs)
        self._row = _ItemAsRow(executor, work)
        self._kept: dict[str, Any] = {}
        self.done: list[str] = []
        """What the rules did that changed something."""

    def next(self, field: str | None) -> bool:
        """Apply the next rule for an error of this field; False when none is left that changes anything.

        Raises what a `using` function raises.
        """
        while (rule := self._rule_for(field)) is not None:
            self._left.remove(rule)
            if self._applied(rule):
                return True
        return False

    def _rule_for(self, field: str | None) -> Repair | None:
        named = column_of(field)
        return next((rule for rule in self._left if rule.on == named), None)

    def _applied(self, rule: Repair) -> bool:
        row = self._row.plain(self.item)
        if row is None:
            return False
        old = row.get(rule.field)
        new = rule.function(old)
        if rule.field in row and _same(old, new):
            return False
        self._kept.setdefault(rule.field, self._row.stored(self.item, rule.field))
        self.item = self._row.changed(self.item, rule.field, new)
        self.done.append(str(rule))
        return True

    def keep_originals(self) -> None:
        """Put the values as they were into `_sync_archive`, in the transaction of the repaired row."""
        if self._executor.definition.erases:
            return
        for field, value in self._kept.items():
            self._work.store.run(
                "quarantine",
                "keep_value",
                collection=self._executor.definition.collections[0],
                owner=self.first.owner or self._work.user or "",
                row_key=self.first.key,
                field=field,
                value=value,
                migration=self._executor.definition.id,
                now=iso(self._work.now_ms),
            )


class _ItemAsRow:
    """An item's value by names: an element of a legacy store, or a row of a table that is rebuilt."""

    def __init__(self, executor: "BaseMigrationExecutor", work: "Work") -> None:
        self._columns: tuple[str, ...] = ()
        self._json: frozenset[str] = frozenset()
        if isinstance(executor, RebuildingExecutor):
            self._columns = executor.source_columns(work)
        if isinstance(executor, RowExecutor):
            self._json = codec_of(executor.old_model).json_columns

    def plain(self, item: Item) -> dict[str, Any] | None:
        """What the rules see: JSON columns parsed. None for what has no names."""
        if isinstance(item.value, dict):
            return item.value
        if not self._columns or item.value is None:
            return None
        row = dict(zip(self._columns, item.value, strict=True))
        return {name: _parsed(value) if name in self._json else value for name, value in row.items()}

    def stored(self, item: Item, field: str) -> Any:
        """A value as it lies there, fit for a column."""
        if isinstance(item.value, dict):
            return encode_mapping({field: item.value.get(field)})[field]
        return item.value[self._columns.index(field)]

    def changed(self, item: Item, field: str, value: Any) -> Item:
        """The item with another value."""
        if isinstance(item.value, dict):
            row = {**item.value, field: value}
            return replace(item, value=row, raw=orjson.dumps(row))
        if field in self._json and value is not None:
            value = orjson.dumps(value).decode()
        values = list(item.value)
        values[self._columns.index(field)] = encode_mapping({field: value})[field]
        return replace(item, value=tuple(values))


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def sentences(repaired: Mapping[str, int]) -> list[str]:
    """ "12 rows repaired: duration_ms clamped" for each rule, in order."""
    return [f"{rows} row{'' if rows == 1 else 's'} repaired: {what}" for what, rows in sorted(repaired.items())]


def column_of(field: str | None) -> str | None:
    """The column in a path such as "route.3.latitude"; a check of several rows puts the row's number before it."""
    parts = (field or "").split(".")
    if len(parts) > 1 and parts[0].isdecimal():
        parts = parts[1:]
    return parts[0] or None


def _same(old: Any, new: Any) -> bool:
    return type(old) is type(new) and bool(old == new)
