"""What runs cost, for the app's analytics: time, processor, memory. No user, no key, no row."""

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from syncengine.events import MigrationStopped, RunMeasured
from syncengine.logs import log_event
from syncengine.migrate.results import MigrationResult

if TYPE_CHECKING:
    from syncengine.clock import Clock
    from syncengine.migrate.plan import Step

_logger = logging.getLogger("syncengine.migrate")


class Analytics:
    """The app's callback for measurements; without one nothing is measured. What it raises harms nothing."""

    def __init__(self, *, clock: "Clock", callback: Callable[[object], None] | None) -> None:
        self._clock = clock
        self._callback = callback

    def tell(self, event: object) -> None:
        if self._callback is None:
            return
        try:
            self._callback(event)
        except Exception as error:  # noqa: BLE001  (a host's analytics must not undo a migration)
            log_event(_logger, logging.WARNING, "the analytics callback failed", error=type(error).__name__)

    def measured(self, step: "Step", run: Callable[["Step"], MigrationResult]) -> MigrationResult:
        """Run a step and tell what it cost. What the run raises passes on, and is not measured."""
        if self._callback is None:
            return run(step)
        cpu_ms, peak_bytes = self._clock.cpu_ms(), _peak_bytes()
        result = run(step)
        peak_after = _peak_bytes()
        self.tell(
            RunMeasured(
                migration=step.id,
                state=result.state,
                rows=result.counts.read,
                quarantined=result.counts.quarantined,
                duration_ms=result.duration_ms,
                cpu_ms=self._clock.cpu_ms() - cpu_ms,
                memory_growth_bytes=None if peak_after is None or peak_bytes is None else peak_after - peak_bytes,
                error_code=None if result.failure is None else result.failure.code(),
            )
        )
        if result.state in ("cancelled", "paused"):
            self.tell(MigrationStopped(migration=step.id, state=result.state))
        return result


def _peak_bytes() -> int | None:
    """The most memory that the process has had; getrusage(2): KiB on Linux, bytes on macOS."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
