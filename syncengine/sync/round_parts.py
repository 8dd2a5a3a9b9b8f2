"""What the rounds of one runner are made of: who speaks, the part that sends, and the part that reads."""

import random
from typing import TYPE_CHECKING

from syncengine.errors import MigrationInvalid
from syncengine.events import Listener
from syncengine.local.version_table import read_installed
from syncengine.remote.encoded_push import TakesEncodedPush
from syncengine.sync.carriage import Carriage
from syncengine.sync.confirm import hooks_of
from syncengine.sync.drain import Draining, Speaker
from syncengine.sync.encoding import encoded_entries
from syncengine.sync.pull import Pulling
from syncengine.vocabulary import STORE_SCOPE

if TYPE_CHECKING:
    from syncengine.migrate.online import CloudMigrationExecutor
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.outbox.queue import Outbox
    from syncengine.outbox.stay import Stay
    from syncengine.remote.backend import Backend
    from syncengine.sync.line import Line


class RoundParts:
    """Puts the parts of a round together from what is the same for all rounds of a store."""

    def __init__(
        self,
        outbox: "Outbox",
        registry: "MigrationRegistry",
        backend: "Backend",
        *,
        chance: random.Random,
        tell: Listener,
    ) -> None:
        self._outbox = outbox
        self._store = outbox.store
        self._registry = registry
        self._backend = backend
        self._chance = chance
        self._tell = tell

    def speaker(self) -> Speaker:
        """This app in the version that the store has now."""
        installed = read_installed(self._store).schema_version(STORE_SCOPE)
        return Speaker(
            app=self._registry.app,
            device=str(self._store.value("state", "get", name="device_id")),
            schema_version=str(installed or self._registry.baseline),
        )

    def sending(self, owner: str, speaker: Speaker, *, stay: "Stay", line: "Line", metered: bool) -> Draining:
        """The part that sends; its user may be taken out meanwhile (`stay`)."""
        encode = encoded_entries if isinstance(self._backend, TakesEncodedPush) else None
        return Draining(
            self._outbox,
            owner,
            speaker,
            settings=self._store.settings,
            chance=self._chance,
            barriers=self._executor,
            hooks=hooks_of(self._store, self._registry, stay=stay, tell=self._tell),
            carriage=Carriage(overlaps=True, encode=encode, metered=metered, line=line),
        )

    def reading(self, owner: str, speaker: Speaker) -> Pulling:
        """The part that reads."""
        return Pulling(
            self._store,
            self._registry,
            owner=owner,
            device=speaker.device,
            settings=self._store.settings,
            tell=self._tell,
        )

    def _executor(self, migration: str) -> "CloudMigrationExecutor":
        from syncengine.migrate.online import CloudMigrationExecutor

        executor = self._registry.get_migration_executor(migration)
        if isinstance(executor, CloudMigrationExecutor):
            return executor
        raise MigrationInvalid(f"Migration {migration} is queued as a change of cloud rows, but makes none.")


__all__ = ["RoundParts"]
