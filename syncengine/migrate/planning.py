"""The plan of a store as one moment has it, with what was rolled back set apart."""

from typing import TYPE_CHECKING

from syncengine.local.version_table import read_installed
from syncengine.migrate.plan import Plan, make_plan
from syncengine.migrate.rollback_held import held_back

if TYPE_CHECKING:
    from syncengine.local.version_table import Readable
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.vocabulary import SchemaVersion


def plan_of(
    moment: "Readable", registry: "MigrationRegistry", *, user: str | None = None, to: "SchemaVersion | None" = None
) -> Plan:
    """What is left to do, as `make_plan` says it."""
    held = held_back(moment, registry)
    return make_plan(read_installed(moment), registry, user=user, to=to, held_back=held)
