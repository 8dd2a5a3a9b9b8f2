"""Is a migration whose items lie in quarantine other code by now? Answered at a start, without loading any."""

import os
from importlib.util import find_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry

REMEMBERED_AS = "quarantine_code"


def code_stamp(registry: "MigrationRegistry", migrations: "Iterable[str]") -> str | None:
    """Size and time of the files that these migrations come from; None where a file is not known."""
    places = {listed.id: listed.at for listed in registry.migrations}
    stamps = [_stamp_of(places[name]) for name in sorted(set(migrations)) if name in places]
    return None if None in stamps else " ".join(map(str, stamps))


def _stamp_of(at: object) -> str | None:
    if not isinstance(at, str):
        return None
    module = at.partition(":")[0]
    try:
        spec = find_spec(module)
        found = spec.origin if spec is not None else None
        facts = None if found is None else os.stat(found)  # noqa: PTH116  (pathlib is slow to import)
    except (ImportError, ValueError, OSError):
        return None
    return None if facts is None else f"{module}:{facts.st_size}:{facts.st_mtime_ns}"


def is_same_code(store: "Store", registry: "MigrationRegistry", *, user: str | None) -> bool:
    """Have all open items of this user been tried with these files?"""
    stamp = code_stamp(registry, _refusing(store, user))
    return stamp is not None and store.value("state", "get", name=_name(user)) == stamp


def remember_code(store: "Store", registry: "MigrationRegistry", *, user: str | None) -> None:
    """All open items have been tried with the files as they are now."""
    stamp = code_stamp(registry, _refusing(store, user))
    if stamp is not None:
        with store.transaction():
            store.run("state", "set", name=_name(user), value=stamp)


def _refusing(store: "Store", user: str | None) -> set[str]:
    return {str(row[1]) for row in store.rows("quarantine", "refused_by", user=user)}


def _name(user: str | None) -> str:
    return REMEMBERED_AS if user is None else f"{REMEMBERED_AS} of {user}"
