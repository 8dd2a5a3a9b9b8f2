"""Moving the version markers, in the transaction that moved the data."""

from typing import TYPE_CHECKING

from syncengine.local.identifiers import quoted
from syncengine.local.version_table import read_installed, write_schema_version
from syncengine.migrate.plan import reached
from syncengine.vocabulary import STORE_SCOPE, user_scope

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry


def move_markers(store: "Store", registry: "MigrationRegistry", *, user: str | None) -> None:
    """Let the version table say what has been reached, for the store and for the user."""
    _move(store, registry, user=None)
    if user is not None:
        _move(store, registry, user=user)
        _write_profile(store, registry, user)


def _move(store: "Store", registry: "MigrationRegistry", *, user: str | None) -> None:
    scope = STORE_SCOPE if user is None else user_scope(user)
    installed = read_installed(store)
    version = reached(installed, registry, user=user)
    if installed.schema_version(scope) != version:
        write_schema_version(store, scope, version=version, app_version=registry.app_version)


def _write_profile(store: "Store", registry: "MigrationRegistry", user: str) -> None:
    """The user's status, kept in the profile row where the app declared one and the row is there."""
    if registry.profile is None:
        return
    from contextlib import nullcontext

    import orjson

    from syncengine.migrate.shape import columns_of
    from syncengine.migrate.status import status_of
    from syncengine.outbox.capture import capture_off
    from syncengine.outbox.filing import file_entries

    name, column = registry.profile
    if column not in columns_of(store, name):
        return
    owner = registry.collections[name].owner
    assert owner is not None, "a profile belongs to a user"
    status = orjson.dumps(status_of(store, registry, user=user).to_json()).decode()
    file_entries(store)
    is_heard_of = store.value("entries", "is_heard_of", collection=name, owner=user)
    # Of a row that the cloud has never heard of a change means nothing there: its upload brings the whole.
    with nullcontext() if is_heard_of else capture_off(store, (name,)):
        store.query(
            f"UPDATE {quoted(name)} SET {quoted(column)} = ? WHERE {quoted(owner)} = ?",
            (status, user),
        )
