"""Wait for what another thread or process does."""

import time
from collections.abc import Callable


def until(found: Callable[[], object], *, seconds_max: float = 30) -> None:
    """Look again and again. Fails when it takes longer than any machine needs."""
    over = time.monotonic() + seconds_max
    while not found():
        assert time.monotonic() < over
        time.sleep(0.02)
