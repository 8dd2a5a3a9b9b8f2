"""Who is told to come back later comes back later: by a judge who writes down what the cloud has asked for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simulator.world.ground import PromiseBroken

if TYPE_CHECKING:
    from simulator.world.device import Device
    from syncengine.sync.report import RoundReport

A_MOMENT_MS = 1_000
"""A wait is told in whole milliseconds, and may be asked for a little before it begins."""


def note_rest(device: "Device", report: "RoundReport", *, now_ms: int) -> None:
    """How a round has ended, and until when the cloud wants to hear nothing of this user on this device."""
    asked_ms = getattr(report.error, "retry_after_ms", None)
    if asked_ms is None or device.drive.failure:
        device.rests.pop(device.user, None)
    else:
        until_ms = now_ms + min(asked_ms, device.settings.retry_after_ms_max)
        device.rests[device.user] = until_ms, device.clock.skew_ms


def check_wait(device: "Device", wait_ms: int) -> None:
    """P10: no wait is longer than the settings allow."""
    if wait_ms > device.settings.retry_after_ms_max + A_MOMENT_MS:
        raise PromiseBroken(f"P10: {device.name} wants to wait {wait_ms} ms before it tries again")


def check_is_at_rest(left: Sequence[str], *, when: str, rounds: int) -> None:
    """P10: so many rounds of everybody are enough to send and to read everything."""
    if left:
        raise PromiseBroken(f"P10: {when}, {rounds} rounds of everybody are not enough: {left[:3]}")


def check_rests(device: "Device", *, now_ms: int) -> None:
    """P10: nobody asks the cloud before the rest that it wanted is over.

    The moment of the next try is written down by the wall clock, so of one that has jumped nothing is judged.
    """
    until_ms, skew_ms = device.rests.get(device.user, (0, 0))
    if now_ms < until_ms and skew_ms == device.clock.skew_ms:
        raise PromiseBroken(f"P10: {device.name} asks the cloud {until_ms - now_ms} ms before it may")
