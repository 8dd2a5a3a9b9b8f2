"""A user's time on this device: from the first round for them until somebody takes them out."""

from typing import TYPE_CHECKING

from syncengine.errors import UserTakenOut

if TYPE_CHECKING:
    from syncengine.local.store import Store


class Stay:
    """What whoever works for a user has seen of it. Another process may end it; what the cloud tells then would bring
    back what was taken off the device."""

    def __init__(self, store: "Store", user: str) -> None:
        self._store = store
        self._user = user
        self._begun, self._takeouts = self._read()

    def check(self) -> None:
        """Inside the transaction of what is only done for a user who is here. Raises UserTakenOut."""
        begun, takeouts = self._read()
        if takeouts > self._takeouts and begun != self._begun:
            raise UserTakenOut(
                "This user was taken off this device, by another process of the app.",
                why="their rows and their queue are gone from the store, and a round would bring rows back",
                fix="Ask them to sign in again: engine.switch_user(...). Nothing was changed.",
            )
        if begun is None:
            begun = str(takeouts)
            self._store.run("users", "begin_stay", owner=self._user, takeouts=begun)
        self._begun, self._takeouts = begun, takeouts

    def _read(self) -> tuple[str | None, int]:
        """When it began, as the number of those who had been taken out by then, and how many it is now."""
        [(begun, takeouts)] = self._store.rows("users", "stay", owner=self._user)
        return begun, int(takeouts)


__all__ = ["Stay"]
