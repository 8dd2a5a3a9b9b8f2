"""What goes on for who is signed in: rounds with the cloud, and migrations that were left for the background."""

from __future__ import annotations

from syncengine.clock import iso, system_random
from syncengine.errors import AuthRequired, CalledFromInside, StoreBusy
from syncengine.local.version_table import read_installed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from typing import TypeVar

    from syncengine.local.store import Store
    from syncengine.migrate.background import BackgroundMigrations
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.service import DataMigrationService
    from syncengine.opening import MakeBackend, Token
    from syncengine.status import NetworkHint
    from syncengine.sync.runner import SyncRunner

    Report = TypeVar("Report")


class Session:
    """One user at a time, or nobody. Nothing of a connection, cookie or token goes from one to the next."""

    def __init__(
        self,
        store: Store,
        registry: MigrationRegistry,
        *,
        user: str | None,
        make_backend: MakeBackend | None,
        keeps_backend: bool,
        chance: random.Random | None,
        hear: Callable[[object], None],
    ) -> None:
        self.user = user
        self.has_cloud = make_backend is not None
        self.runner: SyncRunner | None = None
        self.background: BackgroundMigrations | None = None
        self._store = store
        self._registry = registry
        self._make_backend = make_backend
        self._keeps_backend = keeps_backend
        self._chance = chance
        self._hear = hear
        self._token: Token | None = None
        self._service: Callable[[], DataMigrationService] | None = None
        self._then: Callable[[], None] | None = None
        self.hint: NetworkHint | None = None
        """What the host said last of the network, and when (ISO-8601, UTC)."""

    @property
    def activity(self) -> str:
        """no_backend, stopped, paused or running."""
        if not self.has_cloud:
            return "no_backend"
        return "stopped" if self.runner is None else self.runner.activity

    @property
    def unnoted_error(self) -> str | None:
        """The code of what ended the last round here, where the store could not take a note of it."""
        return None if self.runner is None else self.runner.unnoted_error

    def start(self, service: Callable[[], DataMigrationService], *, then: Callable[[], None]) -> None:
        """Rounds and background migrations from now on, also for later users; `then` is called after the latter."""
        self._service, self._then = service, then
        self._start_background(service, then)
        if self.has_cloud and self.user is not None:
            self.running().start()

    def _start_background(self, service: Callable[[], DataMigrationService], then: Callable[[], None]) -> None:
        if self.background is not None and self.background.is_running:
            return
        pending = not self._registry.nothing_pending(read_installed(self._store), user=self.user)
        if pending or self._store.rows("shadow", "kept_too_long", now=iso(self._store.clock.now_ms())):
            from syncengine.migrate.background import BackgroundMigrations

            self.background = BackgroundMigrations(service(), user=self.user, then=then)
            self.background.start()

    def running(self) -> SyncRunner:
        """The runner, made when it is first needed. Raises AuthRequired without a cloud or a user."""
        self._store.check_writable()
        if self.runner is None:
            if self._make_backend is None or self.user is None:
                raise AuthRequired(
                    "There is nobody to sync for.",
                    why="the engine was opened without a user" if self.user is None else "no cloud was given",
                    fix="Open the engine with user= and cloud_url= (or backend=). The queue is kept.",
                )
            from syncengine.sync.runner import SyncRunner

            self.runner = SyncRunner(
                store=self._store,
                registry=self._registry,
                backend=self._make_backend(self._token),
                user=self.user,
                chance=self._chance or system_random(),
                listener=self._hear,
            )
            if self.hint is not None:
                online, metered, _ = self.hint
                self.runner.set_network(online=online, metered=metered)
        return self.runner

    def set_network(self, *, online: bool | None, metered: bool | None) -> None:
        """What the host knows of the network; it holds for later users, too."""
        from syncengine.arguments import yes_or_no

        online, metered = yes_or_no(online, name="online"), yes_or_no(metered, name="metered")
        self.hint = (online, metered, iso(self._store.clock.now_ms()))
        if self.runner is not None:
            self.runner.set_network(online=online, metered=metered)

    # Another user.

    def switch(self, user: str | None, token: Token | None) -> None:
        """The call in flight ends or is given up; what was started goes on for the next user."""
        self.check_outside()
        self._end()
        self._begin(user, token)

    def without(self, user: str, act: Callable[[], Report]) -> Report:
        """Do this while nobody works for the user here; if it fails, who was signed in is so again.

        Raises StoreBusy where a call or a migration does not end in time.
        """
        self.check_outside()
        self._store.check_writable()
        before, token = self.user, self._token
        if not self._end():
            self._begin(before, token)
            raise StoreBusy(
                "A call or a migration for this user has not ended yet.",
                why="what it brings would be written after what is taken out now",
                fix="Try again in a moment. Nothing was changed.",
            )
        try:
            report = act()
        except BaseException:
            self._begin(before, token)
            raise
        if before == user:
            before = token = None
        self._begin(before, token)
        return report

    def check_outside(self) -> None:
        """Raises CalledFromInside where a block, a migration or a listener would have to end first."""
        if self._store.in_transaction_here():
            raise CalledFromInside(
                "A call that waits for the user's work to end was made from inside a block that writes.",
                why="it would wait for its own caller",
                fix="Call it after the `with engine.write()` block. Nothing was changed.",
            )
        if self.runner is not None:
            self.runner.check_not_inside()

    def _end(self) -> bool:
        """End what goes on for the user; False where it has not ended in time."""
        background, self.background = self.background, None
        runner, self.runner = self.runner, None
        if background is not None and background.is_running:
            background.stop(wait_ms=self._store.settings.close_wait_ms_max)
            if self._service is not None:
                self._service().resume()  # the pause was for that run
        if runner is not None:
            runner.close(leaves_backend=self._keeps_backend)
        return not (background and background.is_running) and not (runner and runner.is_alive)

    def _begin(self, user: str | None, token: Token | None) -> None:
        self.user, self._token = user, token
        if self._service is not None and self._then is not None:
            self.start(self._service, then=self._then)

    def close(self) -> None:
        """End it in bounded time; safe to repeat."""
        if self.background is not None:
            self.background.stop(wait_ms=self._store.settings.close_wait_ms_max)
        if self.runner is not None:
            self.runner.close()
