"""What an app sees of its collections: columns, rows, and the keys of what was set aside."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncengine.clock import SystemClock
from syncengine.local.identifiers import quoted
from syncengine.local.store import Store
from syncengine.migrate.registry import MigrationRegistry
from syncengine.migrate.shape import columns_of
from syncengine.settings import Settings
from syncengine.testing.contents import LeftOut

_SET_ASIDE = (
    "SELECT DISTINCT owner, collection, row_key FROM _sync_quarantine WHERE resolution IS NULL ORDER BY 1, 2, 3"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The same for two stores that an app cannot tell apart, in whatever order its columns are."""

    columns: Mapping[str, tuple[str, ...]]
    rows: Mapping[str, tuple[str, ...]]
    set_aside: tuple[tuple[Any, ...], ...]

    def of(self, collections: Collection[str]) -> "Outcome":
        """The part of these collections."""
        return Outcome(
            columns={name: self.columns[name] for name in collections},
            rows={name: rows for name, rows in self.rows.items() if name in collections},
            set_aside=tuple(one for one in self.set_aside if one[1] in collections),
        )

    def differs_from(self, other: "Outcome") -> str:
        """What is different, without values; empty where nothing is."""
        if self.columns != other.columns:
            odd = sorted(
                name
                for name in self.columns.keys() | other.columns.keys()
                if self.columns.get(name) != other.columns.get(name)
            )
            return f"other columns in {', '.join(odd)}"
        odd = [name for name in self.rows if self.rows[name] != other.rows[name]]
        if odd:
            return f"other rows in {', '.join(odd)}"
        return "" if self.set_aside == other.set_aside else "other rows were set aside"


def outcome_of(path: Path, *, registry: MigrationRegistry, leave_out: LeftOut | None = None) -> Outcome:
    """What the store at `path` holds of the registry's collections; without the migration status in the profile."""
    status_of, status = registry.profile or ("", "")
    store = Store(str(path), settings=Settings(), clock=SystemClock())
    try:
        columns = {}
        for name in registry.collections:
            odd = {*(leave_out or {}).get(name, ()), *([status] if name == status_of else [])}
            columns[name] = tuple(sorted(set(columns_of(store, name)) - odd))
        rows = {name: _rows(store, name, kept) for name, kept in columns.items() if kept}
        return Outcome(columns=columns, rows=rows, set_aside=tuple(store.query(_SET_ASIDE)))
    finally:
        store.close()


def _rows(store: Store, table: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    found = store.query(f"SELECT {', '.join(map(quoted, columns))} FROM {quoted(table)}")
    return tuple(sorted(map(repr, found)))
