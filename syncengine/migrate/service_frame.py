"""What the parts of the migration service share: the open store, the registry, who listens, who asked to stop."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from syncengine.clock import system_random
from syncengine.events import MigrationEnded, MigrationProgressed, MigrationStarted
from syncengine.local.keys import KEY_FILE_ENDS, KeyFile
from syncengine.migrate.measuring import Analytics
from syncengine.migrate.pace import Pace
from syncengine.migrate.reporter import MigrationProgressReporter
from syncengine.migrate.results import MigrationProgress
from syncengine.migrate.run import RunContext

if TYPE_CHECKING:
    import random

    from syncengine.local.keys import KeyProvider
    from syncengine.local.store import Store
    from syncengine.migrate.consent import Consent
    from syncengine.migrate.registry import MigrationRegistry


class ServiceFrame:
    """One open store and its registry, with what runs need."""

    def __init__(
        self,
        *,
        store: "Store",
        registry: "MigrationRegistry",
        sources: Mapping[str, Any] | None = None,
        listener: Callable[[object], None] | None = None,
        probe_verdict: Callable[[], str] = lambda: "unknown",
        consent: "Consent | None" = None,
        analytics: Callable[[object], None] | None = None,
        keys: "KeyProvider | None" = None,
        chance: "random.Random | None" = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._sources = dict(sources or {})
        self._probe_verdict = probe_verdict
        self._progress: dict[str, MigrationProgress] = {}
        self._asked: str | None = None
        self._is_asking = False
        self._listener = listener
        self._consent = consent
        self._chance = chance or system_random()
        self._keys = keys or KeyFile(store.path + KEY_FILE_ENDS)
        self._analytics = Analytics(clock=store.clock, callback=analytics)

    def _heard(self, event: object) -> None:
        match event:
            case MigrationStarted():
                self._progress[event.migration] = MigrationProgress(
                    migration_id=event.migration, done=0, total=event.total
                )
            case MigrationProgressed():
                self._progress[event.migration] = MigrationProgress(
                    migration_id=event.migration,
                    done=event.done,
                    total=event.total,
                    rows_per_s=event.rows_per_s,
                    left_ms=event.left_ms,
                )
            case MigrationEnded():
                last = self._progress[event.migration]
                done = int(event.stats.get("itemsProcessed", last.done))
                self._progress[event.migration] = replace(last, done=done, left_ms=None, ended=True)
        if self._listener is not None:
            self._listener(event)

    def _context(self, user: str | None, options: Mapping[str, Any]) -> RunContext:
        return RunContext(
            store=self._store,
            registry=self._registry,
            user=user,
            reporter=MigrationProgressReporter(
                clock=self._store.clock, listener=self._heard, silent_ms_max=self._store.settings.silent_ms_max
            ),
            sources=self._sources,
            options=options,
            probe_verdict=self._probe_verdict(),
            chance=self._chance,
            keys=self._keys,
            began_after=self._store.value("restore_points", "newest_of_all"),
            pace=Pace(
                clock=self._store.clock,
                cpu_share_max=self._store.settings.cpu_share_max,
                asked=lambda: self._asked,
            ),
        )
