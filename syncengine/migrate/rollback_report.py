"""What a rollback did, or would do: what a host, a page and the command line show. No row contents."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncengine.migrate.definition import EntryCounts

if TYPE_CHECKING:
    from syncengine.migrate.rollback_plan import RollbackPlan

COLLISIONS_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Collision:
    """A row that the way back has no room for as it is now."""

    migration: str
    collection: str
    owner: str | None
    key: str
    code: str
    """`edited_since`, `new_since`, `deleted_since`, `table_dropped`, or why its way down failed."""
    why: str
    field: str | None = None

    def __str__(self) -> str:
        place = f"{self.collection} {self.key}" + (f" of {self.owner}" if self.owner else "")
        return f"{place}: {self.why}" + (f" ({self.field})" if self.field else "")


@dataclass(slots=True, kw_only=True)
class UndoCounts:
    """Rows of one undone migration: before = kept + set_aside + dropped, after = made + restored."""

    before: int = 0
    after: int = 0
    kept: int = 0
    """Of the rows before, those that are there afterwards, in their older shape or as they were."""
    made: int = 0
    """What they became: as many, unless the way down splits or joins rows."""
    restored: int = 0
    """Rows that come back: out of quarantine, or as they were before the migration."""
    set_aside: int = 0
    """Collisions: their present form is whole in quarantine."""
    dropped: int = 0
    """Left out by rule: by the way down, or taken out again with the import that brought them."""
    entries: EntryCounts = field(default_factory=EntryCounts)
    """What became of the outbox entries that were queued in the shape that goes."""

    @property
    def add_up(self) -> bool:
        return self.before == self.kept + self.set_aside + self.dropped and self.after == self.made + self.restored


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """One migration that was undone, or would be."""

    id: str
    scope: str
    method: str
    counts: UndoCounts = field(default_factory=UndoCounts)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackReport:
    """What was done, or would be.

    `state`: rolled_back, simulated, impossible (also simulated), stopped (collisions; nothing was changed) or
    restored (an emergency).
    """

    plan: "RollbackPlan | None"
    state: str
    undone: tuple[Undone, ...] = ()
    collisions: tuple[Collision, ...] = ()
    """The first of them; `lost` counts all."""
    restore_point_id: int | None = None
    """The sealed copy of the store as it was before the rollback; in an emergency the one that it went back to."""
    rows_lost: int = 0
    """In quarantine without a migration of their own: of an emergency all, else rows whose parent went."""

    @property
    def success(self) -> bool:
        return self.state in ("rolled_back", "restored", "simulated")

    @property
    def changed(self) -> bool:
        """Is anything in the store different now?"""
        return self.state in ("rolled_back", "restored")

    @property
    def restored(self) -> int:
        """Rows that came back."""
        return sum(undone.counts.restored for undone in self.undone)

    @property
    def lost(self) -> int:
        """Rows whose present form is in quarantine instead of the table."""
        return self.rows_lost + sum(undone.counts.set_aside for undone in self.undone)

    @property
    def warnings(self) -> tuple[str, ...]:
        own = (f"{undone.id}: {warning}" for undone in self.undone for warning in undone.warnings)
        return (*(self.plan.warnings if self.plan else ()), *own)

    def __str__(self) -> str:
        lines = [SAID[self.state]]
        if self.plan is not None:
            lines.append(str(self.plan))
        lines += [f"  {_line(undone)}" for undone in self.undone]
        if self.collisions:
            lines.append(f"  {self.lost} {'row cannot' if self.lost == 1 else 'rows cannot'} go back as they are:")
        lines += [f"  collision: {collision}" for collision in self.collisions[:COLLISIONS_SHOWN_MAX]]
        if self.lost > COLLISIONS_SHOWN_MAX:
            lines.append(f"  and {self.lost - COLLISIONS_SHOWN_MAX} more collisions")
        lines += [f"  note: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "success": self.success,
            "plan": self.plan.to_json() if self.plan else None,
            "restorePoint": self.restore_point_id,
            "undone": [
                {
                    "id": undone.id,
                    "scope": undone.scope,
                    "method": undone.method,
                    "before": undone.counts.before,
                    "after": undone.counts.after,
                    "restored": undone.counts.restored,
                    "setAside": undone.counts.set_aside,
                    "dropped": undone.counts.dropped,
                }
                for undone in self.undone
            ],
            "collisions": [
                {
                    "migration": collision.migration,
                    "collection": collision.collection,
                    "owner": collision.owner,
                    "key": collision.key,
                    "code": collision.code,
                    "why": collision.why,
                    "field": collision.field,
                }
                for collision in self.collisions
            ],
            "warnings": list(self.warnings),
        }


SAID = {
    "rolled_back": "Rolled back.",
    "simulated": "This would be done; nothing was changed.",
    "impossible": "This cannot be done; nothing was changed.",
    "stopped": "Stopped, because rows cannot go back as they are; nothing was changed.",
    "restored": "The store is as it was at the restore point; what is newer is in quarantine.",
}


def _line(undone: Undone) -> str:
    counts = undone.counts
    parts = [f"{counts.before} rows before", f"{counts.after} after"]
    parts += [
        f"{number} {word}"
        for number, word in (
            (counts.restored, "restored"),
            (counts.set_aside, "set aside"),
            (counts.dropped, "dropped"),
        )
        if number
    ]
    return f"{undone.id} ({undone.scope}, {undone.method}): {', '.join(parts)}"
