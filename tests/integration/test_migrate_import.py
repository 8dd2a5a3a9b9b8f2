"""Imports from a legacy store: each element once, for one user, in its own words when something is wrong."""

import json

import pytest
from imports import ImportExecutor, JourneyV2, make_v2, seconds_v3, upload_walks, walk, write_phone
from migrate_world import StoppedClock, dump, registry_of

import migrations
from simulator.asyncstorage_writer import write_store
from syncengine import Engine, Put
from syncengine.errors import MigrationFailed
from syncengine.migrate.definition import Counts
from syncengine.migrate.shape import fingerprint
from syncengine.outbox.queue import Outbox
from syncengine.settings import Settings

OF_THE_WAY = ("_sync_run", "_sync_version", "_sync_outbox", "_sync_lease", "_sync_restore_point")


def registry_v2(importer=None):
    return registry_of(make_v2(), importer or ImportExecutor(), upload_walks())


def registry_v3(importer=None):
    return registry_of(make_v2(), importer or ImportExecutor(), upload_walks(), seconds_v3(), target="3.0.0")


def open_engine(tmp_path, phone, *, user="ann", registry=None, name="app.db", **options):
    sources = {"phone": str(phone)} if phone else None
    return Engine.open(tmp_path / name, registry=registry or registry_v2(), user=user, sources=sources, **options)


def rows(engine, owner=None):
    return engine._store.query(
        "SELECT user_id, id FROM journeys WHERE user_id = coalesce(?, user_id) ORDER BY user_id, id", (owner,)
    )


def waiting_puts(engine):
    return engine._store.query(
        "SELECT owner, row_key, shape_version, migration FROM _sync_outbox WHERE kind = 'put' ORDER BY row_key"
    )


def result_of(report, migration="import-walks"):
    return next(result for result in report.results if result.migration_id == migration)


def test_every_element_is_written_merged_dropped_or_set_aside(tmp_path):
    walks = [walk(1), walk(1), walk(2, 0), walk(3, 13), walk(4, "long"), {"no": "id"}, None, walk(5)]
    with open_engine(tmp_path, write_phone(tmp_path / "phone.json", walks)) as engine:
        result = result_of(engine.migrate())
        assert result.counts == Counts(read=8, written=2, merged=1, dropped=1, quarantined=4)
        assert rows(engine) == [("ann", "w-00001"), ("ann", "w-00005")]
        aside = engine._store.query(
            "SELECT row_key, owner, collection, error_code, body FROM _sync_quarantine ORDER BY item_id"
        )
    assert [row[:4] for row in aside] == [
        ("@walks[3]", "ann", "journeys", "quarantined_by_rule"),
        ("@walks[4]", "ann", "journeys", "conversion_failed"),
        ("@walks[5]", "ann", "journeys", "conversion_failed"),
        ("@walks[6]", "ann", "journeys", "conversion_failed"),
    ]
    assert [json.loads(row[4]) for row in aside] == [walks[3], walks[4], walks[5], walks[6]]


def test_a_row_that_breaks_another_rule_than_the_key_is_not_taken_for_a_copy(tmp_path):
    walks = [walk(1, title="same"), walk(2, title="same"), walk(1, title="other")]
    with open_engine(tmp_path, write_phone(tmp_path / "phone.json", walks)) as engine:
        result = result_of(engine.migrate())
        assert result.counts == Counts(read=3, written=1, merged=1, quarantined=1)
        assert engine._store.query("SELECT row_key, error_text FROM _sync_quarantine") == [
            ("@walks[1]", "UNIQUE constraint failed: journeys.title")
        ]


class ManyPuts(ImportExecutor):
    """Two rows for each walk, or none, or one that replaces."""

    def convert(self, item, work):
        number = item.value["id"]
        if number == "none":
            return []
        kind = "replace" if number == "again" else "fail"
        make = [JourneyV2(user_id=work.user, id=key, minutes=1.0, title=number) for key in item.value["keys"]]
        return [Put("journeys", row, if_exists=kind) for row in make]


