"""The rows of a table in key order, a page at a time, so that nothing stays open while rows are written."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from syncengine.errors import TextUnreadable
from syncengine.local.identifiers import quoted

if TYPE_CHECKING:
    from syncengine.local.store import Row, Store

PAGE_ROWS = 100


class Queried(Protocol):
    """A store, or a connection of its own for reading."""

    def query(self, sql: str, values: Mapping[str, Any] | tuple[Any, ...] = ()) -> list["Row"]:
        """All rows of a statement."""
        ...


def pages(
    store: "Store",
    table: str,
    *,
    columns: tuple[str, ...],
    keys: tuple[str, ...],
    where: str = "1",
    bindings: Mapping[str, Any] | None = None,
    page_rows: int | None = None,
) -> Iterator[list["Row"]]:
    """Pages of `columns`, which hold all of `keys`; each row once if the keys tell rows apart. NULL comes first."""
    width = page_rows or PAGE_ROWS
    places = [columns.index(name) for name in keys]
    start = f" FROM {quoted(table)} WHERE {where}"
    end = f" ORDER BY {', '.join(map(quoted, keys))} LIMIT {width}"
    page = page_of(store, columns, start + end, dict(bindings or {}))
    while page:
        yield page
        if len(page) < width:
            return
        last = [page[-1][place] for place in places]
        values = {f"last_{number}": value for number, value in enumerate(last)}
        page = page_of(store, columns, f"{start} AND {behind(keys, last)}{end}", {**(bindings or {}), **values})


def page_of(
    store: Queried, columns: tuple[str, ...], rest: str, bindings: Mapping[str, Any] | tuple[Any, ...]
) -> list["Row"]:
    """The columns of the rows that `rest` (FROM and what follows) names; text that is no UTF-8 comes as bytes."""
    names = [quoted(name) for name in columns]
    try:
        return store.query(f"SELECT {', '.join(names)}{rest}", bindings)
    except (TextUnreadable, UnicodeDecodeError):
        # SQLite keeps text as it is given, UTF-8 or not. What is not comes as bytes: that row is wrong, not the page.
        asked = [f"typeof({name}), iif(typeof({name}) = 'text', CAST({name} AS BLOB), {name})" for name in names]
        pairs = store.query(f"SELECT {', '.join(asked)}{rest}", bindings)
        return [tuple(map(_text_if_it_is, row[::2], row[1::2])) for row in pairs]


def _text_if_it_is(kind: str, value: Any) -> Any:
    if kind != "text":
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def behind(keys: tuple[str, ...], last: Sequence[Any]) -> str:
    """The condition for all rows behind a key, whose values are bound as :last_0, :last_1, …"""
    if None not in last:
        marks = ", ".join(f":last_{number}" for number in range(len(keys)))
        return f"({', '.join(map(quoted, keys))}) > ({marks})"
    # A row value with NULL compares with nothing, so the order is spelled out; no index helps, but it is rare.
    ways = []
    for number, key in enumerate(keys):
        same = [f"{quoted(other)} IS :last_{place}" for place, other in enumerate(keys[:number])]
        behind = f"{quoted(key)} IS NOT NULL" if last[number] is None else f"{quoted(key)} > :last_{number}"
        ways.append(" AND ".join([*same, behind]))
    return f"({' OR '.join(f'({way})' for way in ways)})"


def up_to(keys: tuple[str, ...]) -> str:
    """The condition for all rows up to a key without NULL, whose values are bound as :until_0, :until_1, …"""
    marks = ", ".join(f":until_{number}" for number in range(len(keys)))
    return f"({', '.join(map(quoted, keys))}) <= ({marks})"


def rows_of(store: "Store", table: str) -> int:
    """How many rows a table has."""
    return int(store.query(f"SELECT count(*) FROM {quoted(table)}")[0][0])
