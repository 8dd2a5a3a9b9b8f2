"""Progress of long work on stderr: bars or one line that changes on a terminal, a line now and then elsewhere."""

import os
from typing import TYPE_CHECKING, Protocol, TextIO

from syncengine.cli.progress_words import said_of
from syncengine.cli.showing import printable
from syncengine.events import BatchConfirmed, MigrationEnded, MigrationMessage, MigrationProgressed, ProgressShown

if TYPE_CHECKING:
    from types import TracebackType

    from syncengine.clock import Clock

QUIET_MS = 1_000
"""What is sent sooner needs no progress."""
LINE_EVERY_MS = 5_000
"""How often a log file gets a line."""


class Progress(Protocol):
    """A listener of the engine's events, in a `with` block that leaves the terminal as it was."""

    def hear(self, event: object) -> None: ...

    def __enter__(self) -> "Progress": ...

    def __exit__(
        self, kind: "type[BaseException] | None", error: BaseException | None, trace: "TracebackType | None"
    ) -> None: ...


def progress_on(stream: TextIO, *, clock: "Clock", is_terminal: bool) -> Progress:
    """Bars on a terminal that can show them, where rich is installed; else lines."""
    if is_terminal and os.environ.get("TERM", "dumb") != "dumb":
        try:
            from syncengine.cli.bars import ProgressBars
        except ImportError:
            pass  # rich is an extra
        else:
            return ProgressBars(stream)
    return ProgressLine(stream, clock=clock, is_terminal=is_terminal)


class ProgressLine:
    """One line, on a terminal always the same one."""

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
            case ProgressShown(visible=True):
                self._next_ms = self._clock.monotonic_ms()
            case MigrationProgressed(visible=True):
                self._show(f"{event.migration}: {said_of(event)}")
            case MigrationEnded():
                self._clear()
            case MigrationMessage(type="warning"):
                # Errors and the end are told by the command itself.
                self._clear()
                self._stream.write(f"warning: {printable(event.message)}\n")
            case BatchConfirmed():
                self._sent += event.applied
                self._show(f"{self._sent} sent, {event.sendable} to go")

    def _show(self, text: str) -> None:
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._next_ms:
            return
        if self._is_terminal:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = max(self._width, len(text))
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