def test_an_element_may_become_several_rows_or_none_and_a_half_is_never_left(tmp_path):
    walks = [
        {"id": None, "keys": ["a", "b"]},
        {"id": "none"},
        {"id": None, "keys": ["c", "a"]},
        {"id": "again", "keys": ["a"]},
    ]
    phone = write_phone(tmp_path / "phone.json", walks)
    with open_engine(tmp_path, phone, registry=registry_v2(ManyPuts())) as engine:
        result = result_of(engine.migrate())
        assert result.counts == Counts(read=4, written=2, dropped=1, quarantined=1)
        found = engine._store.query("SELECT id, title FROM journeys ORDER BY id")
        assert found == [("a", "again"), ("b", None)]


def test_a_broken_tail_is_set_aside_whole_and_what_came_before_it_is_imported(tmp_path):
    text = json.dumps([walk(n) for n in range(150)])
    torn = text[: text.index('"w-00140"') + 5]
    with open_engine(tmp_path, write_phone(tmp_path / "phone.json", torn)) as engine:
        result = result_of(engine.migrate())
        assert result.counts == Counts(read=141, written=140, quarantined=1)
        [(key, body, why)] = engine._store.query("SELECT row_key, body, error_text FROM _sync_quarantine")
    assert key == "@walks[140]"
    assert torn.endswith(body)
    assert "broken JSON at byte" in why


def test_an_element_above_the_limit_is_set_aside_by_its_first_bytes_and_those_after_it_are_imported(tmp_path):
    walks = [walk(1), walk(2, title="x" * 3_000), *(walk(n) for n in range(3, 200))]
    limit = Settings(source_element_bytes_max=2_000)
    with open_engine(tmp_path, write_phone(tmp_path / "phone.json", walks), settings=limit) as engine:
        result = result_of(engine.migrate())
        assert result.counts == Counts(read=199, written=198, quarantined=1)
        [(key, body, why)] = engine._store.query("SELECT row_key, body, error_text FROM _sync_quarantine")
    assert key == "@walks[1]"
    assert body == json.dumps(walks[1])[:2_000]
    assert "larger than 2000 bytes" in why
    assert "the source still holds it whole" in why


def test_a_broken_tail_above_the_limit_says_that_the_source_holds_the_rest(tmp_path):
    torn = json.dumps([walk(n) for n in range(3)])[:-1] + " 1" * 2_000
    limit = Settings(source_element_bytes_max=2_000)
    with open_engine(tmp_path, write_phone(tmp_path / "phone.json", torn), settings=limit) as engine:
        assert result_of(engine.migrate()).counts == Counts(read=4, written=3, quarantined=1)
        [(body, why)] = engine._store.query("SELECT body, error_text FROM _sync_quarantine")
    assert torn[torn.index("1 1 1") :].startswith(body)
    assert "the source still holds the rest" in why


def test_what_is_odd_about_a_source_is_said_once_in_the_history(tmp_path):
    folder = tmp_path / "RCTAsyncLocalStorage_V1"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"@walks": json.dumps([walk(1)]), "lost": None}))
    with open_engine(tmp_path, folder) as engine:
        result = result_of(engine.migrate())
        assert rows(engine) == [("ann", "w-00001")]
        [(warnings,)] = engine._store.query("SELECT warnings FROM _sync_run WHERE migration = 'import-walks'")
    said = "the source 'phone': 1 key(s) point to a value file that is missing, and count as absent"
    assert result.warnings == (said,)
    assert warnings.count("1 key(s) point to a value file that is missing") == 1


def test_half_of_a_surrogate_pair_and_a_number_beyond_all_numbers_are_set_aside_as_they_lay_there(tmp_path):
    elements = ['{"id":"\\ud83d","minutes":1}', '{"id":"a","minutes":1e999}', '{"id":"\\u0000🚶","minutes":1}']
    with open_engine(tmp_path, write_phone(tmp_path / "phone.json", f"[{','.join(elements)}]")) as engine:
        assert result_of(engine.migrate()).counts == Counts(read=3, written=1, quarantined=2)
        assert rows(engine) == [("ann", "\0🚶")]
        assert [row[0] for row in engine._store.query("SELECT body FROM _sync_quarantine")] == elements[:2]


