"""Import a listed migration, and check that the list tells the truth about it."""

from importlib import import_module
from typing import TYPE_CHECKING

from syncengine.errors import RegistryInvalid
from syncengine.migrate.executor import BaseMigrationExecutor
from syncengine.vocabulary import SchemaVersion

if TYPE_CHECKING:
    from syncengine.migrate.registry import ListedMigration, MigrationRegistry


def load_executor(listed: "ListedMigration", *, registry: "MigrationRegistry") -> BaseMigrationExecutor:
    """The executor that a line of the list points to. Raises RegistryInvalid, MigrationInvalid."""
    found = _imported(listed) if isinstance(listed.at, str) else listed.at
    executor = found() if isinstance(found, type) else found
    if not isinstance(executor, BaseMigrationExecutor):
        raise RegistryInvalid(f"{listed.at} is no migration.", why=f"it is a {type(executor).__name__}")
    _check_truth(listed, executor, registry)
    return executor


def _imported(listed: "ListedMigration") -> object:
    module, _, name = str(listed.at).partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RegistryInvalid(
            f"Migration {listed.id} is not at {listed.at}.",
            why=f"{type(error).__name__}: {error}",
            fix="Correct the list; the store was not changed.",
        ) from error


def _check_truth(listed: "ListedMigration", executor: BaseMigrationExecutor, registry: "MigrationRegistry") -> None:
    definition = executor.definition
    hop = listed.edge
    differing = [
        f"{name}: the list has {_shown(said)}, the code {_shown(is_so)}"
        for name, said, is_so in (
            ("id", listed.id, definition.id),
            ("from_version", hop.from_version, SchemaVersion.parse(definition.from_version)),
            ("to_version", hop.to_version, SchemaVersion.parse(definition.to_version)),
            ("scope", listed.scope, definition.scope),
            ("online", listed.online, definition.online),
            ("stands_for", listed.stands_for, definition.stands_for),
        )
        if said != is_so
    ]
    if differing:
        raise RegistryInvalid(
            f"The list and the code of migration {listed.id} differ.",
            why="; ".join(differing),
            fix="Write the same in the list and in the code; the store was not changed.",
        )
    registry.check_collections(definition)
    registry.check_labels(executor)
    registry.check_erasing(executor)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(str, value))})"
    return str(value)
