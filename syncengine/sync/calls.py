"""What a round asks of the cloud and what it hears back: frozen values, no transport."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from syncengine.outbox.entry import AllApplied, Batch, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who is there, and where do we stand? `user` in each call: whose queue it is about."""

    user: str
    app: str
    device: str
    epoch: int
    schema_version: str
    confirmed_seq: int = 0
    cursor: str | None = None
    ended_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloSaid:
    """`device_seq`: the highest number of this device and epoch that the cloud has an answer for."""

    device_seq: int
    cloud_version: str | None
    action: str
    entries_max: int
    bytes_max: int
    server_epoch: int = 0
    head: int = 0
    floor: int = 0
    took_ms: int = 0
    """Between request and answer, by the clock of whoever carried them; 0: nobody has measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Take these entries. `encoded`: the same as the JSON list that travels, where that was made beforehand."""

    user: str
    device: str
    schema_version: str
    batch: Batch
    encoded: bytes | None = field(default=None, repr=False)
    compress: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSaid:
    """What became of each; an entry that is missing here was not acknowledged."""

    results: tuple[Result, ...] | AllApplied
    took_ms: int = 0

    def all_took_effect(self, entries: int) -> bool:
        """Whether each of the push's `entries` was acknowledged, and took effect."""
        if len(self.results) != entries:
            return False
        return isinstance(self.results, AllApplied) or all(result.took_effect for result in self.results)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Carry this push, and go on at once; the answer is `Begun`. Nothing else is asked before its `End`."""

    push: Push


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The answer to the push that was begun, or the error that it ended with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """It is on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A page of one collection's rows, in key order after the key `after`."""

    user: str
    collection: str
    after: str | None
    rows_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRow:
    """A row as the cloud had it when it was read."""

    key: str
    version: int
    body: dict[str, Any] = field(repr=False)
    shape_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsSaid:
    """`after`: where the next page begins; None at the end."""

    rows: tuple[SeenRow, ...]
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """What has changed since the cursor; None: from the start."""

    user: str
    device: str
    cursor: str | None
    items_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A write under another shape than the document's, in the order in which it came; `patch` names it."""

    patch: int
    kind: str
    set: dict[str, Any] = field(repr=False)
    shape_version: str


class PulledRow(NamedTuple):
    """A row as the cloud has it now; `body` None: deleted.

    A tuple, as nothing frozen is made quicker: there are thousands on a page.
    """

    collection: str
    key: str
    version: int
    shape_version: str
    body: dict[str, Any] | None
    patches: tuple[Beside, ...] = ()

    def __repr__(self) -> str:
        return f"PulledRow(collection={self.collection!r}, key={self.key!r}, version={self.version})"


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSaid:
    """A page: rows in commit order, groups whole; where to read on; whether there is more now."""

    rows: tuple[PulledRow, ...]
    cursor: str
    more: bool
    server_epoch: int
    epoch_head: int | None = None
    """What the cloud's head was when that life began; None: it does not say."""


Carried = Hello | Push | Rows | Pull
"""What goes to the cloud by itself."""
Call = Carried | Begin | End
Answer = HelloSaid | PushSaid | RowsSaid | PullSaid | Begun
