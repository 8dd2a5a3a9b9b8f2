"""One process at a time runs what takes many transactions: a lease row that ends with its process, or by itself.

Time is the machine's monotonic clock, so a wall clock that jumps ends no lease; the boot id says whether two such
times compare at all. A holder that was only slow is fenced: each of its batches compares the fence in its own
transaction, and who took over has raised it.
"""

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from syncengine.errors import LeaseLost, SyncEngineError
from syncengine.local.process_life import has_ended
from syncengine.local.sqlite_errors import SqliteError

if TYPE_CHECKING:
    from syncengine.clock import Clock
    from syncengine.local.store import Store
    from syncengine.local.version_table import Readable

LEASE_MS = 10_000
"""Renewed in every batch; a batch takes a fraction of a second."""


class Lease:
    """The right called `name`, of this engine. `take` it, `renew` it inside each transaction, `release` it."""

    def __init__(self, store: "Store", *, name: str, holder: str) -> None:
        self._store = store
        self._name = name
        self._holder = holder
        self._fence = 0

    def take(self) -> bool:
        """Take it in a short transaction; False while another living process has it."""
        store = self._store
        with store.transaction(durable=True):
            row = store.row("leases", "get", name=self._name)
            if row is not None and not self._is_free(*row):
                return False
            self._fence = (int(row[4]) if row else 0) + 1
            self._write(self._holder)
        return True

    def renew(self) -> None:
        """Inside the transaction of a batch. Raises LeaseLost when another process has taken over."""
        row = self._store.row("leases", "get", name=self._name)
        if row is None or (row[0], row[4]) != (self._holder, self._fence):
            raise LeaseLost(
                "Another process has taken over this migration.",
                why="this one did not finish a batch in time",
                fix="Nothing of the last batch was kept; the other process goes on where it was.",
            )
        self._write(self._holder)

    def release(self) -> None:
        """Give it back; nothing happens when another process has taken it over.

        Never raises for the store: what was done under the lease is done, and ended as it did. A lease that could
        not be given back ends with its process, or by itself.
        """
        with suppress(SyncEngineError, SqliteError), self._store.transaction():
            row = self._store.row("leases", "get", name=self._name)
            if row is not None and (row[0], row[4]) == (self._holder, self._fence):
                self._write("")

    def _write(self, holder: str) -> None:
        clock = self._store.clock
        self._store.run(
            "leases",
            "write",
            name=self._name,
            holder=holder,
            pid=os.getpid(),
            boot_id=clock.boot_id(),
            until_ms=clock.monotonic_ms() + LEASE_MS,
            fence=self._fence,
        )

    def _is_free(self, holder: str, pid: int, boot_id: str, until_ms: int, _fence: int) -> bool:
        # A process opens a store once, so a lease of this very process is of an earlier one of its engines.
        if holder == self._holder or pid == os.getpid():
            return True
        return not _is_in_time(holder, pid, boot_id, until_ms, clock=self._store.clock)


def is_held(moment: "Readable", name: str, *, clock: "Clock") -> bool:
    """Has a living process, this one or another, the right called `name` now? Changes nothing."""
    rows = moment.rows("leases", "get", name=name)
    return bool(rows) and _is_in_time(*rows[0][:4], clock=clock)


def _is_in_time(holder: str, pid: int, boot_id: str, until_ms: int, *, clock: "Clock") -> bool:
    if holder == "" or boot_id != clock.boot_id():
        return False
    return until_ms > clock.monotonic_ms() and not has_ended(pid)
