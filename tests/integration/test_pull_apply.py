"""A page from the cloud in the store: what is written, what is merged, what is kept for later."""

import json
import re

import apsw
import pytest
from drain_world import TABLES
from pull_world import JOURNEY, Device, gone, journey, note, pulled

from syncengine.errors import DiskFull, StoreSuperseded
from syncengine.local.statements import statement
from syncengine.outbox.delivery import Event
from syncengine.outbox.queue import Outbox
from syncengine.outbox.set_aside import set_aside
from syncengine.settings import Settings
from syncengine.sync.kin_at_end import decide_kin
from syncengine.sync.live_table import ROWS_AT_ONCE
from syncengine.sync.page_record import ROWS_AT_ONCE as VERSIONS_AT_ONCE
from syncengine.sync.parked import give_up_clashes, try_parked
from syncengine.sync.parking import UNTIL_OTHERS_CAME
from syncengine.sync.position import standing


@pytest.fixture
def device(tmp_path):
    device = Device(tmp_path)
    yield device
    device.close()


# Rows that nobody has edited here.


def test_rows_of_a_page_are_in_their_tables_and_are_not_sent_back(device):
    done = device.page(journey("a"), journey("b", title="another"), note("n", journey="a"))
    assert {key: row["title"] for key, row in device.rows().items()} == {"a": "a walk", "b": "another"}
    assert device.rows()["a"]["picture"] == b"\x00\xff"
    assert device.rows("notes")["n"]["journey"] == "a"
    assert device.outbox() == []
    assert device.known() == {"a": (1, 0), "b": (1, 0), "n": (1, 0)}
    assert (done.rows, device.cursor()) == (3, "c1")


def test_a_newer_version_takes_the_place_of_the_older_and_a_deletion_takes_the_row(device):
    device.page(journey("a"), journey("b"))
    device.page(journey("a", 3, title="newer"), gone("journeys", "b", 4), gone("journeys", "never-here", 5))
    assert {key: row["title"] for key, row in device.rows().items()} == {"a": "newer"}
    assert device.known() == {"a": (3, 0), "b": (4, 1), "never-here": (5, 1)}
    assert device.outbox() == []


def test_edits_after_a_page_are_captured_again(device):
    device.page(journey("a"))
    device.app("UPDATE journeys SET title = 'mine' WHERE id = 'a'")
    assert device.outbox() == [("patch", "a", {"title": "mine"}, {"title": "a walk"})]


def test_a_page_whose_writing_fails_leaves_neither_rows_nor_cursor(device, monkeypatch):
    device.page(journey("a"))
    run = device.store.run

    def full(file, name, /, **values):
        if name == "move_cursor":
            raise DiskFull("The disk is full.")
        return run(file, name, **values)

    monkeypatch.setattr(device.store, "run", full)
    with pytest.raises(DiskFull):
        device.page(journey("b"))
    monkeypatch.undo()
    assert list(device.rows()) == ["a"]
    assert device.cursor() == "c1"
    device.app("UPDATE journeys SET title = 'x'")
    assert len(device.outbox()) == 1, "capture is on again"


def test_rows_of_another_user_are_never_touched(device):
    with device.store.transaction():
        device.store.query("INSERT INTO journeys VALUES ('bob', 'a', 'of bob', 1.0, 1, NULL)")
    device.page(journey("a"), pulled("journeys", "evil", 2, {"id": "evil", "title": "x", "user_id": "bob"}))
    device.page(gone("journeys", "a", 3))
    assert {key: row["title"] for key, row in device.rows(owner="bob").items()} == {"a": "of bob"}
    assert device.rows()["evil"]["title"] == "x", "a document's word for its owner is not believed"


def test_a_table_whose_key_is_not_the_owners_alone_still_keeps_other_users_apart(tmp_path):
    tables = TABLES.replace(
        "PRIMARY KEY (user_id, id)\n) STRICT;\nCREATE TABLE notes", "PRIMARY KEY (id)\n) STRICT;\nCREATE TABLE notes"
    )
    tables = tables.replace(", FOREIGN KEY (user_id, journey) REFERENCES journeys (user_id, id)", "")
    device = Device(tmp_path, tables=tables)
    with device.store.transaction():
        device.store.query("INSERT INTO journeys VALUES ('bob', 'a', 'of bob', 1.0, 1, NULL)")
    device.page(journey("a"), journey("b"))
    device.page(journey("b", 2, title="newer"))
    assert device.rows(owner="bob")["a"]["title"] == "of bob"
    assert {key: row["title"] for key, row in device.rows().items()} == {"b": "newer"}
    assert device.parked() == {"a": "clash"}
    device.close()


