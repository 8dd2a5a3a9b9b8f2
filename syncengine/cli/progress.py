"""Progress of long work on stderr: one line that changes on a terminal, a line now and then elsewhere."""

from typing import TYPE_CHECKING, TextIO

from syncengine.cli.showing import counted
from syncengine.events import BatchConfirmed, MigrationEnded, MigrationMessage, MigrationProgressed, MigrationStarted

if TYPE_CHECKING:
    from types import TracebackType

    from syncengine.clock import Clock

QUIET_MS = 1_000
"""What is done sooner needs no progress."""
LINE_EVERY_MS = 5_000
"""How often a log file gets a line."""


class ProgressLine:
    """A listener of the engine's events. Use it in a `with` block, which leaves the terminal's line empty."""

    def __init__(self, stream: TextIO, *, clock: "Clock", is_terminal: bool) -> None:
        self._stream = stream
        self._clock = clock
        self._is_terminal = is_terminal
        self._next_ms = clock.monotonic_ms() + QUIET_MS
        self._width = 0
        self._sent = 0

    def hear(self, event: object) -> None:
        """Show what an event says; unknown ones are left alone."""
        match event:
            case MigrationStarted():
                self._next_ms = self._clock.monotonic_ms() + QUIET_MS
            case MigrationProgressed():
                self._show(f"{event.migration}: {_progress(event.done, event.total)}")
            case MigrationEnded():
                self._clear()
            case MigrationMessage():
                self._clear()
                self._stream.write(f"{event.type}: {event.message}\n")
            case BatchConfirmed():
                self._sent += event.applied
                self._show(f"{self._sent} sent, {event.sendable} to go")

    def _show(self, text: str) -> None:
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._next_ms:
            return
        if self._is_terminal:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._next_ms = now_ms + LINE_EVERY_MS
            self._stream.write(text + "\n")
        self._stream.flush()

    def _clear(self) -> None:
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self._clear()


def _progress(done: int, total: int | None) -> str:
    """A total may be an estimate: the end alone says 100 %."""
    if not total:
        return counted(done, "row", "rows")
    return f"{done} of {total} rows ({min(99, done * 100 // total)} %)"
