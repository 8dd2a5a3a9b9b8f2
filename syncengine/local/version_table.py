"""The version table: which version each scope has reached, and which migrations ran there."""

from __future__ import annotations

from syncengine.clock import iso
from syncengine.errors import StoreDamaged
from syncengine.vocabulary import SchemaVersion, user_scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Protocol

    from syncengine.local.store import Store

    class Readable(Protocol):
        """What answers named statements: the store, or one moment of it."""

        def rows(self, file: str, name: str, /, **values: Any) -> list[tuple[Any, ...]]: ...


class Installed:
    """What the version table says: the value that a plan is made from."""

    __slots__ = ("cloud_versions", "completed", "queued", "skipped", "versions")

    def __init__(
        self,
        *,
        versions: dict[str, SchemaVersion],
        cloud_versions: dict[str, SchemaVersion],
        completed: frozenset[tuple[str, str]],
        queued: frozenset[tuple[str, str]],
        skipped: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        self.versions: Final = versions
        """Schema version by scope; a scope that is missing has never been migrated."""
        self.cloud_versions: Final = cloud_versions
        self.completed: Final = completed
        """(migration, scope) of all that ran and are done."""
        self.queued: Final = queued
        """(migration, scope) of online migrations that wait for the cloud."""
        self.skipped: Final = skipped
        """(migration, scope) of what a person has left out."""

    def schema_version(self, scope: str) -> SchemaVersion | None:
        return self.versions.get(scope)


def read_installed(store: Readable) -> Installed:
    """Read the version table and what has been applied, in two statements."""
    versions: dict[str, SchemaVersion] = {}
    clouds: dict[str, SchemaVersion] = {}
    for scope, schema_version, cloud_version in store.rows("state", "versions"):
        versions[scope] = parse_version(schema_version)
        if cloud_version is not None:
            clouds[scope] = parse_version(cloud_version)
    applied = store.rows("state", "applied")
    return Installed(
        versions=versions,
        cloud_versions=clouds,
        completed=frozenset((migration, scope) for migration, scope, state in applied if state == 2),
        queued=frozenset((migration, scope) for migration, scope, state in applied if state == 1),
        skipped=frozenset((migration, scope) for migration, scope, state in applied if state == 0),
    )


def parse_version(text: str) -> SchemaVersion:
    """A version that stands in the version table. Raises StoreDamaged: the engine writes no other."""
    try:
        return SchemaVersion.parse(text)
    except ValueError as error:
        raise StoreDamaged(
            "The version table holds what is no version.",
            why=str(error),
            fix="Put right what was edited there by hand; nothing was changed.",
        ) from error


def write_schema_version(store: Store, scope: str, *, version: SchemaVersion, app_version: str | None) -> None:
    """Move the marker, inside the transaction that moved the data."""
    store.run(
        "state",
        "write_schema_version",
        scope=scope,
        schema_version=str(version),
        app_version=app_version,
        now=iso(store.clock.now_ms()),
    )


def write_cloud_version(store: Store, user: str, *, version: SchemaVersion) -> None:
    """Record that a user's cloud data has reached a version."""
    store.run(
        "state",
        "write_cloud_version",
        scope=user_scope(user),
        cloud_version=str(version),
        now=iso(store.clock.now_ms()),
    )


__all__ = ["Installed", "parse_version", "read_installed", "write_cloud_version", "write_schema_version"]
