"""Casts that SQLite does exactly as Python would, and which values they are; the odd ones go through Python.

Each is held to "same result, and the way back gives the same value" by a property test.
"""

from syncengine.migrate.declared_values import Conversion

_EXACT_MAX = 2**53
"""Up to here each integer is a double of its own (IEEE 754, 53 bits)."""

# Text that Python's float() reads and repr() writes the same way: at most 15 digits, which a double holds exactly
# (DBL_DIG), without an exponent. The comparison also refuses what stands behind a NUL. SQLite stores -0.0 as 0.0.
_PLAIN_DECIMAL = (
    "typeof({x}) = 'text' AND {x} NOT GLOB '*[^0-9.-]*' AND length({x}) <= 16"
    " AND {x} COLLATE BINARY <> '-0.0' AND CAST(CAST({x} AS REAL) AS TEXT) = {x} COLLATE BINARY"
)


def cast_in_sql(column: str, conversion: Conversion) -> tuple[str, str]:
    """(expression, predicate) for a column's name as SQL: where the predicate holds, the expression is the value."""
    to, back = conversion.to, conversion.back
    if to is back or back is None or to is None:
        # The same type on both sides, or anything on one: only a value of the right type already is itself.
        return column, _is_already(column, to if to is not None else back)
    exact = f"BETWEEN -{_EXACT_MAX} AND {_EXACT_MAX}"
    return {
        # The shortest decimal form, and no larger than 64 bits: anything else does not come back the same.
        (str, int): (
            f"CAST({column} AS INTEGER)",
            f"typeof({column}) = 'text' AND CAST(CAST({column} AS INTEGER) AS TEXT) = {column} COLLATE BINARY",
        ),
        (str, float): (f"CAST({column} AS REAL)", _PLAIN_DECIMAL.format(x=column)),
        (int, str): (f"CAST({column} AS TEXT)", f"typeof({column}) = 'integer'"),
        (int, float): (f"CAST({column} AS REAL)", f"typeof({column}) = 'integer' AND {column} {exact}"),
        (float, int): (
            f"CAST({column} AS INTEGER)",
            f"typeof({column}) = 'real' AND {column} {exact} AND CAST({column} AS INTEGER) = {column}",
        ),
        # SQLite writes other digits than repr().
        (float, str): (column, "0"),
    }[back, to]


def or_null(column: str, predicate: str) -> str:
    """NULL stays NULL in every cast."""
    return f"({column} IS NULL OR ({predicate}))"


def _is_already(column: str, wanted: type | None) -> str:
    if wanted is None:
        return "1"
    # A column of any type tells -0.0 from 0.0, one of reals does not.
    return {
        int: f"typeof({column}) = 'integer'",
        float: f"typeof({column}) = 'real' AND {column} <> 0",
        str: f"typeof({column}) = 'text'",
    }[wanted]


def literal(value: str) -> str:
    """A text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"
