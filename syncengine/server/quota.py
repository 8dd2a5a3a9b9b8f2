"""How much a user has at the cloud, and what happens where it would be more than the operator gives."""

from collections.abc import Collection, Mapping

from syncengine.errors import QuotaExceeded
from syncengine.server.rules import Patch, Place, Row
from syncengine.server.storage import UNREAD, Tenant, Transaction
from syncengine.vocabulary import UserId

RETRY_AFTER_MS = 300_000
"""So long a device waits before it tries by itself whether there is room now."""


class Tally:
    """The RowStorage of one push, which counts how many more rows there are after it."""

    def __init__(self, stored: Transaction) -> None:
        self.rows_more = 0
        self.bytes_more = 0
        self._stored = stored
        self._sizes: dict[Place, int] = {}
        """Of the living rows that the push is about."""

    def read_rows(self, user: UserId, *, keys: Mapping[str, Collection[str]]) -> dict[Place, Row]:
        rows = self._stored.read_rows(user, keys=keys)
        self._sizes = {place: _size(row) for place, row in rows.items() if row.body is not None}
        unread = [place for place, row in rows.items() if row.body is UNREAD]
        if unread:
            self._sizes |= self._stored.bytes_of(user, places=unread)
        return rows

    def body(self, user: UserId, *, place: Place) -> str:
        return self._stored.body(user, place=place)

    def write_rows(self, user: UserId, *, rows: Mapping[Place, Row], group_versions: Mapping[Place, int]) -> None:
        for place in group_versions:
            row = rows[place]
            before = self._sizes.pop(place, None)
            if before is not None:
                self.rows_more -= 1
                self.bytes_more -= before
            if row.body is not None:
                self._sizes[place] = after = _size(row)
                self.rows_more += 1
                self.bytes_more += after
        self._stored.write_rows(user, rows=rows, group_versions=group_versions)

    def write_patches(self, user: UserId, *, patches: Mapping[Place, tuple[Patch, ...]]) -> None:
        self._stored.write_patches(user, patches=patches)


def _size(row: Row) -> int:
    """As the database counts it."""
    return len(row.body or "") + (sum(len(each.body) for each in row.patches) if row.patches else 0)


def refuse_over_quota(
    tenant: Tenant, *, rows_more: int, bytes_more: int, rows_max: int | None, bytes_max: int | None
) -> None:
    """Raises QuotaExceeded for a push that adds to more than there may be. What takes away is always taken."""
    if rows_max is not None and rows_more > 0 and tenant.rows + rows_more > rows_max:
        raise _exceeded(f"{tenant.rows + rows_more} rows would be more than the {rows_max} of a user")
    if bytes_max is not None and bytes_more > 0 and tenant.bytes + bytes_more > bytes_max:
        raise _exceeded(f"{tenant.bytes + bytes_more} bytes would be more than the {bytes_max} of a user")


def _exceeded(why: str) -> QuotaExceeded:
    return QuotaExceeded(
        "There is no room at the cloud for more of this user's rows.",
        why=why,
        fix="Delete rows, or ask the operator for more room.",
        retry_after_ms=RETRY_AFTER_MS,
    )
