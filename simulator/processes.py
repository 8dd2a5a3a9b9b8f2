"""Processes that are started, listened to, stopped and killed; none outlives the one that started it."""

import atexit
import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
END_SECONDS_MAX = 10.0


class ProcessSilent(Exception):
    """A process said nothing in the time that it had."""


class ProcessFailed(Exception):
    """A process did not do what it had to; the message has the end of its log."""


class ChildProcess:
    """A Python module as a process of its own, heard line by line. What it writes to stderr goes to `log`.

    It must end when its stdin ends: so it ends with its parent, however that ends.
    """

    def __init__(self, module: str, *arguments: str, log: Path) -> None:
        self._module = module
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                process_group=0,  # Ctrl-C in a terminal is for the parent, which then stops its children
            )
        self._lines: queue.Queue[str | None] = queue.Queue()
        assert self._process.stdout is not None
        self._ear = threading.Thread(target=self._hear, args=(self._process.stdout,), daemon=True)
        self._ear.start()
        atexit.register(self.kill)

    @property
    def is_running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def line(self, *, wait_ms_max: int) -> str | None:
        """The next line that it says; None once it has ended. Raises ProcessSilent."""
        try:
            line = self._lines.get(timeout=max(0, wait_ms_max) / 1000)
        except queue.Empty:
            raise ProcessSilent(f"{self._module} said nothing for {wait_ms_max} ms") from None
        if line is None:
            self._lines.put(None)
        return line

    def say(self, line: str) -> None:
        """A line on its stdin. Raises ProcessFailed when it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self.failed("has ended") from None

    def failed(self, why: str) -> ProcessFailed:
        """The error for a process that disappoints."""
        tail = self._log.read_text(encoding="utf-8", errors="replace")[-2_000:]
        return ProcessFailed(f"{self._module} {why}; its log ends with: {tail or '(nothing)'}")

    def stop(self) -> int:
        """Ask it to end, wait for it a bounded time, kill it otherwise; its exit status."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._gone()

    def kill(self) -> int:
        """SIGKILL: no code of it runs any more. Safe to repeat; its exit status."""
        self._process.kill()
        return self._gone()

    def _gone(self) -> int:
        status = self._process.wait()
        atexit.unregister(self.kill)
        self._ear.join(END_SECONDS_MAX)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        return status

    def _hear(self, stdout: IO[str]) -> None:
        for line in stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_running:
            self.stop()
