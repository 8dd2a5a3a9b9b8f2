"""One value of a declared change: cast to another type if nothing of it is lost, and given back exactly."""

import math
import re
from dataclasses import dataclass
from typing import Any

from syncengine.migrate.definition import Quarantine

INTEGER_MAX = 2**63 - 1
"""SQLite's integers have 64 bits (sqlite.org/datatype3.html)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """A cast of one column, and the cast that takes it back. None as a type: values stay as they are."""

    field: str
    to: type | None
    back: type | None

    def convert(self, value: Any, *, kept: Any = None) -> Any:
        """The value in its new type. `kept` is the one that became this value the other way, if there is one.

        Raises Quarantine for a value that would lose something.
        """
        if kept is not None and _gives(kept, self.back, value, field=self.field):
            return kept
        return converted(value, self.to, field=self.field)

    def must_be_kept(self, old: Any, new: Any) -> bool:
        """True where the way back would not give exactly the old value."""
        return not _gives(new, self.back, old, field=self.field)


def same_value(one: Any, other: Any) -> bool:
    """1, 1.0 and "1" are three values, and so are 0.0 and -0.0."""
    if type(one) is not type(other) or one != other:
        return False
    return not isinstance(one, float) or math.copysign(1, one) == math.copysign(1, other)


def converted(value: Any, to: type | None, *, field: str) -> Any:
    """The value in another type. Raises Quarantine where something of it would be lost."""
    if value is None or to is None:
        return value
    cannot = Quarantine(f"cannot become {to.__name__}", field=field)
    # Bytes are no text, and 1_000 is a number to Python alone.
    if isinstance(value, bytes) or (isinstance(value, str) and "_" in value and to is not str):
        raise cannot
    try:
        new = to(value)
    except (ValueError, TypeError, OverflowError):
        raise cannot from None
    if isinstance(new, float) and not math.isfinite(new):
        raise Quarantine("is no finite number", field=field)
    if to is float:
        new += 0.0  # SQLite's columns of reals know no -0.0
    if isinstance(value, int | float) and to is not str and new != value:
        raise Quarantine(f"would lose its fraction as {to.__name__}", field=field)
    if isinstance(new, int) and not -INTEGER_MAX - 1 <= new <= INTEGER_MAX:
        raise cannot
    return new


def _gives(value: Any, to: type | None, wanted: Any, *, field: str) -> bool:
    try:
        return same_value(converted(value, to, field=field), wanted)
    except Quarantine:
        return False


def python_type_of(sql_type: str) -> type | None:
    """What the values of a column are by its declared type; None: anything.

    The rules are those of sqlite.org/datatype3.html#determination_of_column_affinity.
    """
    affinity = _affinity_of(sql_type)
    return {"INTEGER": int, "TEXT": str, "REAL": float}.get(affinity)


def is_numeric(sql_type: str, *, strict: bool) -> bool:
    """Has the column NUMERIC affinity? Then SQLite may store another value than it is given, 7 for "07"."""
    return not strict and _affinity_of(sql_type) == "NUMERIC"


def _affinity_of(sql_type: str) -> str:
    rules = (("INT", "INTEGER"), ("CHAR|CLOB|TEXT", "TEXT"), ("BLOB|^$", "BLOB"), ("REAL|FLOA|DOUB", "REAL"))
    return next((affinity for words, affinity in rules if re.search(words, sql_type)), "NUMERIC")
