"""Rows of other users in a table: how many, and a fingerprint, to show that something has left them alone.

The fingerprint is a sum over rows, so the order in which they are read, or lie in the file, does not matter.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from syncengine.local.identifiers import quoted

if TYPE_CHECKING:
    from syncengine.local.store import Store

_SUM_MAX = 2**128

Fingerprint = tuple[int, int]
"""How many rows, and the sum of their hashes."""


def rows_of_others(store: "Store", owned: Mapping[str, str], *, user: str) -> dict[tuple[str, str], Fingerprint]:
    """For each table and each other owner in it. `owned` names the owner column of each table.

    Rows that belong to nobody (NULL or '') are nobody's, and not counted.
    """
    found: dict[tuple[str, str], Fingerprint] = {}
    for table, owner_column in owned.items():
        if _has_others(store, table, owner_column, user=user):
            found.update(_fingerprints(store, table, owner_column, user=user))
    return found


def _others(table: str, owner_column: str) -> str:
    return f"FROM {quoted(table)} WHERE {quoted(owner_column)} <> ? AND {quoted(owner_column)} <> ''"


def _has_others(store: "Store", table: str, owner_column: str, *, user: str) -> bool:
    return bool(store.query(f"SELECT 1 {_others(table, owner_column)} LIMIT 1", (user,)))


def _fingerprints(store: "Store", table: str, owner_column: str, *, user: str) -> dict[tuple[str, str], Fingerprint]:
    where = _others(table, owner_column)
    try:
        return _summed(store, table, f"SELECT {quoted(owner_column)}, * {where}", user=user)
    except UnicodeDecodeError:
        pass  # a text that is no UTF-8: its bytes can be compared all the same
    names = [str(name) for (name,) in store.query("SELECT name FROM pragma_table_info(?)", (table,))]
    exact = ", ".join(f"typeof({quoted(name)}), CAST({quoted(name)} AS BLOB)" for name in names)
    return _summed(store, table, f"SELECT hex({quoted(owner_column)}), {exact} {where}", user=user)


def _summed(store: "Store", table: str, select: str, *, user: str) -> dict[tuple[str, str], Fingerprint]:
    """Row by row: there may be more of them than memory."""
    sums: dict[tuple[str, str], Fingerprint] = {}
    with store.lock:
        for owner, *values in store.connection.execute(select, (user,)):
            count, total = sums.get((table, str(owner)), (0, 0))
            sums[table, str(owner)] = count + 1, (total + _hash(values)) % _SUM_MAX
    return sums


def _hash(values: list[Any]) -> int:
    text = repr(values).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=16).digest(), "big")
