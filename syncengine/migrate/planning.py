"""The plan of a store as one moment has it, with what was rolled back set apart."""

from typing import TYPE_CHECKING

from syncengine.errors import MigrationInvalid
from syncengine.local.version_table import read_installed
from syncengine.migrate.plan import Plan, make_plan
from syncengine.migrate.rollback_held import held_back
from syncengine.vocabulary import SchemaVersion

if TYPE_CHECKING:
    from syncengine.local.version_table import Readable
    from syncengine.migrate.registry import MigrationRegistry


def plan_of(
    moment: "Readable", registry: "MigrationRegistry", *, user: str | None = None, to: SchemaVersion | None = None
) -> Plan:
    """What is left to do, as `make_plan` says it."""
    held = held_back(moment, registry)
    return make_plan(read_installed(moment), registry, user=user, to=to, held_back=held)


def version_of_plan(registry: "MigrationRegistry", text: str | None) -> SchemaVersion | None:
    """The version that a plan is to end at. Raises MigrationInvalid for one to which no hop leads."""
    if text is None:
        return None
    ends = {listed.edge.to_version for listed in registry.wanted()} | {registry.baseline}
    try:
        version = SchemaVersion.parse(text)
    except ValueError as error:
        raise MigrationInvalid(f"No migration leads to version {text}.", why=str(error)) from error
    if version not in ends:
        raise MigrationInvalid(
            f"No migration leads to version {text}.", why=f"they lead to {', '.join(map(str, sorted(ends)))}"
        )
    return version