def extra_of(device: Device, key: str = "a") -> str | None:
    return device.store.query("SELECT extra FROM _sync_row WHERE row_key = ?", (key,))[0][0]


def test_unknown_fields_are_kept_and_go_back_with_a_whole_row(device):
    device.page(journey("a", mood="calm", weather={"wind": [1, 2]}))
    assert "mood" not in device.rows()["a"]
    assert json.loads(extra_of(device)) == {"mood": "calm", "weather": {"wind": [1, 2]}}
    device.page(journey("a", 2))
    assert extra_of(device) is None


def test_fields_that_a_document_lacks_stay_as_they_are(device):
    device.page(journey("a"))
    device.page(pulled("journeys", "a", 2, {"title": "only this"}))
    row = device.rows()["a"]
    assert (row["title"], row["steps"]) == ("only this", 7)


def test_a_document_with_as_many_but_other_fields_keeps_what_it_does_not_tell_and_the_page_comes_in(device):
    device.page(journey("a"), journey("b"))
    other = {**JOURNEY, "id": "b", "mood": "calm", "steps": 8}
    del other["title"]
    for version in (3, 5):
        device.page(journey("a", version, title="newer"), pulled("journeys", "b", version + 1, other))
        assert titles(device) == {"a": "newer", "b": "a walk"}
        assert device.rows()["b"]["steps"] == 8
        assert json.loads(extra_of(device, "b")) == {"mood": "calm"}
    assert device.known() == {"a": (5, 0), "b": (6, 0)}
    assert device.quarantine() == []
    said = []
    device.store.connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda told: said.append(told["sql"]))
    device.page(journey("a", 7), pulled("journeys", "b", 8, other))
    device.store.connection.trace_v2(0, None)
    assert not [sql for sql in said if "SAVEPOINT" in sql], (
        "what this collection brings is known, so no page is undone"
    )


@pytest.mark.parametrize("rows", [3, 303])
def test_a_page_is_written_by_few_statements_and_without_savepoints(device, rows):
    device.page(journey("first"))  # brings bytes: that is known from then on
    said = []
    device.store.connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda told: said.append(told["sql"]))
    device.page(*[journey(f"k{number}", number + 2) for number in range(rows)])
    device.store.connection.trace_v2(0, None)
    assert len(device.rows()) == rows + 1
    assert not [sql for sql in said if "SAVEPOINT" in sql], "SQLite would copy each page of the file that changes"
    of_rows = [sql for sql in said if sql.startswith('INSERT OR FAIL INTO "journeys"')]
    assert len(of_rows) == rows // ROWS_AT_ONCE + rows % ROWS_AT_ONCE
    assert len(said) - len(of_rows) <= 14


@pytest.mark.parametrize("known", [(0,), (4,), (13, 14), (25,), range(27)])
def test_rows_that_are_here_come_in_among_rows_that_are_new(device, known):
    device.page(journey("first"), *[journey(f"k{number:02}", title="old") for number in known])
    device.page(*[journey(f"k{number:02}", number + 2, title=f"now {number}") for number in range(27)])
    now = {f"k{number:02}": f"now {number}" for number in range(27)}
    assert titles(device) == {"first": "a walk", **now}
    assert {key: version for key, (version, _) in device.known().items()} == {
        "first": 1,
        **{key: number + 2 for number, key in enumerate(sorted(now))},
    }
    assert device.outbox() == []


@pytest.mark.parametrize("at", [0, 4, 13, 26])
def test_of_rows_that_are_new_the_one_that_its_table_refuses_is_set_aside(device, at):
    device.page(journey("first"))
    rows = [journey(f"k{number:02}", title="long walk") for number in range(27)]
    rows[at] = journey(f"k{at:02}", steps="many")
    device.page(*rows)
    assert len(device.rows()) == 27
    assert [key for _, key, *_ in device.quarantine()] == [f"k{at:02}"]


