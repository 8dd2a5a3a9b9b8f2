"""The only door for time; chance is a `random.Random` that is passed in."""

from __future__ import annotations

import time

from syncengine.vocabulary import TimestampMs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    import threading
    from typing import Protocol
else:
    Protocol = object  # `typing` costs as much as the whole rest of an idle start


class Clock(Protocol):
    """What the engine asks of time. The simulator has a twin that moves only when told."""

    def now_ms(self) -> TimestampMs:
        """Wall time in milliseconds since 1970 UTC; may jump either way. For people, never for safety."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds that only grow, from an arbitrary start. For waits and rates."""
        ...

    def wait(self, event: threading.Event, wait_ms: int) -> bool:
        """Wait until the event is set or the time is over; True if it was set."""
        ...

    def pause(self, wait_ms: int) -> None:
        """Let the time pass."""
        ...

    def cpu_ms(self) -> int:
        """Milliseconds of processor time that this thread has used; for duty cycles and statistics."""
        ...

    def boot_id(self) -> str:
        """Which start of the machine this is: `monotonic_ms` of two processes compare only within one."""
        ...


class SystemClock:
    """The real clock of this machine."""

    def now_ms(self) -> TimestampMs:
        return TimestampMs(time.time_ns() // 1_000_000)

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def wait(self, event: threading.Event, wait_ms: int) -> bool:
        return event.wait(wait_ms / 1000)

    def pause(self, wait_ms: int) -> None:
        time.sleep(wait_ms / 1000)

    def cpu_ms(self) -> int:
        return time.thread_time_ns() // 1_000_000

    def boot_id(self) -> str:
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123  (slow to import)
                return file.read().strip()
        except OSError:
            # Elsewhere: the minute of the start, as far as wall clock and monotonic clock agree on it.
            return f"since {(time.time_ns() - time.monotonic_ns()) // 60_000_000_000}"


def iso(moment: int) -> str:
    """Milliseconds since 1970 as "2025-07-21T15:30:00.000Z", for every year from 1970 to 9999."""
    seconds, millis = divmod(moment, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{millis:03d}Z"


def system_random() -> random.Random:
    """Chance from the operating system, for ids and jitter."""
    import random

    return random.SystemRandom()


def fresh_id(chance: random.Random) -> str:
    """128 random bits as 32 hex digits."""
    return f"{chance.getrandbits(128):032x}"
