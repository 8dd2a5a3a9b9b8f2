"""The storage suite against each database that the cloud can live in."""

from contextlib import closing
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.conformance.storage_suite")

from syncengine.local.connection import open_server_db  # noqa: E402
from syncengine.server.sqlite_storage import SqliteStorage  # noqa: E402 - rewriting must be asked for before the import
from tests.conformance.storage_suite import OpenStorage, SteppedClock, StorageSuite, added, read_at  # noqa: E402


class TestSqliteStorage(StorageSuite):
    @pytest.fixture
    def open_storage(self, tmp_path: Path, clock: SteppedClock) -> OpenStorage:
        return lambda: SqliteStorage(str(tmp_path / "cloud"), clock=clock)

    def test_what_triggers_of_the_operator_write_is_not_taken_for_rows_that_were_added(
        self, storage: SqliteStorage, tmp_path: Path
    ) -> None:
        with closing(open_server_db(str(tmp_path / "cloud" / "cloud.db"))) as connection:
            connection.execute("CREATE TABLE seen (key TEXT)")
            connection.execute(
                "CREATE TRIGGER note AFTER INSERT ON document BEGIN INSERT INTO seen VALUES (new.key); END"
            )
        a, b, c = ("walks", "a"), ("walks", "b"), ("walks", "c")
        assert added(storage, a, b, head=0)
        assert not added(storage, b, c, head=2)
        assert read_at(storage, a, b, c).keys() == {a, b}


class TestPostgresqlStorage(StorageSuite):
    @pytest.fixture
    def open_storage(self, database: str, clock: SteppedClock) -> OpenStorage:
        from syncengine.server.postgresql_storage import PostgresqlStorage

        return lambda: PostgresqlStorage(database, clock=clock)
