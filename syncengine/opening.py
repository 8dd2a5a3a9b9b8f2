"""What is looked at before a store is opened for somebody, and what the engine is given to reach the cloud."""

from __future__ import annotations

from syncengine.errors import (
    AuthRequired,
    BackendAddressRefused,
    RegistryInvalid,
    StoreSuperseded,
    StoreUnknown,
    SyncEngineError,
    WillRetry,
)
from syncengine.migrate.registry import MigrationRegistry
from syncengine.vocabulary import STORE_SCOPE, user_scope

USER_LETTERS_MAX = 200
FIRESTORE = "firestore://"
"""A cloud_url that begins so names a project, and perhaps its database: firestore://herospath-prod/eu."""

_NAME_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:()")
"""Of ids of projects and databases."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from syncengine.clock import Clock
    from syncengine.local.store import Store
    from syncengine.remote.backend import Backend
    from syncengine.settings import Settings
    from syncengine.vocabulary import SchemaVersion

    Token = Callable[[], str | None]
    MakeBackend = Callable[[Token | None], Backend]
    """A way to the cloud of its own for each user; None is the token callback that `open` was given."""


def check_given(registry: MigrationRegistry, user: str | None, url: str | None = None, token: object = None) -> None:
    """Raises RegistryInvalid for what is no registry, AuthRequired for what can be no user, BackendAddressRefused for
    what names no project of Firestore, TokenInvalid for a token in place of its callback."""
    if not isinstance(registry, MigrationRegistry):
        raise RegistryInvalid(
            "The engine was opened without a registry of migrations.",
            why=f"registry is a {type(registry).__name__}",
            fix="Give registry=MigrationRegistry(...).",
        )
    if user is not None and not (isinstance(user, str) and user.isprintable() and 0 < len(user) <= USER_LETTERS_MAX):
        raise AuthRequired(
            "The engine was opened for a user whose id cannot be one.",
            why=f"an id is 1 to {USER_LETTERS_MAX} printable characters",
            fix="Give user=None when nobody is signed in.",
        )
    if url is not None and url.startswith("firestore:"):
        _project_and_database(url)
    if token is not None and not callable(token):
        from syncengine.remote.tokens import check_callable

        check_callable(token)


def _project_and_database(url: str) -> tuple[str, str]:
    project, slash, database = url.removeprefix(FIRESTORE).removesuffix("/").partition("/")
    names = [project, database] if slash else [project]
    if not url.startswith(FIRESTORE) or not all(name and not set(name) - _NAME_SIGNS for name in names):
        raise BackendAddressRefused(
            "The address of the cloud names no project of Firestore.",
            why="it is not like firestore://PROJECT or firestore://PROJECT/DATABASE",
            fix="Give firestore:// with the id of the project, such as firestore://herospath-prod.",
        )
    return project, database or "(default)"


def watch_shapes(store: Store, listener: Callable[[object], None] | None) -> None:
    """Compare the tables with their record, unless SQLite says that no table was altered since."""

    def say(sentence: str) -> None:
        from syncengine.migrate.reporter import MigrationProgressReporter

        MigrationProgressReporter(clock=store.clock, listener=listener).show_user_feedback(sentence, "warning")

    store.say = say
    try:
        if store.read_only is not None or store.shapes_are_known():
            return
        from syncengine.migrate import drift

        drift.watch_shapes(store, say=say)
    except WillRetry:
        return  # the next start looks again
    except SyncEngineError as error:
        store.refuse_writes(error)


def judge_of(registry: MigrationRegistry, user: str | None) -> Callable[[dict[str, SchemaVersion]], None]:
    """What refuses the versions of a store that this app must not write to."""

    def judge(versions: dict[str, SchemaVersion]) -> None:
        newest = max(versions.values(), default=registry.baseline)
        if newest > registry.target:
            raise superseded(newest, registry)
        for scope in (STORE_SCOPE, user_scope(user or "")):
            version = versions.get(scope, registry.target)
            if version != registry.target and not registry.knows(version):
                raise StoreUnknown(
                    f"The store is at version {version}, and this app knows no way from there to {registry.target}.",
                    why="none of its migrations begins at that version",
                    fix="Open it with the app that wrote it, or list a migration that leads on. It was not changed.",
                )

    return judge


def superseded(version: SchemaVersion, registry: MigrationRegistry) -> StoreSuperseded:
    """The error for a store that is newer than this app."""
    return StoreSuperseded(
        f"The store was migrated to {version} by a newer version of this app.",
        why=f"this process knows {registry.target}, and would write old shapes into new tables",
        fix="Restart the app in its new version. Nothing was written.",
    )


def way_to_the_cloud(
    *, backend: Backend | None, url: str | None, token: Token | None, settings: Settings, clock: Clock
) -> MakeBackend | None:
    """A host's own backend as it is; over HTTP a client of its own for each user; None without a cloud."""
    if backend is not None:
        return lambda _: backend
    if url is None:
        return None

    def make(other_token: Token | None) -> Backend:
        present = other_token or token or (lambda: None)
        if url.startswith(FIRESTORE):
            from syncengine.firestore.backend import FirestoreBackend

            project, database = _project_and_database(url)
            return FirestoreBackend(project, database=database, token=present, settings=settings, clock=clock)
        from syncengine.remote.http_backend import HttpBackend

        return HttpBackend(url, token=present, settings=settings, clock=clock)

    return make
