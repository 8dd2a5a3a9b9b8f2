"""One of the processes of `two_starters`: `python -m syncengine.testing.starter STORE ORDER`."""

import json
import sys
from importlib import import_module
from pathlib import Path

from syncengine.migrate.registry import MigrationRegistry
from syncengine.testing.stores import OneWay, bring, opened


def main() -> None:
    """Get ready, wait for the word, migrate. Ends with an error where the migration does."""
    path, order = Path(sys.argv[1]), json.loads(sys.argv[2])
    given = registry_at(order["registry"])
    registry = OneWay(given, target=given.target)
    for listed in registry.migrations:
        registry.get_migration_executor(listed.id)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with opened(path, registry=registry, user=order["user"], sources=order["sources"]) as engine:
        bring(engine)


def registry_at(place: str) -> MigrationRegistry:
    """The registry at "package.module:name"; called, where the name is a function. Raises TypeError."""
    module, _, name = place.partition(":")
    found = getattr(import_module(module), name)
    registry = found if isinstance(found, MigrationRegistry) else found()
    if not isinstance(registry, MigrationRegistry):
        raise TypeError(f"{place} is a {type(registry).__name__}, and no MigrationRegistry")
    return registry


if __name__ == "__main__":
    main()
