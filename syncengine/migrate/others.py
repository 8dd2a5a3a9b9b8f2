"""A migration that runs for one user leaves the rows of all others as they are; that is looked at, not believed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from syncengine.errors import OtherUsersRowsChanged
from syncengine.local.rows_of_others import Fingerprint, rows_of_others
from syncengine.migrate.shape import table_exists
from syncengine.vocabulary import STORE_SCOPE

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.plan import Step


@contextmanager
def others_left_alone(store: "Store", step: "Step", user: str | None) -> Iterator[None]:
    """Inside the migration's transaction. Raises OtherUsersRowsChanged at the end of the block.

    What runs for the store is for everybody's rows. Rows that belong to nobody are not looked at.
    """
    if step.scope == STORE_SCOPE or not user:
        yield
        return
    before = _present(store, user)
    yield
    after = _present(store, user)
    changed = sorted({place[0] for place in before.keys() | after.keys() if before.get(place) != after.get(place)})
    if changed:
        raise OtherUsersRowsChanged(
            f"Migration {step.id} changed rows of another user.",
            why=f"it runs for one user alone, and {', '.join(changed)} did not stay as it was for the others",
            fix="The store is as it was. Give its statements a WHERE for the owner, and its rows work.user as owner.",
        )


def _present(store: "Store", user: str) -> dict[tuple[str, str], Fingerprint]:
    synced = {str(name): str(owner) for name, _, owner in store.rows("outbox", "synced_collections")}
    there = {name: owner for name, owner in synced.items() if table_exists(store, name)}
    return rows_of_others(store, there, user=user)
