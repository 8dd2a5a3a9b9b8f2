"""What an app's own code must leave alone, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from syncengine.errors import SyncEngineError

Errors = Mapping[str, SyncEngineError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """What a block of the app's must not do, by table: `touch` neither reads nor writes, `write` only reads. What is
    raised when it tries."""

    touch: Errors = field(default_factory=dict)
    write: Errors = field(default_factory=dict)
