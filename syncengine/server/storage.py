"""What the cloud asks of its database, in the rules' own words. Knows nothing of HTTP, nor of any database."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from syncengine.errors import StoreSuperseded
from syncengine.remote.wire import Document
from syncengine.server.new_rows import NewRows
from syncengine.server.receipts import Receipt
from syncengine.server.rules import Patch, Place, Row
from syncengine.vocabulary import UserId

BODY_READ_AHEAD_BYTES_MAX = 16 * 1024
"""Larger bodies are read one at a time, when a rule wants one."""

UNREAD = "the body is in the database"
"""Stands in a row for a body that was not read."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One numbered line of entries: a device of a user, between two losses of its memory."""

    user: UserId
    device: str
    epoch: int

    @property
    def writer(self) -> str:
        """How rows name it."""
        return f"{self.device}:{self.epoch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Where one user's rows stand: `head` is the highest version given, tombstones up to `floor` are gone."""

    server_epoch: int
    epoch_head: int | None
    """What `head` was when this life began; None: nobody knows."""
    head: int
    floor: int
    cloud_version: str | None
    rows: int = 0
    """Living ones."""
    bytes: int = 0
    """Letters of their JSON, with what lies beside them."""


class ChangedRow(NamedTuple):
    """One row of a page of changes; `body` is JSON, None for a tombstone; `bytes` with what lies beside it."""

    collection: str
    key: str
    version: int
    group_version: int
    shape_version: str
    bytes: int
    patches: int
    body: str | None


class PageRow(NamedTuple):
    """One living row of a page."""

    key: str
    version: int
    shape_version: str
    body_bytes: int
    body: Document


class Tombstone(NamedTuple):
    """A row that is no more."""

    place: Place
    group_version: int


class DatabaseUnavailable(Exception):
    """The database cannot be reached now, or is too busy. What was asked may have been done; asking again is safe."""

    what = "The database cannot be reached now."

    def __init__(self, why: str | None = None) -> None:
        """`why`: in the database's words, for whoever runs the server."""
        told = f"{self.what}\n  why:  {why}\n  fix:  Start it, or correct --database; nothing was changed."
        super().__init__(told if why else self.what)


class DatabaseReadOnly(DatabaseUnavailable):
    """It answers and takes no writes, as one that another has taken the place of; nothing was changed."""

    what = "The database takes no writes now."


class DatabaseBusy(DatabaseUnavailable):
    """Somebody else works on this user's rows, for longer than a request may wait; nothing was changed."""

    what = "Too much is being done for this user at once."


class UserUnknown(Exception):
    """The database has no such user: new, gone, or made since the copy was taken that was put back."""

    def __init__(self) -> None:
        super().__init__("The database has no such user.")


class TokenTaken(Exception):
    """A token was to stand for a second user; nothing was changed."""

    def __init__(self, user: UserId) -> None:
        super().__init__(f"The token for {user} is another user's: whose it is could not be said of either.")


class DatabaseFailed(Exception):
    """The database refused what we asked, which is our mistake; nothing was changed. `sqlstate` is PostgreSQL's."""

    def __init__(self, sqlstate: str, *, kind: str) -> None:
        super().__init__(f"The database refused a statement: {kind} {sqlstate}".strip())
        self.sqlstate = sqlstate


def refuse_newer(found: int, *, known: int) -> None:
    """Raises StoreSuperseded where the tables are of an edition that this server does not know."""
    if found > known:
        raise StoreSuperseded(
            "The cloud's database was written by a newer server.",
            why=f"it is edition {found}; this server knows {known}",
            fix="Stop this server and start the newer one; nothing was changed.",
        )


class RowStorage(Protocol):
    """Where the rows of one push come from and go to: a database in a transaction, or documents of one commit."""

    def read_rows(self, user: UserId, *, keys: Mapping[str, Collection[str]]) -> dict[Place, Row]:
        """The rows that are there, of these keys by collection, all in one go; large bodies may come as UNREAD."""
        ...

    def body(self, user: UserId, *, place: Place) -> str:
        """The JSON of a living row."""
        ...

    def write_rows(self, user: UserId, *, rows: Mapping[Place, Row], group_versions: Mapping[Place, int]) -> None:
        """Those that have a group version: the last version of the group that changed it."""
        ...

    def write_patches(self, user: UserId, *, patches: Mapping[Place, tuple[Patch, ...]]) -> None:
        """What lies beside each of these rows from now on."""
        ...


