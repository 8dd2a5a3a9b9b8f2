"""Migrations written as one pure function from the old row to the new one: `@migration(...)`."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard, get_args, get_origin, get_type_hints, is_typeddict

from syncengine.errors import MigrationInvalid
from syncengine.migrate.definition import Item, MigrationDefinition, way_down_refused
from syncengine.migrate.plain_rows import PlainShape
from syncengine.migrate.rebuild import RebuildingExecutor, way_back
from syncengine.migrate.row_codec import codec_of
from syncengine.migrate.row_function import RowFunction, RowFunctionExecutor, RowShape
from syncengine.migrate.shape import columns_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.repair import Repair
    from syncengine.migrate.work import Work


def _is_model(hint: Any) -> "TypeGuard[type[BaseModel]]":
    from pydantic import BaseModel  # a run of other migrations needs none

    return isinstance(hint, type) and issubclass(hint, BaseModel)


class HintedRowExecutor(RowFunctionExecutor):
    """The function's type hints say what it reads and returns: pydantic models, TypedDicts, or dict."""

    def __init__(
        self, definition: MigrationDefinition, function: RowFunction, *, table: str | None, group_by: str | None
    ) -> None:
        super().__init__(definition, function, table=table, group_by=group_by)
        self.old_hint, self.new_hint = _hints(function, definition.id)
        if group_by is not None and self.old_hint is dict:
            raise MigrationInvalid(
                f"Migration {definition.id} merges rows whose columns it does not name.",
                fix="Write def f(old: list[OldRow]) with a pydantic model or a TypedDict.",
            )

    def old_shape(self, work: "Work") -> RowShape:
        return self._shape(self.old_hint, self.collection, work)

    def new_shape(self, work: "Work") -> RowShape:
        return self._shape(self.new_hint, self.new_table, work)

    def _shape(self, hint: Any, table: str, work: "Work") -> RowShape:
        if _is_model(hint):
            return codec_of(hint)
        known = work.notes.get((hint, table))
        if not isinstance(known, PlainShape):
            columns = columns_of(work.store, table) if hint is dict else tuple(get_type_hints(hint))
            known = work.notes[hint, table] = PlainShape(hint, columns)
        return known

    def grouping_columns(self) -> tuple[str, ...]:
        return tuple(get_type_hints(self.old_hint))

    def down(self, function: RowFunction) -> "HintedRowExecutor":
        """Decorator: the way back from a new row to the old one.

        Raises MigrationInvalid for missing hints, and for a migration that erases.
        """
        _hints(function, self.definition.id)
        if self.definition.erases:
            raise way_down_refused(self.definition)
        self.down_function = function
        return self

    def reversed(self, store: "Store", registry: "MigrationRegistry") -> "RebuildingExecutor | None":
        before = self.shape_before(store)
        if self.down_function is None or self.group_by is not None or before is None:
            return None
        table = ";\n".join((before.create, *before.indexes))
        back = executor_of(self.down_function, way_back(self.definition), table=table, group_by=None)
        back.remembers_shape = False
        return back


class RowExecutor(HintedRowExecutor):
    """A row function from one pydantic model to another: each row is validated before and after."""

    old_hint: "type[BaseModel]"
    new_hint: "type[BaseModel]"

    @property
    def old_model(self) -> "type[BaseModel]":
        """What the function reads."""
        return self.old_hint

    @property
    def new_model(self) -> "type[BaseModel]":
        """What the function returns."""
        return self.new_hint

    def grouping_columns(self) -> tuple[str, ...]:
        return codec_of(self.old_model).columns

    def check(self, item: Item) -> None:
        """Raises ValidationError for a row that is not of the old shape."""
        codec_of(self.old_model).decode([item.value])


class PlainRowExecutor(HintedRowExecutor):
    """A row function of plain dicts on at least one side. What comes as a dict is not validated."""


def executor_of(
    function: RowFunction, definition: MigrationDefinition, *, table: str | None, group_by: str | None
) -> HintedRowExecutor:
    """The executor for a function by its hints. Raises MigrationInvalid for missing ones."""
    both = all(_is_model(hint) for hint in _hints(function, definition.id))
    kind = RowExecutor if both else PlainRowExecutor
    return kind(definition, function, table=table, group_by=group_by)


def migration(  # noqa: PLR0913  (keyword-only: a definition spelled out)
    *,
    collection: str,
    from_version: str,
    to_version: str,
    table: str | None = None,
    id: str | None = None,  # noqa: A002
    name: str = "",
    description: str = "",
    group_by: str | None = None,
    after: tuple[str, ...] = (),
    critical: bool = False,
    lossy: bool = False,
    erases: bool = False,
    quarantine_rows_max: int | None = None,
    quarantine_ratio_max: float | None = None,
    consent: str | None = None,
    when: str = "startup",
    backup: str = "auto",
    shadow: bool | None = None,
    repairs: "tuple[Repair, ...]" = (),
) -> Callable[[RowFunction], HintedRowExecutor]:
    """Decorator for a pure function `f(old: OldModel) -> NewModel`; the hints are the checks before and after.

    It returns a row, a list (split), None (dropped, counted) or raises Quarantine. `table` is the new
    CREATE TABLE with its indexes; without it the columns stay. `group_by` names a column: the function then
    gets all rows of one owner with one value, and what it does not return is counted as merged. `repairs` are tried,
    in order, on a row that cannot be converted, before it is set aside.
    With `dict` or a TypedDict as a hint, rows are plain dicts: faster, and nothing is checked but the names of the
    columns. JSON columns stay text unless a TypedDict says what is in them.
    With `erases` nothing of the rows as they were stays on this device, and there is no way back.
    Raises MigrationInvalid at import for hints that are missing.
    """

    def decorate(function: RowFunction) -> HintedRowExecutor:
        definition = MigrationDefinition(
            id=id or f"{function.__module__}.{function.__name__}",
            name=name or function.__name__.replace("_", " "),
            description=description or (inspect.getdoc(function) or ""),
            from_version=from_version,
            to_version=to_version,
            collections=(collection,),
            after=after,
            critical=critical,
            lossy=lossy,
            erases=erases,
            quarantine_rows_max=quarantine_rows_max,
            quarantine_ratio_max=quarantine_ratio_max,
            consent=consent,
            when=when,
            backup=backup,
            shadow=shadow,
        )
        executor = executor_of(function, definition, table=table, group_by=group_by)
        executor.repairs = repairs
        return executor

    return decorate


def _hints(function: RowFunction, migration_id: str) -> tuple[Any, Any]:
    hints = get_type_hints(function)
    returned = hints.pop("return", None)
    first = next(iter(inspect.signature(function).parameters), "")
    old, new = _shape_in(hints.get(first)), _shape_in(returned)
    if old is None or new is None:
        raise MigrationInvalid(
            f"The function of migration {migration_id} does not say what it reads and returns.",
            fix="Write def f(old: OldRow) -> NewRow with two pydantic models, or with TypedDicts or dict.",
        )
    return old, new


def _shape_in(hint: Any) -> Any:
    if is_typeddict(hint) or _is_model(hint):
        return hint
    if hint is dict or get_origin(hint) is dict:
        return dict
    return next((found for part in get_args(hint) if (found := _shape_in(part)) is not None), None)
