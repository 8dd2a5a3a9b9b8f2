"""Rows as plain dicts, for functions with `dict` or TypedDict hints: nothing is validated, and that is the speed."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, get_type_hints

from syncengine.migrate.definition import Quarantine, WrongReturn
from syncengine.migrate.row_codec import (
    as_dicts,
    column_kinds,
    columns_encoded,
    dict_display,
    json_or_text,
    scalar_or_json,
    values_of,
)

if TYPE_CHECKING:
    from syncengine.local.store import Row
    from syncengine.migrate.row_function import RowShape

Loop = Callable[[Callable[[Any], Any], Callable[[Any], tuple[Any, ...]], int, Iterable[Any]], list[tuple[Any, ...]]]
"""(function, values of a dict, their number, rows): the values for each row that becomes a whole dict."""


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
        self.is_bare = not self._json and not self._bool
        """Is every value what the column holds?"""

    def decode(self, rows: "Sequence[Row]") -> Iterable[Any]:
        """Raises Quarantine for text that is no JSON where the hint wants it."""
        if self.is_bare:
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
        self, function: Callable[[Any], Any], rows: "Sequence[Row]", *, reading: "RowShape"
    ) -> list[tuple[Any, ...]] | None:
        """The columns of what a function makes of each row; None where that is not one whole dict each.

        What cannot be stored may be among them: then the insert raises TypeError.
        """
        width = len(self.columns)
        try:
            if isinstance(reading, PlainShape) and reading.is_bare:
                made = _loop_over(reading.columns)(function, self._values, width, rows)
            else:
                made = _LOOP(function, self._values, width, reading.decode(rows))
        except KeyError:
            return None  # one dict has another name in the place of a column's, or the function raised it
        if len(made) != len(rows):
            return None
        return columns_encoded(made, json_places=self._json_places, other=scalar_or_json, trusting=True)

    def _other_columns(self, rows: Sequence[Any]) -> WrongReturn:
        wanted = set(self.columns)
        wrong = next(set(row) for row in rows if set(row) != wanted)
        # Of what is too much only the number: a key may come from the row itself.
        missing, more = sorted(wanted - wrong), len(wrong - wanted)
        return WrongReturn(f"the function returned a row without {missing} and with {more} other fields")


def _loop(rows: str, row: str) -> Loop:
    # One comprehension that calls the function itself: each further call, `map` or generator costs some hundredths.
    made: Loop = eval(  # noqa: S307  (of numbers and of the repr of strings alone)
        f"lambda function, values, width, rows: [values(made) for {rows} in rows"
        f" if type(made := function({row})) is dict and len(made) == width]",
        {"__builtins__": {}, "type": type, "dict": dict, "len": len},
    )
    return made


@cache
def _loop_over(columns: tuple[str, ...]) -> Loop:
    return _loop(*dict_display(columns))


_LOOP = _loop("row", "row")


def _parsed(name: str, text: str) -> Any:
    value = json_or_text(text)
    if value is text:
        raise Quarantine("is no JSON", field=name)
    return value