def test_a_page_copies_no_page_of_the_file_to_a_file_of_its_own(device):
    device.page(journey("first"))
    kept = []
    device.store.connection.set_commit_hook(
        lambda: kept.append(device.store.query("PRAGMA temp_store")) or not device.store.committing
    )
    device.page(*[journey(f"k{number}", number + 2) for number in range(20)])
    assert kept == [[(2,)]]


def test_one_statement_takes_note_of_a_bounded_number_of_versions(device):
    device.page(journey("first"))
    said = []
    device.store.connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda told: said.append(told["sql"]))
    device.page(*[journey(f"k{number:04}", number + 2) for number in range(VERSIONS_AT_ONCE + 1)])
    device.store.connection.trace_v2(0, None)
    assert len([sql for sql in said if "json_each(:versions)" in sql]) == 2
    assert len(device.known()) == VERSIONS_AT_ONCE + 2
    assert device.known()[f"k{VERSIONS_AT_ONCE:04}"] == (VERSIONS_AT_ONCE + 2, 0)


def test_a_trigger_that_the_app_makes_between_two_pages_fires_for_the_second(device):
    device.page(journey("a"))
    device.app("CREATE TABLE seen (id TEXT)")
    device.app("CREATE TRIGGER later AFTER INSERT ON journeys BEGIN INSERT INTO seen VALUES (NEW.id); END")
    device.page(journey("b"))
    device.app("DROP TRIGGER later")
    device.page(journey("c"))
    assert device.store.query("SELECT id FROM seen") == [("b",)]


def test_a_page_of_any_rows_puts_capture_before_a_trigger_that_was_made_since_the_last_one(device):
    device.page(note("m"))
    device.app("CREATE TRIGGER later AFTER INSERT ON journeys BEGIN UPDATE journeys SET title = 'seen'; END")
    device.page(note("n"))
    device.app("INSERT INTO journeys (user_id, id, title) VALUES ('ann', 'a', 'here')")
    assert [(kind, key) for kind, key, *_ in device.outbox()] == [("put", "a"), ("patch", "a")]


def test_a_huge_row_is_taken_whole(device):
    device.page(journey("a", title="x" * 20_000_000))
    assert len(device.rows()["a"]["title"]) == 20_000_000


# Edited here as well.


def test_pending_edits_stay_on_top_and_stand_on_the_clouds_values(device):
    device.page(journey("a"))
    device.app("UPDATE journeys SET title = 'mine', steps = 8 WHERE id = 'a'")
    device.app("UPDATE journeys SET steps = 9 WHERE id = 'a'")
    done = device.page(journey("a", 2, title="theirs", length_m=2.5))
    row = device.rows()["a"]
    assert (row["title"], row["steps"], row["length_m"]) == ("mine", 9, 2.5)
    assert device.outbox() == [
        ("patch", "a", {"title": "mine", "steps": 8}, {"title": "theirs", "steps": 7}),
        ("patch", "a", {"steps": 9}, {"steps": 8}),
    ]
    assert device.conflicts() == [("a", "title", "mine", "theirs", "local", "merge")]
    assert done.conflicts == 1


def test_where_the_server_wins_its_value_is_in_the_row_and_the_edit_is_not_sent(tmp_path):
    device = Device(tmp_path, merge="server_wins")
    device.page(journey("a"))
    device.app("UPDATE journeys SET title = 'mine' WHERE id = 'a'")
    device.page(journey("a", 2, title="theirs"))
    assert device.rows()["a"]["title"] == "theirs"
    assert device.outbox() == []
    assert device.conflicts() == [("a", "title", "mine", "theirs", "server", "server_wins")]
    device.close()


def test_a_function_of_the_app_decides_and_one_that_fails_loses_nothing(tmp_path, caplog):
    def longest(base, local, server):
        if local["title"] == "fail":
            raise ValueError("secret-value")
        return {"title": max(local["title"], server["title"], key=len)}

    device = Device(tmp_path, merge=longest)
    device.page(journey("a"), journey("b"))
    device.app("UPDATE journeys SET title = 'mine is longer' WHERE id = 'a'")
    device.app("UPDATE journeys SET title = 'fail' WHERE id = 'b'")
    device.page(journey("a", 2, title="theirs"), journey("b", 2, title="theirs"))
    assert {key: row["title"] for key, row in device.rows().items()} == {"a": "mine is longer", "b": "fail"}
    assert [(key, winner) for key, _, _, _, winner, _ in device.conflicts()] == [("a", "local"), ("b", "local")]
    assert "secret-value" not in caplog.text
    assert "a merge function failed" in caplog.text
    device.close()


