"""The lock file beside the migrations: a hash of the code of each, so that a released one cannot change unseen."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from syncengine.errors import MigrationChanged, MigrationInvalid
from syncengine.testing.code_of import code_hash_of

if TYPE_CHECKING:
    from syncengine.migrate.registry import MigrationRegistry

ABOUT = "Hashes of the code of released migrations. Written by syncengine.testing.freeze, checked by frozen."


def frozen(registry: "MigrationRegistry", lockfile: Path) -> None:
    """Check that every migration is the code that was frozen. Changes nothing.

    What counts is what a migration does: its functions, models, SQL and constants, wherever in the app's own packages
    they stand; blanks, comments, docstrings and the texts for people do not. Raises MigrationChanged for code that
    changed, for a migration that is gone, and for one that was never frozen.
    """
    now, then = hashes_of(registry), _read(lockfile)
    changed = sorted(name for name in now.keys() & then.keys() if now[name] != then[name])
    gone, new = sorted(then.keys() - now.keys()), sorted(now.keys() - then.keys())
    if changed:
        raise MigrationChanged(
            "Released migrations are not the code any more that was frozen.",
            why=", ".join(changed),
            fix="Bring the code back, and write the change as a new migration: a store that has run the old code "
            "will not run it again. What was never released may be frozen anew, with again=.",
        )
    if gone:
        raise MigrationChanged(
            "Released migrations are not in the registry any more.",
            why=", ".join(gone),
            fix="Keep every migration: somebody's store is still at the version before it.",
        )
    if new:
        raise MigrationChanged(
            "Migrations are not frozen yet.",
            why=", ".join(new),
            fix=f"Freeze them when they are released: freeze(registry, {str(lockfile)!r}), and commit the file.",
        )


def freeze(registry: "MigrationRegistry", lockfile: Path, *, again: Collection[str] = ()) -> tuple[str, ...]:
    """Write the hashes of migrations that are not frozen yet, and of those in `again`; their ids.

    Raises MigrationChanged, and writes nothing, where another frozen one has changed or is gone; MigrationInvalid
    for an id in `again` that is nobody's, and where the file cannot be written.
    """
    now, then = hashes_of(registry), _read(lockfile) if Path(lockfile).exists() else {}
    unknown = sorted(set(again) - now.keys() - then.keys())
    if unknown:
        raise MigrationInvalid(
            "There is no such migration to freeze again.",
            why=", ".join(unknown),
            fix="Name ids of the registry. Nothing was frozen.",
        )
    written = tuple(sorted(name for name in now if name not in then or (name in again and now[name] != then[name])))
    kept = {name: found for name, found in then.items() if name not in again}
    wrong = sorted(name for name, found in kept.items() if now.get(name) != found)
    if wrong:
        raise MigrationChanged(
            "Released migrations have changed or are gone; nothing was frozen.",
            why=", ".join(wrong),
            fix="Bring them back, or name in `again` those that were never released.",
        )
    text = json.dumps({"about": ABOUT, "migrations": dict(sorted(now.items()))}, indent=2)
    _write(Path(lockfile), text + "\n")
    return written


def _write(lockfile: Path, text: str) -> None:
    try:
        lockfile.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MigrationInvalid(
            f"The lock file {lockfile.name} cannot be written.",
            why=error.strerror or type(error).__name__,
            fix="Name a file beside the migrations, in a folder that is there. Nothing was frozen.",
        ) from error


def hashes_of(registry: "MigrationRegistry") -> dict[str, str]:
    """By migration, the SHA-256 of its code."""
    return {listed.id: code_hash_of(listed, registry) for listed in registry.migrations}


def _read(lockfile: Path) -> dict[str, str]:
    try:
        found = dict(json.loads(Path(lockfile).read_text(encoding="utf-8"))["migrations"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MigrationChanged(
            f"The lock file {Path(lockfile).name} cannot be read, so nothing says what the migrations were.",
            why=type(error).__name__,
            fix="Bring it back from the repository; the first one is written by freeze(registry, lockfile).",
        ) from error
    return {str(name): str(digest) for name, digest in found.items()}
