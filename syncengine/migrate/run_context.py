"""What all runs of one `migrate()` share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncengine.clock import system_random

if TYPE_CHECKING:
    import random

    from syncengine.local.keys import KeyProvider
    from syncengine.local.store import Store
    from syncengine.migrate.consent import SecondLook
    from syncengine.migrate.pace import Pace
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.reporter import MigrationProgressReporter


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What every run of one `migrate()` shares."""

    store: "Store"
    registry: "MigrationRegistry"
    user: str | None
    reporter: "MigrationProgressReporter"
    pace: "Pace"
    sources: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    probe_verdict: str = "unknown"
    chance: "random.Random" = field(default_factory=system_random)
    keys: "KeyProvider | None" = None
    """What seals restore points; None in a private copy of a store, which needs none."""
    began_after: int | None = None
    """The newest restore point when the `migrate()` began: one that was made since covers all its steps."""
    second_look: "SecondLook | None" = None
    """Whether somebody has to be asked after all; None where naming a migration was consent, or on a copy."""
