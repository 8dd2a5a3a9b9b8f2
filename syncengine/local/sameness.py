"""When two stored values are the same: equal, of the same type, and as text of the same bytes.

SQLite's `=`, `IS` and EXCEPT follow a column's collation, and 1 equals 1.0 for them: an edit of upper and lower case,
or of the type in a column that keeps it, would be none. The sign of a zero no function of SQL shows.
"""

from collections.abc import Iterable

from syncengine.local.identifiers import quoted


def same_value(one: str, other: str) -> str:
    """SQL: two expressions, of which `one` is a column, have the same value; NULL is the same as NULL."""
    return f"{one} COLLATE BINARY IS {other} AND typeof({one}) = typeof({other})"


def same_row(one: str, other: str, *, columns: Iterable[str], keys: Iterable[str] = ()) -> str:
    """SQL: rows under two names have the same values in these columns; an index on the keys of `one` finds them."""
    pairs = {name: (f"{one}.{quoted(name)}", f"{other}.{quoted(name)}") for name in (*keys, *columns)}
    # In its own collation an index can find the key; in another one it could not.
    found = [f"{pairs[name][0]} IS {pairs[name][1]}" for name in keys]
    return " AND ".join([*found, *(same_value(*pair) for pair in pairs.values())])