def test_an_edit_of_a_row_that_another_device_deleted_goes_to_quarantine_whole(device):
    device.page(journey("a"))
    device.app("UPDATE journeys SET title = 'mine' WHERE id = 'a'")
    done = device.page(gone("journeys", "a", 2))
    assert device.rows() == {}
    assert device.outbox() == []
    assert device.quarantine() == [("pull", "a", "deleted_at_cloud", None)]
    (body,) = device.store.query("SELECT body FROM _sync_quarantine")[0]
    assert json.loads(body) == {
        "id": "a",
        "user_id": "ann",
        "title": "mine",
        "length_m": 1.5,
        "steps": 7,
        "picture": {"$blob": "AP8="},
    }
    assert len(done.items) == 1


def test_what_the_cloud_had_refused_is_in_quarantine_too_where_it_wrote_over_it_before_the_deletion(device):
    device.page(journey("a"))
    device.app("UPDATE journeys SET title = 'mine' WHERE id = 'a'")
    with device.store.transaction():
        [entry] = Outbox(device.store).claim("ann", entries_max=1, bytes_max=9_999).entries
        set_aside(device.store, entry, event=Event.REJECTED, error_code="gone", error_text="it was deleted")
    device.page(journey("a", 2, title="theirs"))
    assert device.rows()["a"]["title"] == "theirs"
    device.page(gone("journeys", "a", 3))
    [(body,)] = device.store.query("SELECT body FROM _sync_quarantine WHERE resolution IS NULL")
    assert json.loads(body)["title"] == "mine"


def test_where_the_client_wins_the_row_is_made_again(tmp_path):
    device = Device(tmp_path, merge="client_wins")
    device.page(journey("a"))
    device.app("UPDATE journeys SET title = 'mine' WHERE id = 'a'")
    device.page(gone("journeys", "a", 2))
    assert device.rows()["a"]["title"] == "mine"
    assert [(kind, body["title"]) for kind, _, body, _ in device.outbox()] == [("put", "mine")]
    device.close()


def test_blobs_that_wait_to_be_sent_are_compared_by_what_they_hold(device):
    device.page(journey("a"))
    device.app("UPDATE journeys SET picture = x'01' WHERE id = 'a'")
    device.page(journey("a", 2, picture={"$blob": "AQ=="}))
    assert device.conflicts() == []
    device.app("UPDATE journeys SET picture = x'02' WHERE id = 'a'")
    device.page(journey("a", 3, picture={"$blob": "Aw=="}))
    assert device.rows()["a"]["picture"] == b"\x02"
    assert [(name, mine) for _, name, mine, *_ in device.conflicts()] == [("picture", {"$blob": "Ag=="})]


def test_the_edits_of_a_page_are_looked_up_in_one_question(device):
    device.page(*[journey(f"k{number}") for number in range(200)])
    for number in range(0, 200, 10):
        device.app("UPDATE journeys SET title = 'mine' WHERE id = ?", f"k{number}")
    asked = []
    rows = device.store.rows

    def counted(file, name, /, **values):
        asked.append((file, name))
        return rows(file, name, **values)

    device.store.rows = counted
    device.page(*[journey(f"k{number}", 2, steps=8) for number in range(200)])
    assert asked.count(("pull", "pending")) == 1
    assert sum(row["title"] == "mine" and row["steps"] == 8 for row in device.rows().values()) == 20


def test_another_users_entries_for_the_same_key_are_left_alone(device):
    with device.store.transaction():
        device.store.query("INSERT INTO journeys VALUES ('bob', 'a', 'of bob', 1.0, 1, NULL)")
    before = device.outbox()
    device.page(journey("a"))
    assert device.outbox() == before
    assert not device.conflicts()


# What no rule takes.


def test_a_row_that_its_table_does_not_take_is_set_aside_and_the_others_come_in(device):
    done = device.page(journey("a"), journey("b", steps="many"), journey("c"))
    assert list(device.rows()) == ["a", "c"]
    assert device.quarantine() == [("pull", "b", "constraint_failed", None)]
    assert (len(done.items), device.cursor()) == (1, "c1")


