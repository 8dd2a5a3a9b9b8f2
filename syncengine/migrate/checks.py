"""What must hold before a migration's marker moves. Each check raises, and the migration is rolled back whole."""

from typing import TYPE_CHECKING

from syncengine.errors import (
    CalledFromInside,
    MigrationInvalid,
    QuarantineBudgetExceeded,
    ReconciliationFailed,
    ShapeDrifted,
    StoreBusy,
    StoreSuperseded,
)
from syncengine.migrate.definition import Counts, MigrationDefinition
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.plan import Step
    from syncengine.migrate.rejection import Rejection
    from syncengine.settings import Settings


def check_code(
    definition: MigrationDefinition, counts: Counts, *, code_faults: int, first: "Rejection | None"
) -> None:
    """Code that fails for every row is wrong itself, however few the rows. Raises QuarantineBudgetExceeded.

    An author who allows a number of rows has said otherwise.
    """
    if definition.quarantine_rows_max is not None or first is None or code_faults != counts.read:
        return
    if counts.read >= first.rows_to_judge_code:
        raise QuarantineBudgetExceeded(
            f"Migration {definition.id} was stopped: its code failed for every row.",
            why=f"{counts.read} rows; {first.text}",
            fix="The store is as it was. Correct the migration and run it again.",
        )


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
            f"the first: {first.told if first else ''}",
            fix="The store is as it was. `syncengine plan --rehearse` names the rows. Mend the migration or them, or "
            "allow more in its definition (quarantine_rows_max).",
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


def check_found_nothing(store: "Store", step: "Step") -> None:
    """An import may be run again only where it has not imported anything. Raises MigrationInvalid."""
    runs, rows = store.rows("runs", "read_so_far", migration=step.id, scope=step.scope)[0]
    if runs == 0 or rows:
        raise MigrationInvalid(
            f"Migration {step.id} cannot be run again.",
            why=f"it has imported {rows} rows already" if runs else "it has not run yet",
            fix="Only an import that found nothing is run again." if runs else "Call engine.migrate().",
        )


def refuse_drifted(store: "Store", collections: tuple[str, ...]) -> None:
    """A migration is written for the columns that the one before it left. Raises ShapeDrifted for others."""
    for name in collections:
        drifted = store.drifted.get(name)
        if drifted is not None:
            raise ShapeDrifted(drifted.what, why=drifted.why, fix=drifted.fix)


def refuse_filling(store: "Store", collections: tuple[str, ...]) -> None:
    """What another process fills beside the live table is its own until it has ended. Raises StoreBusy."""
    begun = {str(name): str(migration) for name, migration in store.rows("shadow", "all")}
    for name in collections:
        if name in begun:
            raise StoreBusy(
                f"Migration {begun[name]} is rewriting {name} in another process.",
                why="a migration of the same collection would have to wait for its end",
                fix="Nothing was changed; try again when it has ended, or end that process.",
            )


def refuse_inside(store: "Store", step: "Step") -> None:
    """A migration is a transaction of its own, and its turn comes from the plan."""
    if store.connection.in_transaction:
        raise CalledFromInside(
            f"Migration {step.id} was started inside another migration, or inside a block that writes.",
            why="it could not be rolled back by itself",
            fix="Call engine.migrate() outside of engine.write() and of migrations. Nothing was changed.",
        )


def refuse_overtaken(step: "Step", version: SchemaVersion) -> None:
    """The plan was made before the lock was held: a newer app may have gone on by another way meanwhile."""
    if step.scope == STORE_SCOPE and version > step.hop.from_version:
        raise StoreSuperseded(
            f"Migration {step.id} was not run: the store has gone on to {version} meanwhile.",
            why="another process, perhaps of a newer version of the app, migrated it by another way",
            fix="Try again; the store was not changed.",
        )
