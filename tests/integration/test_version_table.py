"""The version table: what each scope has reached, and what has run there."""

import pytest

from syncengine.clock import SystemClock
from syncengine.errors import StoreDamaged
from syncengine.local.store import Store
from syncengine.local.version_table import read_installed, write_cloud_version, write_schema_version
from syncengine.migrate.history import RunRecord, record_run
from syncengine.settings import Settings
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion

V2, V3 = SchemaVersion.parse("2.0.0"), SchemaVersion.parse("3.0.0")


@pytest.fixture
def store(tmp_path):
    store = Store(str(tmp_path / "app.db"), settings=Settings(), clock=SystemClock())
    yield store
    store.close()


def ran(store, migration, state, scope=STORE_SCOPE):
    record = RunRecord(
        migration=migration, scope=scope, from_version="1.0.0", to_version="2.0.0", state=state, started_at="2025"
    )
    with store.transaction():
        record_run(store, record)


def test_a_new_store_has_reached_nothing(store):
    installed = read_installed(store)
    assert installed.schema_version(STORE_SCOPE) is None
    assert (installed.versions, installed.completed, installed.queued) == ({}, frozenset(), frozenset())


def test_a_version_that_is_written_is_read_back_for_its_scope_only(store):
    with store.transaction():
        write_schema_version(store, STORE_SCOPE, version=V3, app_version="3.1")
        write_schema_version(store, "user:ann", version=V2, app_version=None)
        write_schema_version(store, "user:ann", version=V3, app_version=None)
        write_cloud_version(store, "ann", version=V2)
    installed = read_installed(store)
    assert installed.versions == {STORE_SCOPE: V3, "user:ann": V3}
    assert installed.cloud_versions == {"user:ann": V2}


def test_a_version_is_gone_with_the_transaction_that_wrote_it(store):
    def interrupted():
        with store.transaction():
            write_schema_version(store, STORE_SCOPE, version=V3, app_version=None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_installed(store).versions == {}


def test_a_migration_is_done_where_it_completed_and_waits_where_it_was_only_queued(store):
    for migration, state, scope in (
        ("a", "failed", STORE_SCOPE),
        ("a", "completed", STORE_SCOPE),
        ("b", "cancelled", STORE_SCOPE),
        ("c", "stood_for", STORE_SCOPE),
        ("up", "queued", "user:ann"),
        ("up", "queued", "user:bob"),
        ("up", "completed", "user:bob"),
    ):
        ran(store, migration, state, scope)
    installed = read_installed(store)
    assert installed.completed == {("a", STORE_SCOPE), ("c", STORE_SCOPE), ("up", "user:bob")}
    assert installed.queued == {("up", "user:ann")}


def test_a_history_that_does_not_add_up_cannot_be_written(store):
    from syncengine.local.sqlite_errors import ConstraintError

    with store.transaction(), pytest.raises(ConstraintError):
        store.query(
            "INSERT INTO _sync_run (migration, scope, from_version, to_version, state, rows_read, rows_written, "
            "started_at, ended_at, duration_ms) VALUES ('a', 'store', '1', '2', 'completed', 2, 1, '', '', 0)"
        )


def test_a_version_that_somebody_spoiled_by_hand_is_an_error_that_says_so(store):
    with store.transaction():
        store.query("INSERT INTO _sync_version (scope, schema_version, updated_at) VALUES ('store', 'two', '2025')")
    with pytest.raises(StoreDamaged, match="no version"):
        read_installed(store)
