"""A user's one document that orders everything: the counter, the devices, the collections. Pure.

Every commit replaces it under the condition that nobody else has since it was read. So commits of one user come one
after the other, and a version that was given is never below one that was read: no row is skipped, whatever any clock
says.
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from syncengine.firestore.answers import violation
from syncengine.firestore.rest import Found
from syncengine.firestore.values import NotNative, decoded, encoded
from syncengine.remote.json_text import INTEGER_MAX


class Lane(NamedTuple):
    """One numbered line of entries: a device of a user, between two losses of its memory."""

    device: str
    epoch: int

    @property
    def writer(self) -> str:
        """How rows and receipts name it."""
        return f"{self.device}:{self.epoch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a user's rows stand. `head` is the highest version given, tombstones up to `floor` are gone."""

    epoch: int
    cursor_key: str = field(repr=False)
    """Signs cursors, so that only our own are believed; in hex."""
    epoch_head: int | None = None
    """What `head` was when this life began; None: a version of before wrote it down."""
    head: int = 0
    mark: int = 0
    """By chance, of the commit that gave `head`: tells two commits apart that reached one version in two lives."""
    floor: int = 0
    cloud_version: str | None = None
    lanes: dict[str, int] = field(default_factory=dict)
    """The highest sequence used up, by device and epoch."""
    ended: dict[str, int] = field(default_factory=dict)
    """By device, the highest epoch that has ended: all numbers of it and of lower ones are used up."""
    collections: dict[str, int] = field(default_factory=dict)
    """The version at which a row of each changed last: a pull asks only where something is new."""
    older: dict[str, dict[str, str]] = field(default_factory=dict)
    """How far the documents of older apps were brought over, by tree."""
    update_time: str | None = None
    """Of the document as it was read; None: there is none yet."""

    def device_seq(self, lane: Lane) -> int:
        """0 for a device that never sent anything."""
        if 0 < lane.epoch <= self.ended.get(lane.device, 0):
            return INTEGER_MAX
        return self.lanes.get(lane.writer, 0)

    def in_another_life(self, *, now_ms: int, above: int) -> "State":
        """The rows were restored from an older copy: cursors of before, of lives up to `above`, are worthless."""
        return replace(self, epoch=max(self.epoch + 1, above + 1, now_ms), epoch_head=self.head)

    def with_sequence(self, lane: Lane, sequence: int) -> "State":
        return replace(self, lanes={**self.lanes, lane.writer: sequence})

    def with_ended(self, lane: Lane) -> "State":
        """All numbers of this lane, and of lower epochs of its device, are used up."""
        if lane.epoch <= self.ended.get(lane.device, 0):
            return self
        return replace(self, ended={**self.ended, lane.device: lane.epoch})

    def write(self, name: str) -> dict[str, Any]:
        """To put it in the place of what was read; another one there makes the whole commit fail."""
        values = {
            "epoch": self.epoch,
            "epoch_head": self.epoch_head,
            "cursor_key": self.cursor_key,
            "head": self.head,
            "mark": self.mark,
            "floor": self.floor,
            "cloud_version": self.cloud_version,
            "lanes": self.lanes,
            "ended": self.ended,
            "collections": self.collections,
            "older": self.older,
        }
        return {
            "update": {"name": name, "fields": {key: encoded(value) for key, value in values.items()}},
            "currentDocument": condition(self.update_time),
        }


def condition(update_time: str | None) -> dict[str, Any]:
    """Only if the document is still as it was read; None: only if there is none."""
    return {"exists": False} if update_time is None else {"updateTime": update_time}


def state_of(found: Found) -> State:
    """Raises ProtocolViolation for a document that is not one of ours."""
    try:
        values = {name: decoded(value) for name, value in found.fields.items()}
        return State(**values, update_time=found.update_time)
    except (NotNative, TypeError) as error:
        raise violation("the user's state cannot be read; a newer syncengine may have written it") from error