@pytest.mark.parametrize(
    "value",
    [2**70, "\ud800", [1, 2], {"$blob": "no base64!"}, {"a": 1}],
    ids=["2**70", "surrogate", "list", "blob", "object"],
)
def test_a_value_that_no_column_holds_is_set_aside_and_the_others_come_in(device, value):
    device.page(journey("a"), journey("b", title=value), journey("c"))
    assert list(device.rows()) == ["a", "c"]
    assert [(origin, key) for origin, key, *_ in device.quarantine()] == [("pull", "b")]


def test_a_document_that_names_another_key_than_its_own_is_set_aside(device):
    device.page(journey("a"), pulled("journeys", "b", 2, journey("a", title="stolen").body))
    assert device.rows()["a"]["title"] == "a walk"
    assert [(key, resolution) for _, key, _, resolution in device.quarantine()] == [("b", None)]


def test_what_was_set_aside_is_settled_when_a_good_copy_comes(device):
    device.page(journey("b", steps="many"))
    device.page(journey("b", 2, steps="still many"))
    assert len(device.quarantine()) == 1, "the newest copy alone"
    device.page(journey("b", 3))
    assert device.quarantine() == [("pull", "b", "constraint_failed", "retried")]
    assert list(device.rows()) == ["b"]


def test_a_trigger_of_the_app_fires_and_one_that_leaves_a_row_out_is_noticed(device):
    device.app("CREATE TABLE log (key TEXT) STRICT")
    device.app("CREATE TRIGGER app_log AFTER INSERT ON journeys BEGIN INSERT INTO log VALUES (NEW.id); END")
    device.app(
        "CREATE TRIGGER app_no BEFORE INSERT ON journeys WHEN NEW.title = 'no' BEGIN SELECT RAISE(IGNORE); END"
    )
    device.page(journey("a"), journey("b", title="no"), journey("c"))
    assert device.store.query("SELECT key FROM log ORDER BY key") == [("a",), ("c",)]
    assert [(origin, key) for origin, key, *_ in device.quarantine()] == [("pull", "b")]


def test_a_trigger_that_ends_the_transaction_costs_its_row_alone(device):
    device.app(
        "CREATE TRIGGER app_no BEFORE INSERT ON journeys WHEN NEW.title = 'no'"
        " BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
    )
    device.page(journey("a"), journey("b", title="no"), journey("c"))
    assert list(device.rows()) == ["a", "c"]
    assert [(origin, key) for origin, key, *_ in device.quarantine()] == [("pull", "b")]
    assert device.cursor() == "c1"


# What waits for other rows.


def test_a_row_whose_parent_has_not_come_is_parked_until_it_has(device):
    device.page(note("n", journey="a"), note("m"))
    assert list(device.rows("notes")) == ["m"]
    assert device.parked() == {"n": "parent_missing"}
    device.page(journey("a"))
    try_parked(device.applier, standing(device.store, "ann"), reasons=UNTIL_OTHERS_CAME)
    assert list(device.rows("notes")) == ["m", "n"]
    assert device.parked() == {}
    assert device.outbox() == []


def test_children_and_parents_may_come_in_any_order_within_a_page(device):
    device.page(note("n", journey="a"), journey("a"))
    device.page(gone("journeys", "a", 3), note("n", 4, journey=None))
    assert list(device.rows("notes")) == ["n"]
    assert device.rows() == {}
    device.page(journey("b"), note("k", journey="b"))
    device.page(
        note("x", journey="nobody"),
        gone("journeys", "b", 6),
        gone("notes", "k", 5),
        journey("c"),
        note("y", journey="c"),
    )
    assert list(device.rows()) == ["c"]
    assert list(device.rows("notes")) == ["n", "y"]
    assert device.parked() == {"x": "parent_missing"}


def test_children_that_come_before_their_parents_are_written_together_with_them(device):
    device.page(journey("first"), note("first"))
    said = []
    device.store.connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda told: said.append(told["sql"]))
    device.page(note("n", journey="a"), journey("a"))
    device.store.connection.trace_v2(0, None)
    assert list(device.rows("notes")) == ["first", "n"]
    assert not [sql for sql in said if "SAVEPOINT" in sql]


