"""What whoever carries the calls of a round can do."""

from collections.abc import Callable
from dataclasses import dataclass, field

from syncengine.outbox.entry import Batch
from syncengine.sync.line import Line

Encode = Callable[[Batch], bytes]
"""The entries of a batch as the JSON list that travels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carriage:
    """What whoever carries the calls of a round can do, and knows of the line."""

    overlaps: bool = False
    """It takes `Begin` and `End`: the next batch is claimed while a push is on its way."""
    encode: Encode | None = None
    """It takes pushes whose entries are encoded already."""
    metered: bool = False
    line: Line = field(default_factory=Line)
    """What earlier rounds have shown."""
