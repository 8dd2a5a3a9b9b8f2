"""What was rolled back does not run again by itself: it waits for a person, or for other code."""

from typing import TYPE_CHECKING

from syncengine.migrate.history import code_hash
from syncengine.migrate.shadow_state import filling
from syncengine.vocabulary import STORE_SCOPE

if TYPE_CHECKING:
    from syncengine.local.version_table import Readable
    from syncengine.migrate.registry import MigrationRegistry


def held_back(store: "Readable", registry: "MigrationRegistry") -> dict[tuple[str, str], str]:
    """(migration, scope) of what is held back, and why. Nothing is imported where nothing was rolled back.

    What somebody asked to roll back is held until it is asked for (`run(only=...)`) or its code is another; what went
    with it is held for as long. One that rewrites its collection was asked for, also where that was interrupted.
    """
    rows = store.rows("rollback", "rolled_back")
    asked_for = set(filling(store).values()) if rows else set()
    listed = {migration.id: migration for migration in registry.migrations}
    held: dict[tuple[str, str], str] = {}
    followers: list[tuple[str, str, str]] = []
    for _, migration, scope, code, because_of, note, at in rows:
        if migration in asked_for or migration not in listed:
            continue
        if (listed[migration].scope == STORE_SCOPE) is not (scope == STORE_SCOPE):
            continue
        if because_of is not None:
            followers.append((migration, scope, because_of))
        # Without a note nobody asked for it: a restore point was taken back, as after damage.
        elif note is not None and code == code_hash(registry.get_migration_executor(migration)):
            held[migration, scope] = f"it was rolled back at {at}"
    for migration, scope, because_of in followers:
        if (because_of, scope) in held or (because_of, STORE_SCOPE) in held:
            held[migration, scope] = f"it was rolled back with {because_of}"
    return held
