"""A round that somebody waits for, and from where nobody may ask for one."""

import threading
from dataclasses import dataclass, field
from typing import NoReturn

from syncengine.errors import CalledFromInside
from syncengine.sync.report import RoundReport

ASKED_FOR = frozenset({"asked", "flush"})
"""Reasons of rounds that somebody waits for."""


@dataclass(slots=True)
class Asked:
    """One who asked, and what they are told."""

    reason: str
    done: threading.Event = field(default_factory=threading.Event)
    report: RoundReport | None = None
    error: BaseException | None = None


def refuse_inside(why: str) -> NoReturn:
    """Raises CalledFromInside."""
    raise CalledFromInside(
        "A round was asked for from inside of what it would have to wait for.",
        why=why,
        fix="Ask after the `with engine.write()` block, or from another thread. Nothing was changed.",
    )
