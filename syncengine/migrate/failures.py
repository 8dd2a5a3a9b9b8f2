"""What failed when it ran last and still has to run: `migrate()` raises for it only where it is critical."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncengine.vocabulary import user_scope

if TYPE_CHECKING:
    from syncengine.local.version_table import Readable


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedMigration:
    """`why`: a sentence without row contents. Collections that it changes wait; the others work."""

    id: str
    scope: str
    why: str


def failed_migrations(
    moment: "Readable", *, user: str | None, among: Collection[str] | None = None
) -> tuple[FailedMigration, ...]:
    """Of the store and of one user, or of all; only those of `among`, where the app says what it has."""
    scope = None if user is None else user_scope(user)
    found = moment.rows("run_history", "failed", scope=scope)
    return tuple(
        FailedMigration(id=str(migration), scope=str(of), why=str(why))
        for migration, of, why in found
        if among is None or migration in among
    )
