"""A migration that was run and rolled back leaves the rows that were there, and runs again to the same new ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncengine.migrate.registry import MigrationRegistry
from syncengine.testing.contents import LeftOut
from syncengine.testing.outcome import Outcome, outcome_of
from syncengine.testing.stores import OneWay, Rows, bring, opened, store_at

if TYPE_CHECKING:
    from syncengine.migrate.rollback_report import RollbackReport


def check_rollback(
    migration_id: str,
    *,
    registry: MigrationRegistry,
    path: Path,
    rows: Rows | int,
    user: str | None = None,
    sources: Mapping[str, Any] | None = None,
    leave_out: LeftOut | None = None,
) -> "RollbackReport":
    """Run a migration on a store of the version before it, roll it back, and run it again; what the rollback did.

    The store is made at `path` with `rows` (see `store_at`). After the rollback the columns and rows of the
    migration's collections must be what they were, and nothing set aside; after the second run all must be as after
    the first. Good for migrations without a row model, too, such as declared ones. Raises AssertionError, and what
    `rollback` raises.
    """
    hop = registry.listed(migration_id).edge
    store_at(registry, hop.from_version, path=path, rows=rows, user=user, sources=sources)
    after = OneWay(registry, target=hop.to_version)

    def seen() -> Outcome:
        return outcome_of(path, registry=registry, leave_out=leave_out)

    old = seen()
    with opened(path, registry=after, user=user, sources=sources) as engine:
        bring(engine)
    new = seen()
    with opened(path, registry=after, user=user, sources=sources) as engine:
        would = engine.migrations.rollback(migration_id, user, simulate=True)
        others = would.plan.others if would.plan is not None else ()
        report = engine.migrations.rollback(migration_id, user, consent=others)
        assert report.state == "rolled_back", f"{migration_id} was not rolled back: {report.state}"
    wrong = old.of(_collections(registry, migration_id)).differs_from(seen().of(_collections(registry, migration_id)))
    assert not wrong, f"{migration_id} was rolled back, and there are {wrong} than before it"
    with opened(path, registry=after, user=user, sources=sources) as engine:
        for undone in reversed(report.undone):
            again = engine.migrations.execute_migration(undone.id, user)
            assert again.success, f"{undone.id} does not run again: {again.failure}"
    wrong = new.differs_from(seen())
    assert not wrong, f"{migration_id} was run again, and there are {wrong} than after the first time"
    return report


def _collections(registry: MigrationRegistry, migration_id: str) -> tuple[str, ...]:
    return registry.get_migration_executor(migration_id).definition.collections
