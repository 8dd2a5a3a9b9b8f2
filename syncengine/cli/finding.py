"""What a check of `doctor` says."""

from dataclasses import dataclass
from enum import IntEnum


class Verdict(IntEnum):
    """Ordered: the worst is the greatest."""

    OK = 0
    WARN = 1
    BAD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found, and what to do about it."""

    check: str
    verdict: Verdict
    found: str
    fix: str = ""
