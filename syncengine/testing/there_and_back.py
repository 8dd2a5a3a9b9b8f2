"""There and back: what `down` makes of a new row is the old row that it came from."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, settings
from pydantic import BaseModel

from syncengine.clock import SystemClock
from syncengine.local.store import Store
from syncengine.migrate.rejection import rejection_for
from syncengine.migrate.row_codec import codec_of
from syncengine.migrate.row_migration import RowExecutor
from syncengine.migrate.work import Work
from syncengine.settings import Settings
from syncengine.testing.row_strategies import row_strategy

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

CONVERTED_SHARE_MIN = 0.1
"""With fewer rows that the migration takes, the check would say nothing."""


@dataclass(slots=True)
class TripReport:
    """What became of the rows that were tried."""

    rows: int = 0
    back: int = 0
    """Went there and came back the same."""
    set_aside: int = 0
    """Refused on the way there, as the migration's own rules have it."""
    dropped: int = 0


def round_trip(
    migration: RowExecutor, *, rows: "SearchStrategy[Any] | None" = None, examples_max: int = 100
) -> TripReport:
    """Take rows through a row migration and back; each must come back as it was, by way of what a table can hold.

    `rows` is a strategy of old rows; without it, any rows of the old model. Hypothesis looks for the smallest row
    that does not come back, and shows it. A migration that is declared lossy and has no `down` has nothing to check:
    the report then counts no rows. Raises AssertionError also for a migration that has neither, and where nine of ten
    rows never got there.
    """
    report = TripReport()
    if migration.down_function is None:
        if migration.definition.lossy:
            return report
        raise AssertionError(f"{migration.definition.id} has no way back: give it a `down`, or say lossy=True.")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(str(Path(folder) / "app.db"), settings=Settings(), clock=SystemClock())
        try:
            tried = row_strategy(migration.old_model) if rows is None else rows
            _Trip(migration, store, report).of_any(tried, examples_max)
        finally:
            store.close()
    if report.back + report.dropped < report.rows * CONVERTED_SHARE_MIN:
        raise AssertionError(
            f"Of {report.rows} rows {migration.definition.id} set {report.set_aside} aside, so hardly any got there: "
            "give `rows=` a strategy of rows that mean something."
        )
    return report


class _Trip:
    def __init__(self, migration: RowExecutor, store: Store, report: TripReport) -> None:
        self.migration = migration
        self.report = report
        self.work = Work(store=store, definition=migration.definition, collections={}, user=None, now_ms=0)

    def of_any(self, rows: "SearchStrategy[Any]", examples_max: int) -> None:
        @settings(
            max_examples=examples_max,
            derandomize=True,
            database=None,
            deadline=None,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(rows)
        def goes_and_comes_back(row: BaseModel) -> None:
            self.of(_stored(row))

        goes_and_comes_back()

    def of(self, row: BaseModel) -> None:
        self.report.rows += 1
        columns = codec_of(self.migration.old_model).encode(row)
        try:
            (made,) = self.migration.made_of([columns], self.work)
        except Exception as error:
            if rejection_for(error) is None:
                raise
            self.report.set_aside += 1
            return
        if not made:
            self.report.dropped += 1
            return
        for new in codec_of(self.migration.new_model).decode(made):
            self._compare(row, self._back(new))
        self.report.back += 1

    def _back(self, new: BaseModel) -> BaseModel:
        assert self.migration.down_function is not None
        back = self.migration.down_function(new)
        assert isinstance(back, self.migration.old_model), f"`down` gave back a {type(back).__name__}"
        return _stored(back)

    def _compare(self, old: BaseModel, back: BaseModel) -> None:
        odd = [name for name in type(old).model_fields if getattr(old, name) != getattr(back, name)]
        assert not odd, f"{self.migration.definition.id} and its `down` change {', '.join(odd)}"


def _stored(row: BaseModel) -> BaseModel:
    """The row as it is when it is read from its table."""
    codec = codec_of(type(row))
    found: list[BaseModel] = codec.decode([codec.encode(row)])
    return found[0]
