"""The code that runs one kind of migration. All kinds compile to this; there is one run loop (run.py)."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from syncengine.errors import MigrationInvalid
from syncengine.migrate.batches import Batch, of_units
from syncengine.migrate.definition import (
    Counts,
    Item,
    MigrationDefinition,
    Put,
    Quarantine,
    WrongReturn,
    may_return_none,
)

if TYPE_CHECKING:
    from syncengine.migrate.repair import Repair
    from syncengine.migrate.results import MigrationProgress, MigrationResult
    from syncengine.migrate.rollback_report import RollbackReport
    from syncengine.migrate.service import DataMigrationService
    from syncengine.migrate.work import Work


class BaseMigrationExecutor:
    """Read items, convert each into rows, in batches that succeed whole or are rolled back.

    An author overrides `items` and `convert`; the engine's own kinds also override `prepare`, `apply` and
    `finish`. `convert` does no I/O. Everything runs inside one transaction of the engine's.
    """

    definition: ClassVar[MigrationDefinition]
    rebuilds_tables: ClassVar[bool] = False
    """True where tables are dropped and renamed: foreign keys are then checked at the end, not on the way."""
    repairs: "tuple[Repair, ...]" = ()
    """Tried in this order on what an item's value holds, by the field of the error, before the item is set aside."""

    changes_rows: ClassVar[bool] = True
    """False where no row that is there can become another: the user need not be asked."""

    def __init__(self) -> None:
        self._service: DataMigrationService | None = None

    # What an author writes.

    def items(self, work: "Work") -> Iterator[Item]:
        """Everything that has to be looked at, streamed; usually `yield from work.elements("key")`."""
        raise MigrationInvalid(f"{type(self).__name__} does not say which items it reads.", fix="Write `items`.")

    def convert(self, item: Item, work: "Work") -> Put | list[Put] | None:
        """The rows for one item; None drops it, by rule, and it is counted. Raises Quarantine."""
        raise MigrationInvalid(f"{type(self).__name__} does not say what an item becomes.", fix="Write `convert`.")

    def undo(self, work: "Work") -> None:
        """The way back, for a rollback: take away what this migration made. In one transaction with all the rest.

        Of an import nobody needs to write it: the engine takes out the rows that the import made.
        """
        raise MigrationInvalid(f"{type(self).__name__} does not say how it is undone.", fix="Write `undo`.")

    @property
    def has_undo(self) -> bool:
        """Did the author write `undo`?"""
        return type(self).undo is not BaseMigrationExecutor.undo

    # What the run loop calls, in this order.

    def prepare(self, work: "Work") -> None:
        """Before the first item."""

    @property
    def grouped(self) -> bool:
        """True where one unit is several items that are converted together."""
        return False

    def units(self, items: Iterator[Item]) -> Iterator[list[Item]]:
        """What is converted together: each item by itself, unless the migration merges."""
        for item in items:
            yield [item]

    def batches(self, work: "Work") -> Iterator[Batch]:
        """All items, in what is done in one SAVEPOINT each."""
        units = self.units(self.items(work))
        return of_units(units, self, work, rows_max=work.store.settings.batch_rows)

    def check(self, item: Item) -> None:
        """Raises whatever is wrong with an item by itself, before its group is converted."""

    def set_aside(self, item: Item, work: "Work") -> str:
        """The whole of an item as text, for quarantine; takes it out of the new data if it is in there."""
        return item.raw.decode("utf-8", "backslashreplace")

    def apply(self, items: list[Item], work: "Work") -> Counts:
        """Write what a batch becomes. An exception undoes all of it.

        All is converted before anything is written: a rollback of written pages holds them in SQLite's memory
        until the transaction ends (100 KB for each batch of walks, measured), and of none it costs nothing.
        """
        counts = Counts(read=len(items))
        for puts in [self._puts_of(item, work) for item in items]:
            if not puts:
                counts.dropped += 1
            elif sum(work.write(put) for put in puts):
                counts.written += 1
            else:
                counts.merged += 1
        return counts

    def _puts_of(self, item: Item, work: "Work") -> list[Put]:
        if item.broken is not None:
            raise Quarantine(item.broken, field=item.field)
        puts = self.convert(item, work)
        if puts is None and not may_return_none(self.convert):
            raise WrongReturn("`convert` returned None, and its return hint does not say that it may drop an item")
        return [puts] if isinstance(puts, Put) else puts or []

    def finish(self, work: "Work") -> None:
        """After the last item, before the checks."""

    def verify(self, work: "Work") -> None:
        """The migration's own check of the new data; raises whatever says what is wrong."""

    def estimate(self, work: "Work") -> int | None:
        """How many items there will be, if that is cheap to know."""
        return None

    # What hosts call, by the names of the design.

    def attach(self, service: "DataMigrationService") -> None:
        """Bind to the service of an open engine, which the methods below work through."""
        self._service = service

    def execute(self, user: str | None, options: Mapping[str, Any] | None = None) -> "MigrationResult":
        """Run this migration for the user if it has not run yet; what it did. Errors: those of `Engine.migrate`."""
        return self._bound().execute_migration(self.definition.id, user, options=options)

    def validate(self, user: str | None) -> "MigrationResult":
        """Check the stored rows of this migration's collections against their shape; changes nothing."""
        return self._bound().validate_migrated_data(user, self.definition.id)

    def rollback(self, user: str | None) -> "RollbackReport":
        """Undo this migration and what builds on it; see `DataMigrationService.rollback`."""
        return self._bound().rollback(self.definition.id, user)

    def get_progress(self) -> "MigrationProgress":
        """How far the present or last run of this migration got."""
        return self._bound().progress_of(self.definition.id)

    def get_migration_metadata(self) -> dict[str, Any]:
        """The definition as JSON-able values."""
        return self.definition.to_json()

    def _bound(self) -> "DataMigrationService":
        if self._service is None:
            raise MigrationInvalid(
                f"{type(self).__name__} is not attached to an open engine.",
                fix="Get it from engine.migrations.executor(id).",
            )
        return self._service
