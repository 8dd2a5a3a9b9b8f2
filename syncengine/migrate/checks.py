"""What must hold before a migration's marker moves. Each check raises, and the migration is rolled back whole."""

from typing import TYPE_CHECKING

from syncengine.errors import QuarantineBudgetExceeded, ReconciliationFailed
from syncengine.migrate.definition import Counts, MigrationDefinition

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.rejection import Rejection
    from syncengine.settings import Settings


def check_budget(
    definition: MigrationDefinition, counts: Counts, *, settings: "Settings", first: "Rejection | None"
) -> None:
    """No more rows in quarantine than allowed. Raises QuarantineBudgetExceeded, which names the first reason."""
    rows_max, ratio_max = definition.quarantine_rows_max, definition.quarantine_ratio_max
    rows_max = settings.quarantine_rows_max if rows_max is None else rows_max
    ratio_max = settings.quarantine_ratio_max if ratio_max is None else ratio_max
    allowed = max(rows_max, int(ratio_max * counts.read))
    if counts.quarantined > allowed:
        raise QuarantineBudgetExceeded(
            f"Migration {definition.id} was stopped: too many rows cannot be converted.",
            why=f"{counts.quarantined} of {counts.read} rows failed, {allowed} are allowed; "
            f"the first: {first.text if first else ''}" + (f" ({first.field})" if first and first.field else ""),
            fix="The store is as it was. Mend the migration, or allow more in its definition.",
        )


def check_all_read(migration: str, counts: Counts, *, rows: int | None) -> None:
    """Every row of the old table was looked at. Raises ReconciliationFailed."""
    if counts.read != rows:
        raise ReconciliationFailed(
            f"Migration {migration} did not see every row.",
            why=f"the table holds {rows} rows, {counts.read} were read; its key may not tell rows apart",
            fix="The store is as it was. Correct the key of the collection.",
        )


def check_sum(migration: str, counts: Counts) -> None:
    """What was read is what became of it. Raises ReconciliationFailed."""
    if counts.read != counts.accounted:
        raise ReconciliationFailed(
            f"Migration {migration} does not add up.",
            why=f"read {counts.read}, but written {counts.written} + merged {counts.merged} + dropped "
            f"{counts.dropped} + quarantined {counts.quarantined} = {counts.accounted}",
            fix="The store is as it was. This is a mistake in the migration's executor.",
        )


def check_references(store: "Store", migration: str) -> None:
    """No row refers to one that is not there. Raises ReconciliationFailed, which names the tables."""
    broken = store.query("PRAGMA foreign_key_check")
    if broken:
        raise ReconciliationFailed(
            f"Migration {migration} would leave rows that refer to nothing.",
            why=f"{len(broken)} rows of {sorted({str(row[0]) for row in broken})}",
            fix="The store is as it was. Convert parents and children in one version step.",
        )
