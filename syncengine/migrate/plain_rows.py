"""Rows as plain dicts, for functions with `dict` or TypedDict hints: nothing is validated, and that is the speed."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, get_type_hints

from syncengine.migrate.definition import Quarantine, WrongReturn
from syncengine.migrate.row_codec import (
    as_dicts,
    column_kinds,
    columns_encoded,
    json_or_text,
    scalar_or_json,
    values_of,
)

if TYPE_CHECKING:
    from syncengine.local.store import Row

LIVING_MAX = 50
"""Dicts that a function has made and that are not yet the values of columns."""


class PlainShape:
    """Dicts with one value for each column. Of a TypedDict, JSON fields are parsed and 0 and 1 of a bool are one."""

    row_type: type = dict

    def __init__(self, hint: Any, columns: tuple[str, ...]) -> None:
        self.columns = columns
        self.name = getattr(hint, "__name__", str(hint))
        kinds = {} if hint is dict else column_kinds(get_type_hints(hint))
        self._json = tuple(name for name in columns if kinds.get(name) == "json")
        self._json_places = [columns.index(name) for name in self._json]
        self._bool = tuple(name for name in columns if kinds.get(name) == "bool")
        self._values = values_of(columns)

    def decode(self, rows: "Sequence[Row]") -> Iterable[Any]:
        """Raises Quarantine for text that is no JSON where the hint wants it."""
        if not self._json and not self._bool:
            return as_dicts(self.columns, rows)
        plain = list(as_dicts(self.columns, rows))
        for name in self._json:
            for row in plain:
                if isinstance(row[name], str):
                    row[name] = _parsed(name, row[name])
        for name in self._bool:
            for row in plain:
                if row[name] in (0, 1):
                    row[name] = bool(row[name])
        return plain

    def encode_rows(self, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Raises WrongReturn for a row with other columns."""
        try:
            values = list(map(self._values, rows))
        except KeyError:
            values = []
        if len(values) != len(rows) or not set(map(len, rows)) <= {len(self.columns)}:
            raise self._other_columns(rows)
        return columns_encoded(values, json_places=self._json_places, other=scalar_or_json)

    def made_by(
        self, function: Callable[[Any], Any], rows: Iterable[Any], *, count: int
    ) -> list[tuple[Any, ...]] | None:
        """The columns of what a function makes of each row; None where that is not one whole dict each.

        What cannot be stored may be among them: then the insert raises TypeError.
        """
        made, values, widths = map(function, rows), list[tuple[Any, ...]](), {len(self.columns)}
        # A few dicts at a time: they go while the processor's cache has them, and before the garbage collector looks.
        while few := list(islice(made, LIVING_MAX)):
            # Looked at together: a condition for each would cost a tenth of the conversion.
            if not set(map(type, few)) <= {dict} or not set(map(len, few)) <= widths:
                return None
            try:
                values += map(self._values, few)
            except KeyError:
                return None
        if len(values) != count:
            return None
        return columns_encoded(values, json_places=self._json_places, other=scalar_or_json, trusting=True)

    def _other_columns(self, rows: Sequence[Any]) -> WrongReturn:
        wanted = set(self.columns)
        wrong = next(set(row) for row in rows if set(row) != wanted)
        # Of what is too much only the number: a key may come from the row itself.
        missing, more = sorted(wanted - wrong), len(wrong - wanted)
        return WrongReturn(f"the function returned a row without {missing} and with {more} other fields")


def _parsed(name: str, text: str) -> Any:
    value = json_or_text(text)
    if value is text:
        raise Quarantine("is no JSON", field=name)
    return value
