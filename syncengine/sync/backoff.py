"""How long to wait after a failure. Pure.

Full jitter: anything up to a ceiling that doubles, so that devices do not come back all at once
(Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
"""

import random

from syncengine.settings import Settings

DOUBLINGS_MAX = 32
"""Enough to reach any ceiling; keeps the power small after weeks of failures."""


def wait_after_failure_ms(
    attempts: int, *, chance: random.Random, settings: Settings, retry_after_ms: int | None = None
) -> int:
    """The wait before the next try, after `attempts` failures in a row (1 for the first).

    A server's Retry-After is honoured up to `retry_after_ms_max`, with up to `retry_wait_ms_min` added. Otherwise
    from 0 to `retry_wait_ms_min` doubled at each failure, at most `retry_wait_ms_max`.
    """
    if retry_after_ms is not None:
        asked_ms = max(0, min(retry_after_ms, settings.retry_after_ms_max))
        return asked_ms + chance.randint(0, settings.retry_wait_ms_min)
    doublings = min(max(attempts - 1, 0), DOUBLINGS_MAX)
    ceiling_ms = min(settings.retry_wait_ms_min * 2**doublings, settings.retry_wait_ms_max)
    return chance.randint(0, ceiling_ms)
