"""Progress as bars, with rich: one for each migration that a person has to wait for; gone at the end."""

from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from syncengine.cli.progress_words import said_of
from syncengine.cli.showing import printable
from syncengine.events import BatchConfirmed, MigrationEnded, MigrationMessage, MigrationProgressed

if TYPE_CHECKING:
    from types import TracebackType


class ProgressBars:
    """The same as ProgressLine for a terminal of today."""

    def __init__(self, stream: TextIO) -> None:
        words = TextColumn("{task.description}", markup=False)
        says = TextColumn("{task.fields[says]}", markup=False)
        self._bars = Progress(words, BarColumn(), says, console=Console(file=stream), transient=True)
        self._task: TaskID | None = None
        self._sent = 0

    def hear(self, event: object) -> None:
        """Show what an event says; unknown ones are left alone."""
        match event:
            case MigrationProgressed(visible=True):
                self._show(event.migration, done=event.done, total=event.total, says=said_of(event))
            case MigrationEnded():
                self._remove()
            case MigrationMessage(type="warning"):
                self._bars.console.print(f"warning: {printable(event.message)}", markup=False, highlight=False)
            case BatchConfirmed():
                self._sent += event.applied
                total = self._sent + event.sendable
                self._show("sending", done=self._sent, total=total, says=f"{event.sendable} to go")

    def _show(self, what: str, *, done: int, total: int | None, says: str) -> None:
        if self._task is None:
            self._bars.start()  # before there is something to see, a terminal is left alone
            self._task = self._bars.add_task(what, total=total, says=says)
        self._bars.update(self._task, description=what, completed=done, total=total, says=says)

    def _remove(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None

    def __enter__(self) -> "ProgressBars":
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self._remove()
        self._bars.stop()
