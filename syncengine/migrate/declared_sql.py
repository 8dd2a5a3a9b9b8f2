"""Casts that SQLite does exactly as Python would, and which values they are; the odd ones go through Python.

Each is held to "same result, and the way back gives the same value" by a property test.
"""

from syncengine.migrate.batches import EVERY_ROW
from syncengine.migrate.declared_values import Conversion

_EXACT_MAX = 2**53
"""Up to here each integer is a double of its own (IEEE 754, 53 bits)."""

_TYPE_NAMES = {int: "integer", float: "real", str: "text"}

# Text that Python's float() reads and repr() writes the same way: at most 15 digits, which a double holds exactly
# (DBL_DIG), without an exponent. The comparison also refuses what stands behind a NUL. SQLite stores -0.0 as 0.0.
_PLAIN_DECIMAL = (
    "{x} NOT GLOB '*[^0-9.-]*' AND length({x}) <= 16"
    " AND {x} COLLATE BINARY <> '-0.0' AND CAST(CAST({x} AS REAL) AS TEXT) = {x} COLLATE BINARY"
)

_IS_EXACT = f"{{x}} BETWEEN -{_EXACT_MAX} AND {_EXACT_MAX}"

_CASTS: dict[tuple[type, type], tuple[str, str]] = {
    # The shortest decimal form, and no larger than 64 bits: anything else does not come back the same.
    (str, int): ("CAST({x} AS INTEGER)", "CAST(CAST({x} AS INTEGER) AS TEXT) = {x} COLLATE BINARY"),
    (str, float): ("CAST({x} AS REAL)", _PLAIN_DECIMAL),
    (int, str): ("CAST({x} AS TEXT)", EVERY_ROW),
    (int, float): ("CAST({x} AS REAL)", _IS_EXACT),
    (float, int): ("CAST({x} AS INTEGER)", f"{_IS_EXACT} AND CAST({{x}} AS INTEGER) = {{x}}"),
    # SQLite writes other digits than repr().
    (float, str): ("{x}", "0"),
}
"""By (old type, new type): the cast, and of which values it is exact."""


def cast_in_sql(column: str, conversion: Conversion, *, strict: bool = False) -> tuple[str, str]:
    """(expression, predicate) for a column's name as SQL: where the predicate holds, the expression is the value.

    `strict`: the column is of a STRICT table, so its values are of its type.
    """
    to, back = conversion.to, conversion.back
    if to is back or back is None or to is None:
        # The same type on both sides, or anything on one: only a value of the right type already is itself.
        return column, EVERY_ROW if strict and to is back else _is_already(column, to if to is not None else back)
    is_old = EVERY_ROW if strict else f"typeof({column}) = '{_TYPE_NAMES[back]}'"
    expression, predicate = _CASTS[back, to]
    both = [part for part in (is_old, predicate) if part != EVERY_ROW]
    return expression.format(x=column), " AND ".join(both).format(x=column) or EVERY_ROW


def or_null(column: str, predicate: str) -> str:
    """NULL stays NULL in every cast."""
    if predicate == EVERY_ROW:
        return EVERY_ROW
    return f"({column} IS NULL OR ({predicate}))"


def _is_already(column: str, wanted: type | None) -> str:
    if wanted is None:
        return EVERY_ROW
    # A column of any type tells -0.0 from 0.0, one of reals does not.
    more = f" AND {column} <> 0" if wanted is float else ""
    return f"typeof({column}) = '{_TYPE_NAMES[wanted]}'{more}"


def literal(value: str) -> str:
    """A text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"
