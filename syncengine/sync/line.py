"""What the line and the cloud have shown so far, and how large the next push shall be. Pure."""

from dataclasses import dataclass, replace

from syncengine.settings import Settings

BYTES_FIRST = 1_000_000
"""What a push holds before anything is known of the line."""
BYTES_MIN = 64 * 1024
"""A slower line than this fills in the target time is not helped by still smaller pushes."""
BYTES_TO_JUDGE_BY = 16 * 1024
"""A smaller push says more about the round trip than about the line."""
SLOW_BYTES_PER_S = 250_000
"""Two megabits a second: below, compressing costs less time than it saves."""
ENTRIES_MIN = 50
"""Pushes that are slow get no smaller than this; those that are refused may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """`round_trip_ms` is the shortest answer; `bytes_per_s` the speed of the last large uncompressed push."""

    round_trip_ms: int | None = None
    bytes_per_s: int | None = None

    def heard(self, *, took_ms: int) -> "Line":
        """After an answer that came so long after its request; 0: nobody has measured."""
        if took_ms <= 0:
            return self
        return replace(self, round_trip_ms=min(took_ms, self.round_trip_ms or took_ms))

    def pushed(self, *, sent_bytes: int, took_ms: int, compressed: bool) -> "Line":
        """After a push of so many bytes. A compressed one says nothing of its speed, for its size is another."""
        line = self.heard(took_ms=took_ms)
        if took_ms <= 0 or compressed or sent_bytes < BYTES_TO_JUDGE_BY:
            return line
        on_the_way_ms = max(took_ms - (self.round_trip_ms or 0), 1)
        return replace(line, bytes_per_s=sent_bytes * 1000 // on_the_way_ms)

    def bytes_max(self, settings: Settings) -> int:
        """What arrives in about the target time."""
        bytes_per_s = self.bytes_per_s or settings.upload_bytes_per_s_max
        if not bytes_per_s:
            return min(BYTES_FIRST, settings.push_bytes_max)
        in_time = max(bytes_per_s * settings.push_ms_target // 1000, BYTES_MIN)
        return min(in_time, settings.push_bytes_max)

    def compresses(self, settings: Settings, *, metered: bool) -> bool:
        """Whether the bodies of pushes are worth compressing."""
        if settings.compress != "auto":
            return settings.compress == "always"
        return metered or (self.bytes_per_s is not None and self.bytes_per_s < SLOW_BYTES_PER_S)


def next_entries_max(entries_max: int, *, sent: int, took_ms: int, settings: Settings) -> int:
    """How many entries later pushes hold: two or four times as many while full ones are quick, half where they are
    slow."""
    target_ms = settings.push_ms_target
    if took_ms > 2 * target_ms:
        return min(entries_max, max(sent // 2, ENTRIES_MIN))
    if took_ms > target_ms or 2 * sent <= entries_max:
        return entries_max
    factor = 4 if 0 < took_ms <= target_ms // 4 else 2
    return min(factor * entries_max, settings.push_entries_max)
