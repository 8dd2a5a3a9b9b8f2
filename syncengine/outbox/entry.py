"""One queued thing, a batch of them, and what the cloud said about each: values without behaviour."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Kind(StrEnum):
    """What an entry does at the cloud."""

    PUT = "put"
    PATCH = "patch"
    DELETE = "delete"
    CHANGES = "changes"
    """Several row changes that one edit became, when a migration split its row; they take effect together."""
    LIFT = "lift"
    """A document with the patches of other shapes that lay beside it, brought to one shape."""
    MIGRATION = "migration"
    VOID = "void"


CONFLICT = "conflict"
"""The error of an entry that the cloud did not apply, as it had asked, because its row has changed there."""
GONE = "gone"
"""The cloud's code for a patch of a row that is not there."""
ENTRY_BYTES_AROUND = 256
"""Room that one entry takes beside its body: names, numbers, JSON punctuation."""


class Entry(NamedTuple):
    """One row of the outbox, as `outbox.sql` selects it. Its repr shows no row contents.

    A named tuple, for there are millions: a frozen dataclass of so many fields takes five times as long to make.
    """

    entry_id: int
    """Order of writing on this device."""
    owner: str
    sequence: int | None
    """The number it is sent under; None until it is claimed."""
    epoch: int | None
    kind: Kind
    collection: str
    row_key: str
    set_json: str | None
    before_json: str | None
    base_version: int | None
    shape_version: str
    original_json: str | None
    group_id: int
    migration: str | None
    barrier_json: str | None
    state: str
    held_by: int | None
    attempts: int
    last_error: str | None
    created_ms: int
    """Since 1970."""
    claim_token: str | None = None
    """By chance, given with the number: a copy of the store that gives the same number gives it another token."""

    def __repr__(self) -> str:
        told = f"kind={self.kind}, collection={self.collection!r}, state={self.state!r}, sequence={self.sequence}"
        return f"Entry(entry_id={self.entry_id}, {told})"

    def key(self, device: str) -> str:
        """The name of this entry for the cloud, the same however often it is sent."""
        return f"{device}:{self.epoch}:{self.sequence}"

    @property
    def size_bytes(self) -> int:
        """About how much of a push it takes."""
        body = self.set_json or self.barrier_json or ""
        return (len(body) if body.isascii() else len(body.encode())) + ENTRY_BYTES_AROUND


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Entries to send together. `epoch` is that of their numbers.

    Empty when nothing can be sent now. A step of an online migration is always alone in its batch, and has no
    number yet when its page is not read yet.
    """

    owner: str
    epoch: int
    entries: Sequence[Entry] = ()
    refusing: frozenset[str] = frozenset()
    """Collections whose entries the cloud shall not apply on a row that has changed since `base_version`."""

    @property
    def barrier(self) -> Entry | None:
        """The step of an online migration that this batch consists of."""
        return self.entries[0] if self.entries and self.entries[0].kind is Kind.MIGRATION else None

    @property
    def is_one_unit(self) -> bool:
        """True when it cannot be cut: one entry, or one group that is more than empty numbers."""
        if len(self.entries) == 1:
            return True
        one_group = len({entry.group_id for entry in self.entries}) == 1
        return one_group and not self.is_empty_numbers

    @property
    def is_empty_numbers(self) -> bool:
        """Nothing in it has a body."""
        return all(entry.kind is Kind.VOID for entry in self.entries)


class Result(NamedTuple):
    """What the cloud said about one entry; `outcome` repeats the first answer to a duplicate."""

    sequence: int
    status: str
    outcome: str | None = None
    version: int | None = None
    code: str | None = None
    message: str | None = None
    skipped: tuple[str, ...] = ()
    overwrote: dict[str, Any] | None = None
    """Values of others that this device had not seen, and that the entry took the place of; of several changes by the
    place of each."""

    @property
    def first_answer(self) -> str | None:
        """What became of it when it came for the first time."""
        return self.outcome if self.status == "duplicate" else self.status

    @property
    def took_effect(self) -> bool:
        return self.status == "applied" or self.first_answer in ("applied", "merged")

    @property
    def was_rejected(self) -> bool:
        return self.first_answer == "rejected"

    @property
    def was_in_conflict(self) -> bool:
        """Its row had changed, and it had asked not to be applied then."""
        return self.first_answer == "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class AllApplied:
    """The results of a whole batch of which each entry was applied as it came: nearly every answer says that.

    `versions` in the order of the entries, the first of which has the number `first`.
    """

    first: int
    versions: Sequence[int] = field(repr=False)

    def __len__(self) -> int:
        return len(self.versions)

    def __iter__(self) -> Iterator[Result]:
        for sequence, version in enumerate(self.versions, start=self.first):
            yield Result(sequence=sequence, status="applied", version=version)


Results = Iterable[Result] | AllApplied
"""What the cloud said about the entries of a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a confirmation did: how many entries took effect, with those that travelled in them, and which
    quarantine items came of the others.

    `reused`: another copy of this store had used the numbers of so many; nothing was done with them.
    """

    applied: int
    unanswered: int
    items: tuple[int, ...] = ()
    conflicts: int = 0
    reused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Entries by state."""

    waiting: int = 0
    claimed: int = 0
    held: int = 0
    squashed: int = 0
    """They travel in one of the others."""

    @property
    def depth(self) -> int:
        return self.waiting + self.claimed + self.held + self.squashed


def entry_of(row: tuple[Any, ...]) -> Entry:
    """The entry in a row of the outbox, in the order of columns that outbox.sql selects; what follows is left out."""
    return _MADE(Entry, (*row[:4], _KINDS[row[4]], *row[5:_COLUMNS]))


def numbered(
    rows: Iterable[tuple[Any, ...]], *, first: int, epoch: int, state: str, token: str | None
) -> list[Entry]:
    """The entries in rows of the outbox, or the same entries, with the numbers from `first` on."""
    return [
        _MADE(
            Entry,
            (*row[:2], sequence, epoch, _KINDS[row[4]], *row[5:15], state, *row[16:18], None, row[19], token),
        )
        for sequence, row in enumerate(rows, start=first)
    ]


_MADE = tuple.__new__
_KINDS = {str(kind): kind for kind in Kind}
_COLUMNS = len(Entry._fields)
