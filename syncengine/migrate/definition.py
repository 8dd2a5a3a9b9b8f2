"""What a migration is, and what its code receives and gives back: small frozen values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from syncengine.errors import MigrationInvalid
from syncengine.vocabulary import SchemaVersion

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationDefinition:
    """One step from a version to another for declared collections."""

    id: str
    name: str
    description: str
    from_version: str
    to_version: str
    collections: tuple[str, ...]
    after: tuple[str, ...] = ()
    """Ids that must have been done before."""
    critical: bool = False
    online: bool = False
    scope: str = "store"
    source: str | None = None
    """The legacy store that it reads, by the name that the host gives it."""
    quarantine_rows_max: int | None = None
    quarantine_ratio_max: float | None = None
    """None: the setting of the same name."""
    lossy: bool = False
    erases: bool = False
    """What its collections held before is not to survive on this device: no kept table, no archive, no restore point
    from before it, no bytes in the store's files. Says `lossy`, and asks the user first."""
    stands_for: tuple[str, ...] = ()
    consent: str | None = None
    """"auto" runs it unasked, "ask" asks the user before; None: a major version asks, others do not."""
    when: str = "startup"
    """"background" only where old and new code accept both shapes: the collection stays usable until it has run."""
    backup: str = "auto"
    """A restore point before it: "auto" where it is critical or rewrites tables, "always", or "never"."""
    shadow: bool | None = None
    """True: a new table is filled beside the live one, in many transactions; False: all in one. None: large ones."""

    may_lose_labels: bool = False
    """Of several collections: rows may go from one with a label to one without it."""

    def __post_init__(self) -> None:
        _check_word(self.id, "consent", self.consent, (None, "auto", "ask"))
        _check_word(self.id, "when", self.when, ("startup", "background"))
        _check_word(self.id, "backup", self.backup, ("auto", "always", "never"))
        if self.shadow and (self.scope != "store" or self.online):
            raise MigrationInvalid(
                f"Migration {self.id} says shadow=True, and is not for the whole store.",
                why="only a migration of all rows of a collection fills a table beside the live one",
                fix="Leave shadow= out.",
            )
        if self.erases:
            self._refuse_erasing_in_part()
            object.__setattr__(self, "lossy", True)
        for version in (self.from_version, self.to_version):
            try:
                SchemaVersion.parse(version)
            except ValueError as error:
                raise MigrationInvalid(f"Migration {self.id} has no good version.", why=str(error)) from error

    def _refuse_erasing_in_part(self) -> None:
        """Raises MigrationInvalid."""
        reads = "reads a legacy store, which stays as it is" if self.source is not None else ""
        online = "changes the cloud, and not this device" if self.online else ""
        of_user = (
            "is for one user, and the copies that would go hold the rows of all" if self.scope != "store" else ""
        )
        if why := reads or online or of_user:
            raise MigrationInvalid(
                f"Migration {self.id} says erases=True, and is not for all rows of this store.",
                why=f"it {why}",
                fix="Let a migration of the whole store erase: a row function, declared changes, or an executor.",
            )

    def to_json(self) -> dict[str, Any]:
        """The definition with exactly the keys id, name, description, fromVersion, toVersion, dataTypes,
        dependencies, critical."""
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "fromVersion": self.from_version,
            "toVersion": self.to_version,
            "dataTypes": list(self.collections),
            "dependencies": list(self.after),
            "critical": self.critical,
        }


def _check_word(migration: str, name: str, given: str | None, known: tuple[str | None, ...]) -> None:
    if given not in known:
        raise MigrationInvalid(
            f"Migration {migration} says {name}={given!r}.",
            why=f"it is one of {', '.join(repr(word) for word in known)}",
        )


def way_down_refused(definition: MigrationDefinition) -> MigrationInvalid:
    """The error for a migration that erases and has a way back."""
    return MigrationInvalid(
        f"Migration {definition.id} says erases=True, and has a way back.",
        why="a way back needs values from before, and none of them survive",
        fix="Leave the way back out, or erases=True. Nothing was changed.",
    )


class Quarantine(Exception):
    """Raised by a migration's code: set this row aside whole, with this reason. Say why without the value."""

    def __init__(self, why: str, *, field: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.field = field


class WrongReturn(Quarantine):
    """The migration's code gave back what its return hint does not allow."""


def may_return_none(function: Callable[..., Any]) -> bool:
    """Does the return hint allow None? A function without a hint may return anything."""
    hints = getattr(function, "__annotations__", {})
    if "return" not in hints:
        return True
    hint = hints["return"]
    if isinstance(hint, str):
        return "None" in hint or "Optional" in hint or "Any" in hint
    return hint in (None, type(None), Any) or type(None) in get_args(hint)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was read: a row of the old table, or an element of a legacy value."""

    key: str
    """Where it came from: "@saved_routes[12]", or the row's key."""
    value: Any
    raw: bytes = b""
    """As it lay there, for quarantine."""
    owner: str | None = None
    broken: str | None = None
    """Why it cannot be read, when it cannot."""
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """Write this row. `if_exists`: "fail" (the item goes to quarantine), "merge" (keep the row that is there),
    or "replace"."""

    collection: str
    row: "BaseModel | Mapping[str, Any]"
    if_exists: str = field(default="fail", kw_only=True)


@dataclass(slots=True)
class Counts:
    """What became of the rows of a run or of a batch; they add up."""

    read: int = 0
    written: int = 0
    merged: int = 0
    dropped: int = 0
    quarantined: int = 0

    def add(self, other: "Counts") -> None:
        self.read += other.read
        self.written += other.written
        self.merged += other.merged
        self.dropped += other.dropped
        self.quarantined += other.quarantined

    @property
    def accounted(self) -> int:
        return self.written + self.merged + self.dropped + self.quarantined


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryCounts:
    """What became of the queued entries of a run; they add up."""

    read: int = 0
    converted: int = 0
    quarantined: int = 0
    queued: int = 0
    """New ones, for rows that the cloud knows under other keys."""

    def plus(self, other: "EntryCounts") -> "EntryCounts":
        return EntryCounts(
            read=self.read + other.read,
            converted=self.converted + other.converted,
            quarantined=self.quarantined + other.quarantined,
            queued=self.queued + other.queued,
        )
