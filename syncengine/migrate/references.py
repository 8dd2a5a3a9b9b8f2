"""Rows that refer to nothing: those that a migration made, and those that were there before it.

A program without `PRAGMA foreign_keys = ON`, like the `sqlite3` command line, may have left some long ago. They are
not the migration's fault and do not stop it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncengine.errors import ReconciliationFailed
from syncengine.local.identifiers import quoted
from syncengine.migrate.shadow_rows import LiveReader

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.paging import Queried

REFERENCES_MAX = 100_000
"""So many that lead nowhere are compared for each foreign key; more are all taken for the migration's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One foreign key: `columns` of `child` name the row of `parent` with these `keys`."""

    child: str
    parent: str
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    has_parent: bool
    """False where there is no such table."""

    @property
    def nowhere(self) -> str:
        """The condition for rows `c` of the child that refer to nothing."""
        given = [f"c.{quoted(name)} IS NOT NULL" for name in self.columns]
        meets = " AND ".join(
            f"p.{quoted(key)} = c.{quoted(name)}" for name, key in zip(self.columns, self.keys, strict=True)
        )
        if not self.has_parent:
            return " AND ".join(given)
        return " AND ".join([*given, f"NOT EXISTS (SELECT 1 FROM {quoted(self.parent)} AS p WHERE {meets})"])


def broken_links(source: "Queried") -> list[Link]:
    """The foreign keys that some row breaks."""
    broken = source.query('SELECT DISTINCT "table", parent, fkid FROM pragma_foreign_key_check')
    return [_link(source, str(child), str(parent), int(number)) for child, parent, number in broken]


def _link(source: "Queried", child: str, parent: str, number: int) -> Link:
    pairs = source.query(
        'SELECT "from", "to" FROM pragma_foreign_key_list(?) WHERE id = ? ORDER BY seq', (child, number)
    )
    primary = source.query("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (parent,))
    named = [str(name) for (name,) in primary] or [str(column) for column, _ in pairs]
    return Link(
        child=child,
        parent=parent,
        columns=tuple(str(column) for column, _ in pairs),
        keys=tuple(named[place] if to is None else str(to) for place, (_, to) in enumerate(pairs)),
        has_parent=bool(primary) or bool(source.query("SELECT 1 FROM pragma_table_info(?) LIMIT 1", (parent,))),
    )


def check_references(store: "Store", migration: str) -> int:
    """Inside a migration's transaction: how many rows refer to nothing, all of which did so before it began.

    Raises ReconciliationFailed for any other, and names the tables.
    """
    broken = broken_links(store)
    if not broken:
        return 0
    before = LiveReader(store)  # what is committed, so without what this transaction did
    try:
        known = broken_links(before)
        told = [_told_apart(link, _before(link, known), store=store, before=before) for link in broken]
    finally:
        before.close()
    new = sum(count for _, count in told)
    if new:
        tables = sorted({link.child for link, (_, count) in zip(broken, told, strict=True) if count})
        raise ReconciliationFailed(
            f"Migration {migration} would leave rows that refer to nothing.",
            why=f"{new} rows of {tables} that referred to something before it, or were not there",
            fix="The store is as it was. Convert parents and children in one version step.",
        )
    return sum(old for old, _ in told)


def _before(link: Link, known: list[Link]) -> Link | None:
    """The same foreign key before the migration, when its columns may have had other names."""
    between = [one for one in known if (one.child, one.parent) == (link.child, link.parent)]
    same = [one for one in between if one.columns == link.columns]
    return same[0] if same else between[0] if len(between) == 1 else None


def _told_apart(link: Link, past: Link | None, *, store: "Queried", before: "Queried") -> tuple[int, int]:
    """How many rows refer to nothing as before, and how many do so now only."""
    now = _leading_nowhere(link, store)
    then = _leading_nowhere(past, before) if past is not None else {}
    if len(now) > REFERENCES_MAX:
        return 0, sum(now.values())
    new = sum(max(rows - then.get(values, 0), 0) for values, rows in now.items())
    return sum(now.values()) - new, new


def _leading_nowhere(link: Link, source: "Queried") -> dict[tuple[object, ...], int]:
    """The values that name no row of the parent, as bytes, and in how many rows."""
    values = ", ".join(f"CAST(c.{quoted(name)} AS BLOB)" for name in link.columns)
    places = ", ".join(str(place + 1) for place in range(len(link.columns)))
    rows = source.query(
        f"SELECT {values}, count(*) FROM {quoted(link.child)} AS c WHERE {link.nowhere} "
        f"GROUP BY {places} LIMIT {REFERENCES_MAX + 1}"
    )
    return {tuple(row[:-1]): int(row[-1]) for row in rows}
