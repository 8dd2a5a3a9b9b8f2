"""No network in the middle of an upgrade: online steps wait in the queue through restarts, and then go on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncengine.migrate.registry import MigrationRegistry
from syncengine.settings import Settings
from syncengine.testing.contents import Contents, contents_of
from syncengine.testing.stores import OneWay, bring, opened
from syncengine.vocabulary import SchemaVersion, user_scope

if TYPE_CHECKING:
    from syncengine.engine import Engine
    from syncengine.remote.backend import Backend

ROUNDS_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineReport:
    """What waited for the network, and how it ended."""

    queued: tuple[str, ...]
    """The online migrations that waited."""
    entries: int
    """Entries in the queue while there was no network."""
    starts: int
    """How often the app was started until the queue was empty; 0 without a backend."""


def offline_midway(
    path: Path,
    *,
    registry: MigrationRegistry,
    user: str,
    sources: Mapping[str, Any] | None = None,
    backend: "Callable[[], Backend] | None" = None,
) -> OfflineReport:
    """Migrate the store at `path` without a network, start the app again, and let the network come back.

    Without a network all that can be done offline must be done, and the online migrations must wait; another start
    must change nothing. With a `backend` (a callable that gives one, for each start anew) the app is then started
    once for each few entries that it sends, until all are confirmed: nothing may be set aside, and the cloud's
    version must be the one of the last online migration. Raises AssertionError.
    """
    journey = _Journey(path, OneWay(registry, target=registry.target), user, sources)
    with journey.start() as engine:
        bring(engine)
        plan = engine.plan()
        assert plan.is_empty, f"without a network there is still to do: {plan}"
        entries = engine.status().outbox.waiting
    assert plan.queued or not _online(registry), "there are online migrations, and none of them waits"
    before = contents_of(path)
    with journey.start() as engine:
        assert engine.migrate() is None, "a second start found something to do"
    _same(before, contents_of(path))
    starts = journey.until_all_is_sent(backend) if backend is not None else 0
    return OfflineReport(queued=plan.queued, entries=entries, starts=starts)


def _online(registry: MigrationRegistry) -> set[SchemaVersion]:
    """The versions that the cloud has to be brought to."""
    return {listed.edge.to_version for listed in registry.wanted() if listed.online}


def _same(before: Contents, after: Contents) -> None:
    differences = before.differences(after)
    assert not differences, f"a second start changed the store: {'; '.join(differences)}"


@dataclass(frozen=True, slots=True)
class _Journey:
    path: Path
    registry: MigrationRegistry
    user: str
    sources: Mapping[str, Any] | None

    def start(self, backend: "Backend | None" = None) -> "Engine":
        few = Settings(push_entries_max=2, round_pushes_max=1)
        return opened(
            self.path,
            registry=self.registry,
            user=self.user,
            sources=self.sources,
            backend=backend,
            settings=few if backend is not None else None,
        )

    def until_all_is_sent(self, backend: "Callable[[], Backend]") -> int:
        for starts in range(1, ROUNDS_MAX + 1):
            with self.start(backend()) as engine:
                assert engine.migrate() is None, "a start in the middle found something to migrate"
                report = engine.sync_now()
                assert report.error is None, f"sync failed: {report.error}"
                status = engine.status()
                left = status.outbox.waiting + status.outbox.claimed + status.outbox.held
                if left == 0:
                    self._check_end(engine)
                    return starts
        raise AssertionError(f"after {ROUNDS_MAX} starts entries are still waiting")

    def _check_end(self, engine: "Engine") -> None:
        aside = engine._store.query("SELECT DISTINCT collection FROM _sync_quarantine WHERE origin = 'outbox'")
        assert not aside, f"entries were set aside of {', '.join(name for (name,) in aside)}"
        wanted = max(_online(self.registry), default=None)
        sql = "SELECT cloud_version FROM _sync_version WHERE scope = ?"
        found = engine._store.query(sql, (user_scope(self.user),))
        at = found[0][0] if found else None
        assert wanted is None or at == str(wanted), f"all was sent for {wanted}, and the cloud is said to be at {at}"
