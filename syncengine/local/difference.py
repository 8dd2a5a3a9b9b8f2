"""What the present store has that a copy of it from before has not, row by row, in SQL.

The copy is a store with the present one attached as `present`, and perhaps one as `forward`: the same copy after all
migrations have run on it. A row is the same when it is equal in either.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncengine.local.identifiers import quoted
from syncengine.local.sameness import same_row, same_value
from syncengine.local.whole_row import row_as_json

if TYPE_CHECKING:
    from syncengine.local.store import Store

KEYS_SHOWN_MAX = 20
_STORED = (0,)
"""`hidden` in PRAGMA table_xinfo: 2 and 3 are generated columns, which follow from the others."""

_OF_ANY_TYPE = ("", "ANY", "BLOB")
"""Columns that keep numbers and text as given (sqlite.org/datatype3.html#determination_of_column_affinity)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Rows of one collection and owner that going back takes away, changes or brings back."""

    collection: str
    owner: str | None = field(repr=False)
    """None where the collection has no owners."""
    lost: int
    """New or different now: they go to quarantine."""
    returned: int
    """Deleted, or different, since: they are there again as they were."""
    keys: tuple[str, ...] = field(repr=False)
    """Of the lost ones, the first few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    defaults: tuple[str | None, ...]
    kinds: tuple[str, ...]
    """The types that the columns are declared with, in capitals."""
    keys: tuple[str, ...]
    """Of its primary key; its rowid where it has none."""
    owner: str | None
    key: str | None
    shape_version: str | None


def differences(copy: "Store", *, since: str, now: str) -> tuple[Difference, ...]:
    """Set aside, in the copy's quarantine, the present rows that it has not; what there was, by collection and owner.

    Inside a transaction of the copy.
    """
    found: dict[tuple[str, str | None], _Count] = {}
    for table in _tables(copy, "present"):
        for row in _lost(copy, table):
            count = found.setdefault((table.name, row.owner), _Count())
            count.lost += 1
            if len(count.keys) < KEYS_SHOWN_MAX:
                count.keys.append(row.key)
            _set_aside(copy, table, row, since=since, now=now)
    # What the copy has in the shape of today, or in its own where nothing brought it forward.
    origin = "forward" if "forward" in _attached(copy) else "main"
    for table in _tables(copy, origin):
        for owner, rows in _returned(copy, table, of=origin):
            found.setdefault((table.name, owner), _Count()).returned += rows
    return tuple(
        Difference(collection=name, owner=owner, lost=count.lost, returned=count.returned, keys=tuple(count.keys))
        for (name, owner), count in sorted(found.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    )


class _Count:
    def __init__(self) -> None:
        self.lost = 0
        self.returned = 0
        self.keys: list[str] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    owner: str | None
    key: str
    values: tuple[Any, ...]


def _attached(copy: "Store") -> set[str]:
    return {str(name) for _, name, _ in copy.query("PRAGMA database_list")}


def _tables(copy: "Store", schema: str) -> list[_Table]:
    """The app's own tables; not those that a migration is filling, or keeps for a while."""
    passing = {name for (name,) in copy.query(f"SELECT table_name FROM {schema}._sync_kept_table")}
    passing |= {f"{name}_new_" for (name,) in copy.query(f"SELECT collection FROM {schema}._sync_shadow")}
    found = copy.query(
        "SELECT name, type FROM pragma_table_list WHERE schema = ? AND type IN ('table', 'virtual', 'shadow') "
        "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT GLOB '_sync_*' ORDER BY name",
        (schema,),
    )
    shadows = {name for name, kind in found if kind == "shadow"}
    names = [name for name, kind in found if kind == "table" or (kind == "virtual" and _holds_content(name, shadows))]
    declared = {
        name: (owner, key, version)
        for name, owner, key, version in copy.query(
            f"SELECT name, owner_column, key_column, shape_version FROM {schema}._sync_collection"
        )
    }
    return [_table(copy, schema, name, declared.get(name)) for name in names if name not in passing]


def _holds_content(virtual: str, shadows: set[str]) -> bool:
    """Has a virtual table rows that are nowhere else, and not only an index over another table's?

    Full-text tables keep theirs in a table "_content" (sqlite.org/fts5.html#fts5_data_structures), an R*Tree in
    "_node" (sqlite.org/rtree.html#backwards_compatibility). Where a table's module is not loaded, SQLite shows what
    it keeps its rows in as ordinary tables.
    """
    return any(f"{virtual}{ending}" in shadows for ending in ("_content", "_node"))


def _table(copy: "Store", schema: str, name: str, declared: tuple[str | None, str, str] | None) -> _Table:
    info = [
        row
        for row in copy.query(
            "SELECT name, dflt_value, pk, hidden, type FROM pragma_table_xinfo(?, ?) ORDER BY cid", (name, schema)
        )
        if row[3] in _STORED
    ]
    columns = tuple(row[0] for row in info)
    keys = tuple(row[0] for row in sorted(info, key=lambda row: row[2]) if row[2])
    owner, key, version = declared or (None, None, None)
    return _Table(
        name=name,
        columns=columns,
        defaults=tuple(row[1] for row in info),
        kinds=tuple(str(row[4]).upper() for row in info),
        keys=keys or ("rowid",),
        owner=owner if owner in columns else None,
        key=key if key in columns else None,
        shape_version=version,
    )


def _lost(copy: "Store", table: _Table) -> Iterator[_Row]:
    """The present rows that neither copy has; streamed, while others are written."""
    # SQLite keeps text as it is given, UTF-8 or not: asked for as bytes, and read here.
    names = [f"p.{quoted(name)}" for name in table.columns]
    selected = ", ".join(
        f"typeof({name}) = 'text', iif(typeof({name}) = 'text', CAST({name} AS BLOB), {name})" for name in names
    )
    missing = _missing(copy, table, against=("main", "forward"))
    rows = copy.connection.execute(f"SELECT {selected} FROM present.{quoted(table.name)} AS p WHERE {missing}")
    return (_row(table, tuple(map(_text_if_it_is, row[::2], row[1::2]))) for row in rows)


def _text_if_it_is(is_text: Any, value: Any) -> Any:
    if not is_text:
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _returned(copy: "Store", table: _Table, *, of: str) -> list[tuple[str | None, int]]:
    """By owner, how many rows of a copy are not there at present."""
    owner = f"CAST(p.{quoted(table.owner)} AS TEXT)" if table.owner else "NULL"
    missing = _missing(copy, table, against=("present",))
    return [
        (found, int(rows))
        for found, rows in copy.query(
            f"SELECT {owner}, count(*) FROM {of}.{quoted(table.name)} AS p WHERE {missing} GROUP BY 1"
        )
    ]


def _missing(copy: "Store", table: _Table, *, against: tuple[str, ...]) -> str:
    """The condition that a row `p` is the same in none of these schemas."""
    attached = _attached(copy) | {"main"}
    there = [_the_same(copy, table, schema) for schema in against if schema in attached]
    return " AND ".join(f"NOT {same}" for same in there if same) or "true"


def _the_same(copy: "Store", table: _Table, schema: str) -> str | None:
    """The condition that a row `p` is the same there; None where its table or its key is not there."""
    there = {row[0] for row in copy.query("SELECT name FROM pragma_table_xinfo(?, ?)", (table.name, schema))}
    if not there or not set(table.keys) - {"rowid"} <= there:
        return None
    columns = [name for name in table.columns if name in there]
    has_key = table.keys != ("rowid",)
    same = [] if has_key else ["c.rowid = p.rowid"]
    if columns:
        same.append(same_row("c", "p", columns=columns, keys=table.keys if has_key else ()))
    # A column that is not there: nothing is lost with it as long as nobody has put anything in.
    unused = [
        f"(p.{quoted(name)} IS NULL OR {_is_default(f'p.{quoted(name)}', default, kind=kind)})"
        for name, default, kind in zip(table.columns, table.defaults, table.kinds, strict=True)
        if name not in there
    ]
    exists = f"EXISTS (SELECT 1 FROM {schema}.{quoted(table.name)} AS c WHERE {' AND '.join(same)})"
    return f"({' AND '.join([exists, *unused])})"


def _is_default(column: str, default: str | None, *, kind: str) -> str:
    value = f"({default or 'NULL'})"
    # Elsewhere the column gives all that is put in one type, which its default does not show.
    return same_value(column, value) if kind in _OF_ANY_TYPE else f"{column} COLLATE BINARY IS {value}"


def _row(table: _Table, values: tuple[Any, ...]) -> _Row:
    by_name = dict(zip(table.columns, values, strict=True))
    key = by_name[table.key] if table.key else "/".join(str(by_name[name]) for name in table.keys if name in by_name)
    owner = by_name[table.owner] if table.owner else None
    return _Row(owner=None if owner is None else str(owner), key=str(key), values=values)


def _set_aside(copy: "Store", table: _Table, row: _Row, *, since: str, now: str) -> None:
    copy.run(
        "restore_points",
        "set_row_aside",
        owner=row.owner,
        collection=table.name,
        row_key=row.key,
        body=row_as_json(table.columns, row.values),
        error_text=f"the store went back to {since}, and this row was written since",
        shape_version=table.shape_version,
        now=now,
    )
