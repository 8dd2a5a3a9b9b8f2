"""What people wrote, written down outside of the devices: the judge of what was lost, doubled or mixed up."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

Line = tuple[str, str, str, str]
"""Device, user, collection and key: the edits of one row on one device."""


@dataclass(slots=True, kw_only=True)
class Edit:
    """One change of one row. `words` are the values that it wrote; a delete has none.

    `number` counts the edits of one device; `group` is the local transaction.
    """

    device: str
    user: str
    number: int
    group: int
    kind: str
    collection: str
    key: str
    words: tuple[str, ...]
    version: str
    """Of the app that wrote it."""
    is_raw: bool = False
    """Another program wrote it, as a statement of its own: a power cut may leave it and take the next."""
    replaces: bool = False
    """It is a new row in the place of one of the same key, which is deleted."""
    is_sure: bool = True
    """The commit returned. Where the power went before, it may be there or not."""


@dataclass(slots=True)
class Ledger:
    """All edits in the order in which they were made."""

    edits: list[Edit] = field(default_factory=list)
    by_line: dict[Line, list[Edit]] = field(default_factory=lambda: defaultdict(list))
    by_word: dict[str, Edit] = field(default_factory=dict)
    copied: set[str] = field(default_factory=set)
    """Words that waited in a store, or lay in its quarantine, when it was copied: either copy may send them."""

    sent_again: set[str] = field(default_factory=set)
    """Words that a person took out of quarantine: a new edit at that moment."""

    twofold: set[str] = field(default_factory=set)
    """Words that a row holds in two columns: as it was found on a phone, and as an edit may change it."""

    given_up: set[str] = field(default_factory=set)
    """Words that a person gave up: they signed out, or were wiped off a device, and had not sent them."""

    left: set[str] = field(default_factory=set)
    """Users whose quarantine is gone on some device: wiped, signed out with what was not sent, or damaged."""

    away: set[str] = field(default_factory=set)
    """Users whose rows are gone from some device: wiped, or signed out, also with nothing that waited."""

    uploads: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By device, user and collection: how often an app has queued all its rows to send them."""

    def note(self, edits: list[Edit]) -> None:
        """The edits of one local transaction."""
        for edit in edits:
            self.edits.append(edit)
            self.by_line[edit.device, edit.user, edit.collection, edit.key].append(edit)
            self.by_word.update(dict.fromkeys(edit.words, edit))

    def later(self, edit: Edit, *, on: str = "") -> Iterator[Edit]:
        """What the same device did to the same row afterwards, and what another did, which began as its copy."""
        line = self.by_line[edit.device, edit.user, edit.collection, edit.key]
        yield from (other for other in line if other.number > edit.number)
        if on and on != edit.device:
            yield from self.by_line[on, edit.user, edit.collection, edit.key]

    def uploads_of(self, edit: Edit) -> list[int]:
        """How often each device has said all rows again that are where this edit is."""
        place = (edit.user, edit.collection)
        return [times for (_, *uploaded), times in self.uploads.items() if tuple(uploaded) == place]

    def has_uploaded(self, user: str, collection: str) -> bool:
        """Some device has said all its rows of a collection again."""
        return any(place == [user, collection] for (_, *place) in self.uploads)

    def sure(self) -> Iterator[Edit]:
        """Edits whose commit returned."""
        return (edit for edit in self.edits if edit.is_sure)
