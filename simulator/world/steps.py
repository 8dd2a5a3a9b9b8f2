"""How a step of a device may end, besides well."""

from typing import NoReturn

OFF_MS = (1_000, 120_000)
"""How long a device stays off after its power went."""
AGAIN_MS = 30_000
"""When an app that its disk has stopped is opened again."""
PAGE_FACTOR = 5
"""So much likelier does the power go while a page is written: there is most to get wrong, and it is seldom."""


class StepRefused(Exception):
    """The engine has refused a step, because this device's disk fails or its file is damaged."""


class PowerLost(Exception):
    """The step did not come to its end as far as this device is concerned."""


def no_barrier(migration: str) -> NoReturn:
    """Where the engine asks for an online migration's own work."""
    raise AssertionError(f"the world's app has no online migration, such as {migration}")