def test_a_key_that_is_nearly_there_is_asked_about(tmp_path):
    phone = tmp_path / "phone.json"
    phone.write_text(json.dumps({"@Walks": "[]", "walks": "[]", "theme": "dark"}))
    with open_engine(tmp_path, phone) as engine:
        result = result_of(engine.migrate())
    assert result.counts == Counts()
    assert "found no `@walks`; did you mean" in result.warnings[0]
    assert "`walks`" in result.warnings[0]


@pytest.mark.parametrize("phone", [None, "nowhere.json"])
def test_a_source_that_is_not_there_is_said_and_the_store_is_migrated_all_the_same(tmp_path, phone):
    with open_engine(tmp_path, phone and tmp_path / phone) as engine:
        result = result_of(engine.migrate())
        assert result.success
        assert "imported" in result.warnings[0]
        assert engine.migrations.get_current_schema_version("ann") == "2.0.0"


def test_the_first_user_gets_the_rows_and_the_second_gets_none(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(1), walk(2)])
    for user in ("ann", "bob"):
        with open_engine(tmp_path, phone, user=user) as engine:
            result = result_of(engine.migrate())
            assert rows(engine) == [("ann", "w-00001"), ("ann", "w-00002")]
            assert (
                engine._store.query("SELECT DISTINCT owner FROM _sync_outbox")
                == [("ann",), ("bob",)][: 1 + (user == "bob")]
            )
            assert engine._store.query("SELECT DISTINCT owner FROM _sync_outbox WHERE collection <> ''") == [("ann",)]
    assert result.success
    assert "another user" in result.warnings[0]


def test_with_nobody_signed_in_the_rows_wait_and_a_later_user_gets_them(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(1)])
    with open_engine(tmp_path, phone, user=None) as engine:
        engine.migrate()
        assert rows(engine) == []
        assert engine.migrate() is None
    with open_engine(tmp_path, phone) as engine:
        assert engine.migrate() is not None
        assert rows(engine) == [("ann", "w-00001")]
        assert engine.migrate() is None


def test_a_late_users_rows_come_out_as_an_early_ones(tmp_path):
    walks = [walk(n, n, title=f"t{n}") for n in range(120)] + [walk(0), walk(7, 13), walk(900, 0)]
    phone = write_phone(tmp_path / "phone.json", walks)
    with open_engine(tmp_path, phone, registry=registry_v3(), name="early.db") as engine:
        engine.migrate()
        early, sent = dump(engine._store, without=OF_THE_WAY), waiting_puts(engine)
    with open_engine(tmp_path, phone, registry=registry_v3(), name="late.db", user=None) as engine:
        engine.migrate()
        assert str(engine.plan()) == "3.0.0: nothing to do"
    with open_engine(tmp_path, phone, registry=registry_v3(), name="late.db") as engine:
        engine.migrate()
        assert dump(engine._store, without=OF_THE_WAY) == early
        assert waiting_puts(engine) == sent
        assert engine.migrations.get_current_schema_version("ann") == "3.0.0"
        assert engine.migrate() is None


def test_a_late_row_that_does_not_fit_beside_the_live_ones_is_set_aside_in_the_new_shape(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(1, title="same"), walk(2, title="own")])
    with open_engine(tmp_path, None, registry=registry_v3(), user=None) as engine:
        engine.migrate()
        with engine.write() as db:
            db.execute("INSERT INTO journeys VALUES ('bob', 'b', 60, 'same')")
            db.execute(
                "CREATE TRIGGER t AFTER INSERT ON journeys "
                "BEGIN UPDATE journeys SET seconds = -1 WHERE id = NEW.id; END"
            )
    with open_engine(tmp_path, phone, registry=registry_v3()) as engine:
        engine.migrate()
        # The app's trigger fired for the live row, and could not see the tables that were passed through.
        assert engine._store.query("SELECT user_id, id, seconds FROM journeys ORDER BY user_id") == [
            ("ann", "w-00002", -1),
            ("bob", "b", 60),
        ]
        [(owner, key, body)] = engine._store.query("SELECT owner, row_key, body FROM _sync_quarantine")
        assert (owner, key) == ("ann", "w-00001")
        assert json.loads(body) == {"user_id": "ann", "id": "w-00001", "seconds": 60, "title": "same"}
        assert engine._store.query("PRAGMA foreign_key_check") == []


