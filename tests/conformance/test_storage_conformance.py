"""The storage suite against each database that the cloud can live in."""

from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.conformance.storage_suite")

from syncengine.server.sqlite_storage import SqliteStorage  # noqa: E402 - rewriting must be asked for before the import
from tests.conformance.storage_suite import OpenStorage, SteppedClock, StorageSuite  # noqa: E402


class TestSqliteStorage(StorageSuite):
    @pytest.fixture
    def open_storage(self, tmp_path: Path, clock: SteppedClock) -> OpenStorage:
        return lambda: SqliteStorage(str(tmp_path / "cloud"), clock=clock)


class TestPostgresqlStorage(StorageSuite):
    @pytest.fixture
    def open_storage(self, database: str, clock: SteppedClock) -> OpenStorage:
        from syncengine.server.postgresql_storage import PostgresqlStorage

        return lambda: PostgresqlStorage(database, clock=clock)