def test_a_deleted_parent_whose_children_are_here_alone_waits_for_them(device):
    device.page(journey("a"))
    device.app("INSERT INTO notes VALUES ('ann', 'mine', 'a', 'text')")
    device.page(gone("journeys", "a", 2), journey("b"))
    assert list(device.rows()) == ["a", "b"]
    assert device.parked() == {"a": "children_left"}
    device.app("DELETE FROM notes")
    try_parked(device.applier, standing(device.store, "ann"), reasons=UNTIL_OTHERS_CAME)
    assert list(device.rows()) == ["b"]
    assert device.parked() == {}


CASCADING = TABLES.replace("REFERENCES journeys (user_id, id)", "REFERENCES journeys (user_id, id) ON DELETE CASCADE")


@pytest.mark.parametrize(("tables", "is_remade"), [(TABLES, False), (CASCADING, True)], ids=["plain", "cascading"])
def test_capture_is_made_anew_for_a_page_only_where_foreign_keys_write_elsewhere(tmp_path, tables, is_remade):
    device = Device(tmp_path, tables=tables)
    device.page(journey("a"), note("n", journey="a"))
    before = device.store.query("PRAGMA schema_version")
    device.page(journey("b"))
    assert (device.store.query("PRAGMA schema_version") != before) is is_remade
    device.app("UPDATE journeys SET steps = 8 WHERE id = 'b'")
    assert device.outbox() == [("patch", "b", {"steps": 8}, {"steps": 7})]
    device.close()


def test_what_a_foreign_key_deletes_in_another_table_is_queued(tmp_path):
    device = Device(tmp_path, tables=CASCADING)
    device.page(journey("a"), note("n", journey="a"))
    device.page(gone("journeys", "a", 2))
    assert device.parked() == {"a": "children_left"}, "on a later page it may have another parent"
    assert list(device.rows("notes")) == ["n"]
    decide_kin(device.applier, standing(device.store, "ann"))
    assert device.rows("notes") == device.rows() == device.parked() == {}
    assert [(kind, key) for kind, key, *_ in device.outbox()] == [("delete", "n")]
    assert device.quarantine() == [("pull", "n", "parent_deleted", None)]
    device.close()


UNIQUE_TITLES = TABLES.replace(
    "PRIMARY KEY (user_id, id)\n) STRICT;\nCREATE TABLE notes",
    "PRIMARY KEY (user_id, id), UNIQUE (user_id, title) ON CONFLICT REPLACE\n) STRICT;\nCREATE TABLE notes",
)


def titles(device: Device) -> dict[str, str]:
    return {key: row["title"] for key, row in device.rows().items()}


def test_a_clash_parks_the_row_and_passes_when_the_other_has_changed(tmp_path):
    device = Device(tmp_path, tables=UNIQUE_TITLES)
    device.page(journey("a", title="one"), journey("b", title="two"))
    device.page(journey("c", 3, title="one"), journey("b", 4, title="three"))
    assert titles(device) == {"a": "one", "b": "three"}, "no rule of the table takes another row away"
    assert device.parked() == {"c": "clash"}
    device.page(journey("a", 5, title="four"))
    try_parked(device.applier, standing(device.store, "ann"), reasons=UNTIL_OTHERS_CAME)
    assert titles(device) == {"a": "four", "b": "three", "c": "one"}
    assert device.parked() == {}
    device.close()


def test_a_clash_that_is_left_at_the_end_goes_to_quarantine(tmp_path):
    device = Device(tmp_path, tables=UNIQUE_TITLES)
    device.page(journey("a", title="one"), journey("c", 3, title="one"))
    assert device.parked() == {"c": "clash"}
    assert len(give_up_clashes(device.applier)) == 1
    assert device.quarantine() == [("pull", "c", "constraint_failed", None)]
    assert device.parked() == {}
    assert titles(device) == {"a": "one"}
    device.close()


NOCASE_KEYS = TABLES.replace(
    "user_id TEXT NOT NULL, id TEXT NOT NULL", "user_id TEXT NOT NULL, id TEXT NOT NULL COLLATE NOCASE"
)