def test_a_late_user_of_the_worked_example_gets_what_an_early_one_got_row_by_row(tmp_path):
    legacy = write_store(tmp_path / "phone", kind="android", walks=60, places=40, dismissed=8, seed=7)
    facts = {
        "registry": migrations.registry(),
        "sources": {"asyncstorage": str(legacy.path)},
        "clock": StoppedClock(),
        "consent": lambda request: True,
    }
    with Engine.open(tmp_path / "early.db", user="ann", **facts) as engine:
        engine.migrate()
        early = _collections(engine)
    with Engine.open(tmp_path / "late.db", user=None, **facts) as engine:
        engine.migrate()
        assert not any(_collections(engine).values())
    with Engine.open(tmp_path / "late.db", user="ann", **facts) as engine:
        report = engine.migrate()
        assert report.success
        late = _collections(engine)
        assert engine._store.query(
            "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%\\_live\\_%' ESCAPE '\\'"
        ) == [(0,)]
    assert sum(map(len, early.values())) > 50
    for name in migrations.registry().collections:
        assert late[name] == early[name], name


def _collections(engine):
    """All rows; without the profile's own status, which tells another history for a late user."""
    found = {}
    for name in migrations.registry().collections:
        columns = [row[0] for row in engine._store.query("SELECT name FROM pragma_table_info(?)", (name,))]
        names = ", ".join(column for column in columns if column != "migration_status")
        found[name] = engine._store.query(f"SELECT {names} FROM {name} ORDER BY user_id, id")
    return found


def test_a_late_import_leaves_the_shape_as_it_was_recorded(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(1)])
    with open_engine(tmp_path, None, registry=registry_v3(), user=None) as engine:
        engine.migrate()
    with open_engine(tmp_path, phone, registry=registry_v3()) as engine:
        engine.migrate()
        recorded = engine._store.query("SELECT fingerprint FROM _sync_collection WHERE name = 'journeys'")
        assert recorded == [(fingerprint(engine._store, "journeys"),)]


def test_an_upload_that_still_waits_is_sent_in_the_new_shape_and_says_so(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(1)])
    with open_engine(tmp_path, phone, registry=registry_v2()) as engine:
        engine.migrate()
        assert engine._store.query("SELECT shape_version FROM _sync_outbox WHERE kind = 'put'") == [("2.0.0",)]
    with open_engine(tmp_path, phone, registry=registry_v3()) as engine:
        engine.migrate()
        batch = Outbox(engine._store).claim("ann", entries_max=10, bytes_max=10_000)
        [entry] = [entry for entry in batch.entries if entry.row_key]
        assert json.loads(entry.set_json)["seconds"] == 60
        assert entry.shape_version == "3.0.0"


def test_a_failed_import_can_be_tried_again_and_takes_the_source_only_then(tmp_path):
    phone = write_phone(tmp_path / "phone.json", [walk(n, 13) for n in range(150)] + [walk(999)])
    with open_engine(tmp_path, phone) as engine:
        before = dump(engine._store)
        with pytest.raises(MigrationFailed):
            engine.migrate()
        assert rows(engine) == []
        assert engine._store.query("SELECT count(*) FROM _sync_source") == [(0,)]
        assert before != dump(engine._store)  # the tables, which came first, are there
    write_phone(phone, [walk(999)])
    with open_engine(tmp_path, phone) as engine:
        engine.migrate()
        assert rows(engine) == [("ann", "w-00999")]
