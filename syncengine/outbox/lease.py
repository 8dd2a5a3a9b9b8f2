"""Only one process at a time sends: a lease in the store that ends by itself.

Nothing depends on it but the traffic: two processes that send the same numbers get duplicates as answers, and a
confirmation finds the entries gone. So the wall clock is good enough here.
"""

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from syncengine.local.process_life import has_ended
from syncengine.local.stored import stored_object

if TYPE_CHECKING:
    from syncengine.local.store import Store

NAME = "drain_owner"


class DrainLease:
    """The right to send, for `lease_ms` from when it was last written down."""

    def __init__(self, store: "Store", *, holder: str, lease_ms: int) -> None:
        self._store = store
        self._holder = holder
        self._lease_ms = lease_ms

    def take(self, *, check: Callable[[], None] = lambda: None) -> bool:
        """Take or renew it; False when another living process has it. At least half of `lease_ms` is left then.

        `check` is called inside the transaction that takes it, or takes it anew; what it raises passes through.
        """
        now_ms = self._store.clock.now_ms()
        if self._has_most_of_it_left(now_ms):
            return True
        with self._store.transaction():
            check()
            if not self._is_free(self._present(), now_ms):
                return False
            lease = {"holder": self._holder, "pid": os.getpid(), "until_ms": now_ms + self._lease_ms}
            self._store.run("state", "set", name=NAME, value=json.dumps(lease))
        return True

    def release(self) -> None:
        """Give it back; nothing happens when another process has taken it over."""
        with self._store.transaction():
            present = self._present()
            if present and present["holder"] == self._holder:
                self._store.run("state", "set", name=NAME, value="{}")

    def _has_most_of_it_left(self, now_ms: int) -> bool:
        lease = self._present()
        if not lease or lease["holder"] != self._holder:
            return False
        return bool(self._lease_ms // 2 < lease["until_ms"] - now_ms <= self._lease_ms)

    def _present(self) -> dict[str, Any]:
        return stored_object(self._store.value("state", "get", name=NAME) or "{}", f"_sync_state, {NAME}")

    def _is_free(self, lease: dict[str, Any], now_ms: int) -> bool:
        if not lease or lease["holder"] == self._holder:
            return True
        left_ms = lease["until_ms"] - now_ms
        # A lease that ends later than any we give comes from a clock that was ahead.
        # A process opens a store once, so a lease of this very process is of an earlier one of its engines.
        pid = lease["pid"]
        return not 0 < left_ms <= self._lease_ms or pid == os.getpid() or has_ended(pid)
