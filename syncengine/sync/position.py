"""Where the reading of one user's rows stands."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncengine.clock import iso

if TYPE_CHECKING:
    from syncengine.local.store import Store


OF_NO_READING = -1
"""In place of the reading's number: rows come from the store itself, and the cloud may have lost them since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where reading stands once a page is in the store."""

    cursor: str | None
    server_epoch: int
    at_head: bool
    resync: int
    resync_reason: str | None = None
    epoch_head: int | None = None
    """What the cloud's head was when its life began, as its page says; not kept."""

    @property
    def retells(self) -> bool:
        """True while all is read again because the cloud was restored from an older copy of itself."""
        return self.resync_reason == "other_epoch"


def move_cursor(store: "Store", owner: str, position: Position) -> None:
    """Reading stands here from now on. Inside the durable transaction that holds all before it."""
    store.run(
        "pull",
        "move_cursor",
        owner=owner,
        cursor=position.cursor,
        server_epoch=position.server_epoch,
        at_head=position.at_head,
        resync=position.resync,
        resync_reason=position.resync_reason,
        now=iso(store.clock.now_ms()),
    )


def standing(store: "Store", owner: str) -> Position:
    """Where the reading of an owner's rows stands."""
    found = store.row("pull", "cursor", owner=owner)
    if found is None:
        return Position(cursor=None, server_epoch=0, at_head=False, resync=0, resync_reason="first")
    cursor, server_epoch, at_head, resync, reason = found
    return Position(
        cursor=cursor, server_epoch=server_epoch, at_head=bool(at_head), resync=resync, resync_reason=reason
    )


__all__ = ["Position", "move_cursor", "standing"]
