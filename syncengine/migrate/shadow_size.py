"""Is a collection large, and how many of its rows fit into a first batch? By counting a little and sampling."""

from typing import TYPE_CHECKING

from syncengine.local.identifiers import quoted
from syncengine.migrate.paging import rows_of
from syncengine.migrate.shadow_pace import BATCH_ROWS_MIN
from syncengine.migrate.shape import columns_of, row_name

if TYPE_CHECKING:
    from syncengine.local.store import Store

SAMPLE_ROWS = 50
FIRST_BATCH_BYTES = 1024 * 1024


def is_large(store: "Store", table: str) -> bool:
    """`shadow_rows_min` rows, or `shadow_bytes_min` bytes by the rows of the table's two ends."""
    rows_min = store.settings.shadow_rows_min
    found = store.query(f"SELECT count(*) FROM (SELECT 1 FROM {quoted(table)} LIMIT ?)", (rows_min,))
    if rows_min == 0 or int(found[0][0]) >= rows_min:
        return True
    return rows_of(store, table) * row_bytes(store, table) >= store.settings.shadow_bytes_min


def first_batch_rows(store: "Store", table: str) -> int:
    """`batch_rows`, or fewer where rows are long."""
    fitting = FIRST_BATCH_BYTES // max(row_bytes(store, table), 1)
    return max(min(store.settings.batch_rows, fitting), BATCH_ROWS_MIN)


def row_bytes(store: "Store", table: str) -> int:
    """About how long a row is; 0 for an empty table."""
    columns = [quoted(name) for name in columns_of(store, table)]
    length = " + ".join(f"ifnull(length(CAST({name} AS BLOB)), 0)" for name in columns)
    ends = " UNION ALL ".join(
        f"SELECT * FROM (SELECT {length} AS bytes FROM {quoted(table)} "
        f"ORDER BY {', '.join(f'{name} {way}' for name in row_name(store, table))} LIMIT {SAMPLE_ROWS})"
        for way in ("ASC", "DESC")
    )
    return int(store.query(f"SELECT ifnull(max(avg(bytes), 0), 0) FROM ({ends})")[0][0])