def test_a_row_whose_key_another_one_spells_differently_is_not_written_over_it(tmp_path):
    device = Device(tmp_path, tables=NOCASE_KEYS)
    device.page(journey("Key", title="ours"))
    device.page(journey("kEY", title="theirs"), journey("b"))
    assert titles(device) == {"Key": "ours", "b": "a walk"}
    assert device.parked() == {"kEY": "clash"}
    device.page(gone("journeys", "KEY", 7), journey("Key", 8, title="newer"))
    assert titles(device) == {"Key": "newer", "b": "a walk"}
    give_up_clashes(device.applier)
    assert [(origin, key) for origin, key, *_ in device.quarantine()] == [("pull", "kEY")]
    device.close()


def test_a_row_with_which_the_table_cannot_count_is_set_aside_and_the_others_come_in(device):
    """SQLite has no constraint to name: an index, a CHECK or a generated column of the app cannot be worked out."""
    device.app("CREATE INDEX app_index ON notes (text -> '$.a')")
    device.page(note("a", text="{}"), note("b", text="no JSON"), *[note(f"c{each}", text="[]") for each in range(20)])
    assert len(device.rows("notes")) == 21
    assert device.quarantine() == [("pull", "b", "quarantined_by_rule", None)]
    assert device.cursor() == "c1"


def test_a_key_that_was_spelled_anew_comes_in_with_its_deletion(tmp_path):
    device = Device(tmp_path, tables=NOCASE_KEYS)
    device.page(journey("key", title="old"))
    device.page(journey("KEY", 3, title="new"), gone("journeys", "key", 2))
    assert titles(device) == {"KEY": "new"}
    device.close()


def test_values_that_were_passed_on_in_a_row_come_in_together(tmp_path):
    device = Device(tmp_path, tables=UNIQUE_TITLES)
    device.page(journey("a", title="one"), journey("b", title="two"), journey("c", title="three"))
    device.page(journey("a", 2, title="two"), journey("b", 3, title="three"), journey("c", 4, title="four"))
    assert titles(device) == {"a": "two", "b": "three", "c": "four"}
    device.close()


def test_values_that_were_exchanged_come_in_together(tmp_path):
    tables = UNIQUE_TITLES.replace(", FOREIGN KEY (user_id, journey) REFERENCES journeys (user_id, id)", "")
    device = Device(tmp_path, tables=tables)
    device.page(journey("a", title="one"), journey("b", title="two"))
    device.page(journey("a", 2, title="two"), journey("b", 3, title="one"))
    assert titles(device) == {"a": "two", "b": "one"}
    device.close()


# Not readable here.


def test_what_a_newer_app_wrote_is_parked_and_the_last_known_form_stays(device):
    device.page(journey("a"))
    newer = pulled("journeys", "a", 2, {"id": "a", "name": "new field"}, shape="3.0.0")
    device.page(newer, pulled("unheard_of", "x", 3, {"id": "x"}), pulled("journeys", "z", 4, {}, shape="odd"))
    assert device.rows()["a"]["title"] == "a walk"
    assert device.parked() == {"a": "newer_shape", "x": "unknown_collection", "z": "newer_shape"}
    assert device.known()["a"] == (2, 0)
    device.page(gone("journeys", "a", 5))
    assert "a" not in device.parked(), "it is gone in any shape"
    assert device.rows() == {}


def test_a_process_of_an_older_app_applies_nothing_to_a_migrated_store(device):
    with device.store.transaction():
        device.store.query("UPDATE _sync_collection SET shape_version = '3.0.0' WHERE name = 'journeys'")
    with pytest.raises(StoreSuperseded):
        device.page(journey("a"))
    assert device.cursor() is None


def test_memory_stays_flat_over_many_pages(tmp_path):
    import tracemalloc

    device = Device(tmp_path, settings=Settings())
    peaks = []
    tracemalloc.start()
    for number in range(12):
        rows = [journey(f"k{number:04}{each:04}", number * 1_000 + each + 1) for each in range(500)]
        device.page(*rows)
        del rows
        peaks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert peaks[-1] - peaks[2] < 200_000, "what a page held is let go"
    device.close()


def test_the_end_of_a_reading_from_the_start_does_not_read_all_that_is_known_for_each_page(device):
    sql = statement("pull", "unseen_rows")
    values = dict.fromkeys(re.findall(r":(\w+)", sql), "x")
    plan = [detail for *_, detail in device.store.query("EXPLAIN QUERY PLAN " + sql, values)]
    assert len(plan) == 1, plan
    assert plan[0].startswith("SEARCH _sync_row USING INDEX sqlite_autoindex__sync_row_1 ((row_key")
