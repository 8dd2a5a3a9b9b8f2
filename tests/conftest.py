"""What tests of several folders share: one Firestore emulator for all of a session, empty at each test."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from simulator.emulator import FirestoreEmulator


@pytest.fixture(scope="session")
def running_emulator(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[FirestoreEmulator]":
    from simulator.emulator import FirestoreEmulator, lacking

    reason = lacking()
    if reason:
        pytest.skip(reason)
    emulator = FirestoreEmulator(tmp_path_factory.mktemp("firestore") / "emulator.log")
    yield emulator
    emulator.stop()


@pytest.fixture
def emulator(running_emulator: "FirestoreEmulator") -> "FirestoreEmulator":
    """Empty, with the shipped rules."""
    running_emulator.wipe()
    return running_emulator
