"""What tests of several folders share: one Firestore emulator and one PostgreSQL for all of a session."""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from simulator.emulator import FirestoreEmulator
    from simulator.postgresql import PostgresqlCluster


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


@pytest.fixture(scope="session")
def postgresql() -> "Iterator[PostgresqlCluster]":
    """A private one, on a socket in a folder with a short name."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'syncengine[postgresql]')")
    from simulator.postgresql import PostgresqlCluster, lacking

    reason = lacking()
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        with PostgresqlCluster(folder / "c") as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_databases = itertools.count(1)


@pytest.fixture
def new_database(postgresql: "PostgresqlCluster") -> Iterator[Callable[[], str]]:
    """Makes an empty database, gone after the test; its address for the plain role."""
    made: list[str] = []

    def make() -> str:
        made.append(f"cloud_{next(_databases)}")
        return postgresql.make_database(made[-1])

    yield make
    for name in made:
        postgresql.drop_database(name)


@pytest.fixture
def database(new_database: Callable[[], str]) -> str:
    """The address of an empty database."""
    return new_database()
