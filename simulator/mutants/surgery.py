"""Parts of the engine are replaced for a while, and put back."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from simulator.world import installed

Part = Callable[..., Any]

PLAIN: dict[str, Any] = {
    "app": "notes",
    "lane": "core",
    "disk_failures": 0,
    "cloud_fails": False,
    "damages": False,
    "leaves": False,
    "downgrades": False,
    "room_rows": 0,
    "requests_per_minute": 0,
}
QUIET: dict[str, Any] = {
    **PLAIN,
    "power_share": 0.0,
    "records_disk": False,
    "clones": False,
    "restores_cloud": False,
}
ROUGH: dict[str, Any] = {
    **PLAIN,
    "power_share": 0.05,
    "records_disk": True,
    "durable": True,
    "edits_per_device": 10,
}
STORMY: dict[str, Any] = {**QUIET, "has_weather": True}
DARK: dict[str, Any] = {
    **PLAIN,
    "power_share": 0.1,
    "records_disk": True,
    "durable": True,
    "has_weather": False,
    "partitions": False,
}
RESTORED: dict[str, Any] = {**PLAIN, "power_share": 0.0, "restores_cloud": True, "clones": False}
"""Worlds in which most bugs show sooner than in any."""
CROWDED: dict[str, Any] = {**QUIET, "room_rows": 4, "batch_entries": 500, "edits_per_device": 9, "devices": 3}
"""There is no room for more rows of a user."""
UPGRADED: dict[str, Any] = {**QUIET, "upgrades": True}
KIN: dict[str, Any] = {**QUIET, "app": "kin", "edits_per_device": 14, "partitions": True}
"""Parents are deleted while other devices give them children."""
BUSY: dict[str, Any] = {**QUIET, "requests_per_minute": 6, "edits_per_device": 9}
"""Users ask the cloud more often than they may."""


class Surgery:
    """`replace` and `around` change the engine that this process runs; `undo` puts everything back."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def replace(self, place: str, name: str, part: Any) -> None:
        """`place` is a module, or a class of one: "syncengine.sync.apply:Applier"."""
        owner = _found(place)
        self._before.append((owner, name, vars(owner)[name]))
        setattr(owner, name, part)

    def around(self, place: str, name: str, made: Callable[[Part], Part]) -> None:
        """Replace a function by what is made of it."""
        self.replace(place, name, made(getattr(_found(place), name)))

    def undo(self) -> None:
        while self._before:
            setattr(*self._before.pop())


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A bug that an engine could have.

    `plan`: what a world needs so that it shows soon, over what its seed draws. `caught_by`: the promises of which at
    least one is seen to be broken.
    """

    name: str
    """The sentence that is true of the engine then."""
    put_in: Callable[[Surgery], None]
    caught_by: tuple[str, ...]
    plan: dict[str, Any] = field(default_factory=dict)
    profile: str | None = None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The engine of this process has the bug until the block ends."""
        surgery = Surgery()
        installed.forget()
        try:
            self.put_in(surgery)
            yield
        finally:
            surgery.undo()
            installed.forget()
