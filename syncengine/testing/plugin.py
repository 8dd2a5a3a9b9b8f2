"""The pytest plugin: the kit's functions as fixtures that know where the test's own folder is.

Loaded into every pytest run of an environment that has syncengine, so it imports nothing until a fixture is used.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.testing.crash import CrashReport


@pytest.fixture
def store_at(tmp_path: Path) -> Callable[..., Path]:
    """`store_at(registry, "2.0.0", rows=…, user=…)`: a store of that version in the test's folder; its path."""
    numbers = count(1)

    def make(registry: MigrationRegistry, version: str, **facts: Any) -> Path:
        from syncengine.testing.stores import store_at as made_at

        folder = tmp_path / f"store-{next(numbers)}"
        folder.mkdir()
        return made_at(registry, version, path=folder / "app.db", **facts)

    return make


@pytest.fixture
def crash_everywhere(tmp_path: Path) -> Callable[..., CrashReport]:
    """`crash_everywhere(build=…, run=…)` in the test's folder; see `syncengine.testing.crash_everywhere`."""
    numbers = count(1)

    def sweep(**facts: Any) -> CrashReport:
        from syncengine.testing.crash import crash_everywhere as swept

        return swept(folder=tmp_path / f"crash-{next(numbers)}", **facts)

    return sweep