class Transaction(RowStorage, Protocol):
    """What may be asked while one transaction of one user is open: of this user and of nobody else."""

    def tenant(self, user: UserId) -> Tenant:
        """Where the user's rows stand. Raises UserUnknown."""
        ...

    def write_tenant(
        self, user: UserId, *, head: int, cloud_version: str | None, rows_more: int = 0, bytes_more: int = 0
    ) -> None:
        """How far a push has brought the user's rows, and how many more they are, or fewer."""
        ...

    def add_rows(self, user: UserId, *, rows: NewRows, head: int) -> bool:
        """Write rows that are new. False: one, or its tombstone, is there or comes twice; then nothing was written.

        `head`: the highest version that the user's rows have had until now.
        """
        ...

    def bytes_of(self, user: UserId, *, places: Sequence[Place]) -> dict[Place, int]:
        """Of living rows: how large each is with what lies beside it, without reading it."""
        ...

    def raise_epoch(self, user: UserId, *, above: int = 0) -> None:
        """Begin another life of this user's rows: every cursor of the old one is worthless from now on.

        Its number is higher than that of the old one and than `above`, whatever the clock says.
        """
        ...

    def page(self, user: UserId, *, collection: str, after: str, limit: int) -> Iterator[PageRow]:
        """Living rows after the key `after` in byte order, so that the caller may stop at a number of bytes."""
        ...

    def changes_after(
        self, user: UserId, *, group_version: int, version: int, rows_likely: int
    ) -> Iterator[ChangedRow]:
        """Rows of every collection in the order of their last commit, tombstones too.

        The caller stops where it wants, likely after `rows_likely`: no more than that need be read ahead.
        """
        ...

    def patches_between(
        self, user: UserId, *, after: tuple[int, int], last: tuple[int, int]
    ) -> dict[Place, tuple[Patch, ...]]:
        """What lies beside the rows that `changes_after` gives from one place to another."""
        ...

    def mark_at(self, user: UserId, *, version: int) -> int:
        """The mark of the commit that gave this version; 0 for none."""
        ...

    def write_mark(self, user: UserId, *, last_version: int) -> None:
        """A fresh mark, by chance, for the commit that gives the versions up to this one."""
        ...

    def old_tombstones(self, user: UserId, *, before_ms: int, rows_max: int) -> list[Tombstone]:
        """Some of what was deleted before a moment, oldest first."""
        ...

    def forget(self, user: UserId, *, tombstones: Sequence[Tombstone]) -> None:
        """Raise the floor over these tombstones and delete them, with the marks that no good cursor needs."""
        ...

    def device_sequence(self, lane: Lane) -> int:
        """The highest sequence used up; 0 for none. All are, in an epoch that has ended."""
        ...

    def end_epochs(self, lane: Lane) -> None:
        """All numbers of this lane, and of lower epochs of its device, are used up; what was answered stays."""
        ...

    def receipts(self, lane: Lane, *, first: int, last: int) -> dict[int, Receipt]:
        """Of each sequence from `first` to `last` its own, by sequence."""
        ...

    def write_receipts(self, lane: Lane, *, receipts: Iterable[Receipt]) -> None:
        """The answers to sequences of this lane, for good."""
        ...


class Storage(Protocol):
    """One cloud's database. May be used from any thread, and by several processes at once."""

    def close(self) -> None:
        """Wait for the transactions at work, then let go of the database."""
        ...

    def cut_off(self) -> None:
        """Refuse who comes, and end the transactions at work if that takes long: their threads soon raise."""
        ...

    def cursor_key(self) -> bytes:
        """What signs this database's cursors; the same for whoever opens it.

        Raises DatabaseReadOnly, and StoreSuperseded where a newer server has changed the tables meanwhile.
        """
        ...

    def welcome(self, user: UserId) -> None:
        """Make the user known, if new."""
        ...

    def add_token(self, user: UserId, *, token_hash: str) -> None:
        """Make the user known, if new, with one more token; the same one again changes nothing."""
        ...

    def user_of_token(self, token_hash: str) -> UserId | None:
        """Whose token it is; None for nobody's."""
        ...

    def users(self) -> list[UserId]:
        """All users, in order."""
        ...

    def write(self, user: UserId, work: Callable[[Transaction], Made]) -> Made:
        """What `work` makes in one transaction, which is on the disk when this returns; it raised: nothing happened.

        One user's writing transactions come one after the other, in the order in which they are committed, so no
        reader sees a version before all lower ones. `work` may be called again where the database asks for that.
        Raises UserUnknown, and StoreSuperseded where a newer server has changed the tables meanwhile.
        """
        ...

    def read(self, user: UserId, work: Callable[[Transaction], Made]) -> Made:
        """What `work` makes of one state of the database, whatever others write meanwhile; it must not write."""
        ...
