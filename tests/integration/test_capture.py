"""Every edit of a synced collection is in the outbox, whoever made it and however; nothing else is."""

import json
import math
import shutil
import sqlite3

import apsw
import orjson
import pytest
from capture_world import WALKS, CaptureWorld

from syncengine.clock import SystemClock, iso
from syncengine.outbox.capture import (
    capture_off,
    drop_capture,
    install_capture,
    synced_collections,
    verify_capture,
)
from syncengine.outbox.reconcile import reconcile
from syncengine.outbox.row_body import LiveRows, RowUnreadable, sendable_json

WALK = {"user_id": "ann", "id": "w1", "title": "To the sea", "meters": 0.1, "steps": 7, "picture": b"\x00\xff"}
BODY = {"id": "w1", "title": "To the sea", "meters": 0.1, "steps": 7, "picture": {"$hex": "00FF"}}
PLAIN_WALKS = WALKS.replace(", picture BLOB", "")
"""Of columns that JSON has a type for."""
PLAIN_WALK = {name: value for name, value in WALK.items() if name != "picture"}

needs_cli = pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs the sqlite3 command line")


@pytest.fixture
def make(tmp_path):
    made = []

    def _make(*args, **facts):
        made.append(CaptureWorld(tmp_path, *args, **facts))
        return made[-1]

    yield _make
    for world in made:
        world.close()


@pytest.fixture
def world(make):
    return make()


# What each edit becomes.


def test_an_insert_is_queued_as_a_put_of_the_whole_row_without_its_owner(world):
    world.insert(**WALK)
    assert world.entries() == [("put", "ann", "w1", BODY, None)]
    assert world.raw("collection, shape_version, state, sequence, base_version") == [
        ("walks", "3.0.0", "waiting", None, None)
    ]


def test_an_update_is_queued_as_what_it_changed_with_the_old_values(world):
    world.insert(**WALK)
    world.forget()
    world.write("UPDATE walks SET title = 'Home', steps = NULL, meters = 0.1")
    assert world.entries() == [
        ("patch", "ann", "w1", {"title": "Home", "steps": None}, {"title": "To the sea", "steps": 7})
    ]


def test_an_update_that_changes_nothing_queues_nothing(world):
    world.insert(**WALK)
    world.forget()
    world.write("UPDATE walks SET title = title, picture = picture, id = id, user_id = user_id")
    assert world.entries() == []


def test_a_delete_is_queued_with_the_whole_old_row(world):
    world.insert(**WALK)
    world.forget()
    world.write("DELETE FROM walks")
    assert world.entries() == [("delete", "ann", "w1", None, BODY)]


def test_one_statement_over_many_rows_queues_one_entry_for_each(world):
    for number in range(5):
        world.insert(**{**WALK, "id": f"w{number}", "steps": number})
    world.forget()
    world.write("UPDATE walks SET steps = steps + 1 WHERE steps > 1")
    assert [(key, new) for _, _, key, new, _ in world.entries()] == [
        ("w2", {"steps": 3}),
        ("w3", {"steps": 4}),
        ("w4", {"steps": 5}),
    ]


def test_a_changed_key_is_a_delete_of_the_old_row_and_a_put_of_the_new_one(world):
    world.insert(**WALK)
    world.forget()
    world.write("UPDATE walks SET id = 'w2', steps = 8")
    assert world.entries() == [
        ("delete", "ann", "w1", None, BODY),
        ("put", "ann", "w2", {**BODY, "id": "w2", "steps": 8}, None),
    ]


def test_a_changed_owner_leaves_the_one_queue_and_enters_the_other(world):
    world.insert(**WALK)
    world.forget()
    world.write("UPDATE walks SET user_id = 'bob'")
    assert world.entries() == [("delete", "ann", "w1", None, BODY), ("put", "bob", "w1", BODY, None)]


def test_rows_of_nobody_are_not_queued_until_somebody_owns_them(make):
    world = make("CREATE TABLE walks (user_id TEXT, id TEXT PRIMARY KEY, title TEXT)")
    world.insert(user_id=None, id="a")
    world.insert(user_id="", id="b")
    world.insert(user_id="ann", id=None)
    world.write("UPDATE walks SET title = 'x'")
    world.write("DELETE FROM walks WHERE id = 'b'")
    assert world.entries() == []
    world.write("UPDATE walks SET user_id = 'ann' WHERE id = 'a'")
    assert world.kinds() == [("put", "a")]
    world.write("UPDATE walks SET user_id = NULL WHERE id = 'a'")
    assert world.kinds() == [("put", "a"), ("delete", "a")]


def test_an_upsert_is_queued_as_what_it_did(world):
    for steps in (1, 2):
        world.write(
            "INSERT INTO walks (user_id, id, steps) VALUES ('ann', 'w1', ?) "
            "ON CONFLICT DO UPDATE SET steps = excluded.steps",
            steps,
        )
    assert [(kind, new.get("steps")) for kind, _, _, new, _ in world.entries()] == [("put", 1), ("patch", 2)]


def test_replace_on_our_connection_queues_the_row_that_went_too(make):
    world = make("CREATE TABLE walks (user_id TEXT, id TEXT PRIMARY KEY, day TEXT UNIQUE)")
    world.insert(user_id="ann", id="a", day="mon")
    world.write("INSERT OR REPLACE INTO walks VALUES ('ann', 'b', 'mon')")
    assert world.kinds() == [("put", "a"), ("delete", "a"), ("put", "b")]


def test_what_an_edit_ignores_is_not_queued_and_what_it_keeps_is(make):
    world = make("CREATE TABLE walks (user_id TEXT, id TEXT PRIMARY KEY, steps INTEGER CHECK (steps > 0))")
    world.write(
        "INSERT OR IGNORE INTO walks VALUES ('ann', 'a', 1), ('ann', 'a', 2), ('ann', 'b', -1), ('ann', 'c', 3)"
    )
    assert world.kinds() == [("put", "a"), ("put", "c")]


def test_an_edit_that_is_rolled_back_takes_its_entries_along(world):
    def fail():
        with world.store.transaction():
            world.store.query("INSERT INTO walks (user_id, id) VALUES ('ann', 'w1')")
            raise ValueError("changed my mind")

    with pytest.raises(ValueError, match="changed my mind"):
        fail()
    assert world.entries() == []


def test_children_that_go_with_their_parent_are_queued(make):
    world = make("CREATE TABLE walks (user_id TEXT, id TEXT PRIMARY KEY, title TEXT)")
    with world.store.transaction():
        world.store.query(
            "CREATE TABLE stops (user_id TEXT, id TEXT PRIMARY KEY, walk TEXT REFERENCES walks ON DELETE CASCADE)"
        )
        world.record("stops")
        install_capture(world.store, "stops")
    world.insert(user_id="ann", id="w1")
    world.write("INSERT INTO stops VALUES ('ann', 's1', 'w1')")
    world.forget()
    world.write("DELETE FROM walks")
    assert sorted(world.kinds()) == [("delete", "s1"), ("delete", "w1")]


def test_what_the_apps_own_triggers_write_is_queued(world):
    world.write("CREATE TRIGGER shout AFTER INSERT ON walks BEGIN UPDATE walks SET title = upper(title); END")
    world.insert(**WALK)
    kinds = sorted(world.kinds())
    assert kinds == [("patch", "w1"), ("put", "w1")]


# Values.


def test_a_blob_is_sent_in_base64_and_the_rest_as_it_was(world):
    world.insert(**WALK)
    ((text,),) = world.raw("set_json")
    assert orjson.loads(sendable_json(text)) == {**BODY, "picture": {"$blob": "AP8="}}
    plain = '{"title":"a \\"$hex\\" of \\\\u0000 in words"}'
    assert sendable_json(plain) == plain


def test_a_live_row_is_read_for_a_put_that_only_names_it_as_capture_would_have_written_it(world):
    world.insert(**WALK)
    ((text,),) = world.raw("set_json")
    live = LiveRows(world.store).body_json("walks", owner="ann", row_key="w1")
    assert orjson.loads(live) == orjson.loads(sendable_json(text))


@pytest.fixture(params=[(WALKS, WALK), (PLAIN_WALKS, PLAIN_WALK)], ids=["with a blob", "plain"])
def kept(make, request):
    """A table, and a row of it."""
    create, row = request.param
    return make(create), row


@pytest.mark.parametrize("meters", [math.inf, -math.inf])
def test_a_number_that_is_not_finite_does_not_stop_the_edit_and_is_known_when_it_is_to_be_sent(kept, meters):
    world, row = kept
    world.insert(**{**row, "meters": meters})
    ((text,),) = world.raw("set_json")
    with pytest.raises(RowUnreadable) as caught:
        sendable_json(text)
    assert caught.value.code == "number_not_finite"


def test_a_text_with_nul_does_not_stop_the_edit_and_is_known_when_it_is_to_be_sent(kept):
    world, row = kept
    world.insert(**{**row, "title": "a\0b"})
    ((text,),) = world.raw("set_json")
    assert json.loads(text)["title"] == "a\0b"
    with pytest.raises(RowUnreadable) as caught:
        sendable_json(text)
    assert caught.value.code == "text_holds_nul"


@pytest.mark.parametrize("hurt", ["61ff62", "eda080"], ids=["no UTF-8", "half a surrogate pair"])
def test_a_text_that_is_no_utf8_does_not_stop_the_edit_and_keeps_its_bytes(kept, hurt):
    world, _ = kept
    world.write(f"INSERT INTO walks (user_id, id, title) VALUES ('ann', 'w1', CAST(x'{hurt}' AS TEXT))")
    ((kind, body),) = world.raw("kind, CAST(set_json AS BLOB)")
    assert kind == "put"
    assert bytes.fromhex(hurt) in body


ODD = ['it\'s "so" \\ \t\n\x01\x7f', "\N{SNOWMAN} 🏃🏽 \u2028 é", "", '{"$hex": "00"}', "null", "</script>", "%s%d%%"]


@pytest.mark.parametrize("title", ODD)
def test_any_text_comes_back_as_it_was(kept, title):
    world, row = kept
    world.insert(**{**row, "title": title, "id": "k" + title.strip("\x01\x7f\t\n")})
    ((_, _, key, body, _),) = world.entries()
    assert (body["title"], body["id"]) == (title, key)


@pytest.mark.parametrize("steps", [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_any_integer_comes_back_as_it_was(kept, steps):
    world, row = kept
    world.insert(**{**row, "steps": steps})
    assert world.entries()[0][3]["steps"] == steps


MADE_BY_JSON_FUNCTIONS = {
    "json_array(1, 'x')": '[1,"x"]',
    "json_object('a', 1)": '{"a":1}',
    "(SELECT json_group_array(value) FROM json_each('[1,2]'))": "[1,2]",
    "json_insert('[\"red\"]', '$[#]', 'blue')": '["red","blue"]',
    "json('[1,2]')": "[1,2]",
    "json('null')": "null",
    "json('true')": "true",
    "json('1.50')": "1.50",
    "json_quote('x')": '"x"',
    """'{"a":{"b":"c"}}' -> '$.a.b'""": '"c"',
    """json('{"$blob":"AA=="}')""": '{"$blob":"AA=="}',
    """json('{"$hex":"41"}')""": '{"$hex":"41"}',
    """json('{"$real":"inf"}')""": '{"$real":"inf"}',
}


@pytest.mark.parametrize("by", ["app", "module", "cli"])
@pytest.mark.parametrize(
    "columns",
    [
        "(user_id TEXT, id TEXT, a TEXT, b TEXT) STRICT",
        "(user_id TEXT, id TEXT, a TEXT, b ANY) STRICT",
        "(user_id, id, a TEXT, b)",
    ],
)
def test_a_text_that_a_json_function_made_is_queued_as_the_text_that_the_row_holds(make, columns, by):
    if by == "cli" and shutil.which("sqlite3") is None:
        pytest.skip("needs the sqlite3 command line")
    world = make(f"CREATE TABLE walks {columns}")

    execute = {"app": world.write, "module": world.other_library, "cli": world.cli}[by]
    expressions = enumerate(MADE_BY_JSON_FUNCTIONS)
    execute("INSERT INTO walks VALUES " + ", ".join(f"('ann', 'i{at}', {made}, {made})" for at, made in expressions))
    texts = list(MADE_BY_JSON_FUNCTIONS.values())
    assert world.store.query("SELECT a, b, typeof(b) FROM walks") == [(text, text, "text") for text in texts]
    assert [(new["a"], new["b"]) for _, _, _, new, _ in world.entries()] == [(text, text) for text in texts]

    world.forget()
    execute("UPDATE walks SET a = json_array(a), b = json_array(b)")
    wrapped = [orjson.dumps([text]).decode() for text in texts]
    assert [(new, old) for _, _, _, new, old in world.entries()] == [
        ({"a": new, "b": new}, {"a": old, "b": old}) for new, old in zip(wrapped, texts, strict=True)
    ]


@pytest.mark.parametrize("made", MADE_BY_JSON_FUNCTIONS)
@pytest.mark.parametrize("kind", ["TEXT", "ANY"])
def test_a_row_of_its_own_that_a_json_function_made_is_queued_as_the_text_that_it_holds(make, kind, made):
    world = make(f"CREATE TABLE walks (user_id TEXT, id TEXT, a {kind}) STRICT")
    world.write(f"INSERT INTO walks VALUES ('ann', 'k', {made})")
    assert [new["a"] for _, _, _, new, _ in world.entries()] == [MADE_BY_JSON_FUNCTIONS[made]]


def test_the_type_of_a_value_counts_where_a_column_takes_any(make):
    world = make("CREATE TABLE walks (user_id TEXT, id TEXT PRIMARY KEY, any ANY, bare ANY) STRICT")
    world.insert(user_id="ann", id="a", any=1, bare="1")
    world.forget()
    world.write("UPDATE walks SET any = 1.0, bare = 1")
    ((text,),) = world.raw("set_json")
    assert text == '{"any":1.0,"bare":1}'


# Shapes of tables.


def test_columns_with_names_like_keywords_or_with_quotes_are_captured(make):
    names = ["select", "group", 'a"b', "it's", "new.x", "back\\slash", "ünï", "a b", "$hex", "%s", "tab\tbed"]
    columns = ", ".join('"' + name.replace('"', '""') + '" TEXT' for name in names)
    world = make(
        f'CREATE TABLE "wal""k\'s" (user_id TEXT, "or""der" TEXT PRIMARY KEY, {columns})',
        collection="wal\"k's",
        key='or"der',
    )
    world.insert(**{"user_id": "ann", 'or"der': "k", **{name: name for name in names}})
    world.write('UPDATE "wal""k\'s" SET "select" = 1, "it\'s" = 2')
    assert [entry[3] for entry in world.entries()] == [
        {'or"der': "k", **{name: name for name in names}},
        {"select": "1", "it's": "2"},
    ]


def test_what_sqlite_computes_is_not_sent(make):
    world = make(
        "CREATE TABLE walks (user_id TEXT, id TEXT PRIMARY KEY, a INTEGER, "
        "b INTEGER AS (a + 1), c INTEGER AS (a + 2) STORED) STRICT"
    )
    world.insert(user_id="ann", id="k", a=1)
    world.write("UPDATE walks SET a = 5")
    assert [entry[3] for entry in world.entries()] == [{"id": "k", "a": 1}, {"a": 5}]
    assert orjson.loads(LiveRows(world.store).body_json("walks", owner="ann", row_key="k")) == {"id": "k", "a": 5}


def test_a_table_without_rowid_is_captured(make):
    world = make(WALKS.replace("STRICT", "STRICT, WITHOUT ROWID"))
    world.insert(**WALK)
    world.write("UPDATE walks SET id = 'w2'")
    world.write("DELETE FROM walks")
    assert world.kinds() == [("put", "w1"), ("delete", "w1"), ("put", "w2"), ("delete", "w2")]


def test_keys_and_values_that_compare_alike_are_told_apart_by_their_bytes(make):
    world = make("CREATE TABLE walks (user_id TEXT, id TEXT COLLATE NOCASE PRIMARY KEY, title TEXT COLLATE NOCASE)")
    world.insert(user_id="ann", id="k", title="sea")
    world.forget()
    world.write("UPDATE walks SET title = 'Sea'")
    world.write("UPDATE walks SET id = 'K'")
    assert world.entries() == [
        ("patch", "ann", "k", {"title": "Sea"}, {"title": "sea"}),
        ("delete", "ann", "k", None, {"id": "k", "title": "Sea"}),
        ("put", "ann", "K", {"id": "K", "title": "Sea"}, None),
    ]


def test_a_key_that_is_an_integer_is_a_text_in_the_queue(make):
    world = make("CREATE TABLE walks (user_id TEXT, id INTEGER PRIMARY KEY, title TEXT)")
    world.insert(user_id="ann", id=12, title="a")
    world.write("UPDATE walks SET rowid = 13")
    assert world.raw("kind, row_key, typeof(row_key)") == [
        ("put", "12", "text"),
        ("delete", "12", "text"),
        ("put", "13", "text"),
    ]
    assert LiveRows(world.store).body_json("walks", owner="ann", row_key="13") == '{"id":13,"title":"a"}'


@pytest.mark.parametrize("count", [1, 2, 63, 64, 200, 1_990])
def test_a_table_may_have_as_many_columns_as_sqlite_takes(make, count):
    columns = ", ".join(f"c{number} {('TEXT', 'REAL', 'INTEGER', 'BLOB')[number % 4]}" for number in range(count))
    world = make(f"CREATE TABLE walks (user_id TEXT, id TEXT PRIMARY KEY, {columns})")
    world.write("INSERT INTO walks (user_id, id, c0) VALUES ('ann', 'k', 'x')")
    world.write(f"UPDATE walks SET c0 = 'y', c{count - 1} = 'z'")
    world.write("DELETE FROM walks")
    put, patch, delete = world.entries()
    assert len(put[3]) == len(delete[4]) == count + 1
    assert patch[3] == {"c0": "y", f"c{count - 1}": "z"} if count > 1 else {"c0": "z"}


@needs_cli
@pytest.mark.parametrize("count", [1, 62, 63, 200])
def test_a_plain_table_may_have_as_many_columns_as_sqlite_takes(make, count):
    columns = ", ".join(f"c{number} {('TEXT', 'REAL', 'INTEGER')[number % 3]}" for number in range(count))
    world = make(f"CREATE TABLE walks (user_id TEXT, id TEXT PRIMARY KEY, {columns}) STRICT")
    nulls = dict.fromkeys(f"c{number}" for number in range(1, count))
    for key, write in (("k", world.write), ("l", world.cli)):
        write(f"INSERT INTO walks (user_id, id, c0) VALUES ('ann', '{key}', 'x')")
        assert world.entries()[-1] == ("put", "ann", key, {"id": key, "c0": "x", **nulls}, None)


@pytest.mark.parametrize("kind", ["", "BLOB"])
def test_a_key_that_is_a_blob_does_not_stop_the_edit(make, kind):
    world = make(f"CREATE TABLE walks (user_id TEXT, id {kind} PRIMARY KEY)")
    world.write("INSERT INTO walks VALUES ('ann', x'6b')")
    assert world.kinds() == [("put", "\x1aX'6B'")]


def test_a_table_of_keys_alone_is_captured(make):
    world = make("CREATE TABLE walks (user_id TEXT, id TEXT, PRIMARY KEY (user_id, id)) STRICT")
    world.insert(user_id="ann", id="k")
    world.write("UPDATE walks SET id = 'l'")
    assert world.kinds() == [("put", "k"), ("delete", "k"), ("put", "l")]


# Other programs.


@needs_cli
def test_edits_by_the_command_line_are_captured(world):
    world.cli("INSERT INTO walks VALUES ('ann', 'w1', 'it''s', 0.1, 7, x'00ff')")
    world.cli("UPDATE walks SET title = 'b', meters = 1e308 WHERE id = 'w1'")
    world.cli("DELETE FROM walks")
    put, patch, delete = world.entries()
    assert put == ("put", "ann", "w1", {**BODY, "title": "it's"}, None)
    assert patch[3:] == ({"title": "b", "meters": 1e308}, {"title": "it's", "meters": 0.1})
    assert delete[4] == {**BODY, "title": "b", "meters": 1e308}


@needs_cli
def test_an_entry_has_the_time_of_its_edit_to_the_millisecond_whichever_library_wrote_it(world):
    begun_ms = SystemClock().now_ms()
    world.insert(**WALK)
    world.cli("INSERT INTO walks VALUES ('ann', 'w2', 'x', 0.1, 7, x'00ff')")
    ended_ms = SystemClock().now_ms()
    ours, theirs = (moment for (moment,) in world.raw("created_ms"))
    assert begun_ms - 1 <= ours <= theirs <= ended_ms + 1
    shown = world.store.query("SELECT since FROM sync_outbox ORDER BY entry")
    assert shown == [(iso(ours),), (iso(theirs),)]


@needs_cli
def test_what_replace_of_the_command_line_took_away_is_found_by_reconcile(make):
    world = make("CREATE TABLE walks (user_id TEXT, id TEXT PRIMARY KEY, day TEXT UNIQUE)")
    world.insert(user_id="ann", id="a", day="mon")
    world.cli("PRAGMA recursive_triggers = OFF; INSERT OR REPLACE INTO walks VALUES ('ann', 'b', 'mon')")
    assert world.kinds() == [("put", "a"), ("put", "b")]
    report = reconcile(world.store)
    assert [(found.collection, found.puts, found.deletes) for found in report.collections] == [("walks", 0, 1)]
    assert world.kinds()[2:] == [("delete", "a")]
    assert reconcile(world.store).queued == 0


def test_an_old_library_writes_the_same_entries(world):
    if sqlite3.sqlite_version_info < (3, 37):
        pytest.skip(f"STRICT tables need SQLite 3.37; this Python has {sqlite3.sqlite_version}")
    world.insert(**WALK)
    other = sqlite3.connect(world.path)
    other.execute("INSERT INTO walks VALUES ('ann', 'w2', ?, ?, ?, ?)", (*list(WALK.values())[2:],))
    other.commit()
    other.close()
    ours, theirs = world.entries()
    assert {**theirs[3], "id": "w1"} == ours[3]


# Off and on.


def test_without_its_triggers_nothing_is_queued_and_they_can_be_made_again(world):
    made = world.triggers()
    with world.store.transaction():
        drop_capture(world.store, "walks")
    world.insert(**WALK)
    assert (world.entries(), world.triggers()) == ([], {})
    with world.store.transaction():
        install_capture(world.store, "walks")
        install_capture(world.store, "walks")
    assert world.triggers() == made


@pytest.mark.parametrize("reshaping", [False, True])
@pytest.mark.parametrize("other", [False, True], ids=["alone", "with a trigger of the app"])
def test_what_is_written_with_capture_off_is_not_queued_and_the_apps_triggers_fire(world, reshaping, other):
    world.write("CREATE TABLE seen (id TEXT)")
    if other:
        world.write("CREATE TRIGGER see AFTER INSERT ON walks BEGIN INSERT INTO seen VALUES (NEW.id); END")
    with world.store.transaction(), capture_off(world.store, ("walks",), reshaping=reshaping):
        world.store.query("INSERT INTO walks (user_id, id) VALUES ('ann', 'w1')")
    assert world.entries() == []
    assert world.store.query("SELECT count(*) FROM seen") == [(int(other),)]
    world.insert(**{**WALK, "id": "w2"})
    assert world.kinds() == [("put", "w2")]


@pytest.mark.parametrize("reshaping", [False, True])
def test_an_exception_while_capture_is_off_leaves_it_on(world, reshaping):
    def fail():
        with capture_off(world.store, ("walks",), reshaping=reshaping):
            world.store.query("INSERT INTO walks (user_id, id) VALUES ('ann', 'w1')")
            raise ValueError("changed my mind")

    with world.store.transaction(), pytest.raises(ValueError, match="changed my mind"):
        fail()
    world.write("DELETE FROM walks")
    world.insert(**{**WALK, "id": "w2"})
    assert world.kinds()[-1] == ("put", "w2")


def test_after_a_change_of_shape_the_triggers_are_those_of_the_new_one(world):
    with world.store.transaction(), capture_off(world.store, ("walks",), reshaping=True):
        world.store.query("ALTER TABLE walks RENAME COLUMN title TO name")
        world.store.query("ALTER TABLE walks DROP COLUMN steps")
        world.store.query("ALTER TABLE walks ADD COLUMN mood TEXT")
        world.record("walks", shape="4.0.0")
    world.insert(user_id="ann", id="w1", name="a", mood="good")
    assert world.entries()[0][3] == {"id": "w1", "name": "a", "meters": None, "picture": None, "mood": "good"}
    assert world.raw("shape_version") == [("4.0.0",)]


def test_other_collections_are_captured_while_one_is_off(world):
    with world.store.transaction():
        world.store.query("CREATE TABLE places (user_id TEXT, id TEXT PRIMARY KEY)")
        world.record("places")
        install_capture(world.store, "places")
    with world.store.transaction(), capture_off(world.store, ("walks",)):
        world.store.query("INSERT INTO walks (user_id, id) VALUES ('ann', 'w1')")
        world.store.query("INSERT INTO places VALUES ('ann', 'p1')")
    assert world.kinds() == [("put", "p1")]
    assert synced_collections(world.store) == ("places", "walks")


@pytest.mark.parametrize("known", [True, False])
def test_a_start_does_not_look_again_because_capture_was_off(world, known):
    with world.store.transaction():
        cookie = world.store.value("opening", "cookie") if known else -5
        world.store.run("state", "set", name="schema_cookie", value=str(cookie))
    with world.store.transaction(), capture_off(world.store, ("walks",), reshaping=True):
        world.store.query("INSERT INTO walks (user_id, id) VALUES ('ann', 'w1')")
    now = world.store.value("opening", "cookie")
    assert (world.store.value("state", "get", name="schema_cookie") == str(now)) is known


def test_a_collection_without_an_owner_is_never_captured(make):
    world = make("CREATE TABLE walks (id TEXT PRIMARY KEY)", owner=None)
    world.insert(id="k")
    assert (world.triggers(), world.entries()) == ({}, [])


# Put right.


HURTS = {
    "gone": "DROP TRIGGER _sync_capture_walks_update",
    "all gone": (
        "DROP TRIGGER _sync_capture_walks_insert; DROP TRIGGER _sync_capture_walks_update;"
        "DROP TRIGGER _sync_capture_walks_rekey; DROP TRIGGER _sync_capture_walks_delete"
    ),
    "another": (
        "DROP TRIGGER _sync_capture_walks_delete;"
        "CREATE TRIGGER _sync_capture_walks_delete AFTER DELETE ON walks BEGIN SELECT 1; END"
    ),
    "another shape": "UPDATE _sync_collection SET shape_version = '9.0.0'",
}


@pytest.mark.parametrize("hurt", HURTS)
def test_triggers_that_are_not_as_they_ought_to_be_are_put_right(world, hurt):
    for statement in HURTS[hurt].split(";") if hurt != "another" else HURTS[hurt].split(";", 1):
        world.write(statement)
    with world.store.transaction():
        assert verify_capture(world.store) == ("walks",)
        assert verify_capture(world.store) == ()
    world.insert(**WALK)
    world.write("UPDATE walks SET steps = 8")
    world.write("DELETE FROM walks")
    assert [kind for kind, _ in world.kinds()] == ["put", "patch", "delete"]


def test_triggers_of_a_collection_that_is_no_more_go(world):
    world.write("DELETE FROM _sync_collection")
    with world.store.transaction():
        assert verify_capture(world.store) == ()
    assert world.triggers() == {}


def test_a_collection_whose_table_a_person_has_to_look_at_is_left_alone(world):
    world.write("DROP TRIGGER _sync_capture_walks_update")
    before = world.triggers()
    with world.store.transaction():
        assert verify_capture(world.store, but=("walks",)) == ()
    assert world.triggers() == before


# Reconcile.


def unseen(world, sql):
    with world.store.transaction(), world.store.without_triggers():
        world.store.query(sql)


def at_cloud(world, *keys, deleted=0):
    world.write("INSERT OR IGNORE INTO _sync_row_set (owner, collection) VALUES ('ann', 'walks')")
    for key in keys:
        world.write(
            "INSERT INTO _sync_row (row_set_id, collection, owner, row_key, version, shape_version, deleted)"
            " SELECT row_set_id, collection, owner, ?, 1, '3.0.0', ? FROM _sync_row_set",
            key,
            deleted,
        )


def test_reconcile_queues_rows_that_the_cloud_never_heard_of_and_rows_that_are_gone(world):
    unseen(
        world, "INSERT INTO walks (user_id, id) VALUES ('ann', 'new'), ('ann', 'known'), ('ann', 'again'), ('', 'x')"
    )
    at_cloud(world, "known", "gone")
    at_cloud(world, "again", "gone-long-ago", deleted=1)
    report = reconcile(world.store)
    assert report.queued == 3
    assert [(found.puts, found.deletes) for found in report.collections] == [(2, 1)]
    assert world.entries() == [
        ("put", "ann", "again", None, None),
        ("put", "ann", "new", None, None),
        ("delete", "ann", "gone", None, None),
    ]
    assert len({group for (_, group) in world.groups()}) == 3
    assert reconcile(world.store).queued == 0


def test_reconcile_sees_what_is_queued(world):
    world.insert(**WALK)
    world.insert(**{**WALK, "id": "w2"})
    world.write("DELETE FROM walks WHERE id = 'w2'")
    assert reconcile(world.store).queued == 0
    unseen(world, "DELETE FROM walks WHERE id = 'w1'")
    unseen(world, "INSERT INTO walks (user_id, id) VALUES ('ann', 'w2')")
    assert reconcile(world.store).queued == 2
    assert world.kinds()[-2:] == [("put", "w2"), ("delete", "w1")]


def test_a_row_in_quarantine_or_parked_is_not_gone(world):
    at_cloud(world, "aside", "parked")
    world.write(
        "INSERT INTO _sync_quarantine (origin, owner, collection, row_key, body, error_code, error_text, created_at) "
        "VALUES ('migration', 'ann', 'walks', 'aside', '{}', 'x', 'x', '')"
    )
    world.write(
        "INSERT INTO _sync_parked (owner, collection, row_key, version, shape_version, reason, body, parked_at) "
        "VALUES ('ann', 'walks', 'parked', 2, '4.0.0', 'newer_shape', '{}', '')"
    )
    assert reconcile(world.store).queued == 0


def test_a_blob_that_was_written_in_place_fires_no_trigger(world):
    """Which is why such an edit has to be followed by another one: sqlite.org/c3ref/blob_open.html."""
    world.insert(**WALK)
    world.forget()
    with world.store.transaction(), world.store.connection.blob_open("main", "walks", "picture", 1, True) as blob:
        blob.write(b"zz")
    assert world.entries() == []
    assert isinstance(world.store.connection, apsw.Connection)


def test_a_group_has_the_number_of_its_first_entry_until_it_is_closed_or_on_its_way(world):
    world.write("INSERT INTO walks (user_id, id) VALUES ('ann', 'a'), ('ann', 'b')")
    world.write("INSERT INTO walks (user_id, id) VALUES ('ann', 'c')")
    assert world.groups() == [(1, 1), (2, 1), (3, 1)]
    with world.store.transaction():
        world.store.run("outbox", "delete", entry_id=3)
        world.store.query("UPDATE _sync_outbox SET state = 'claimed', sequence = entry_id, epoch = 1")
    world.write("INSERT INTO walks (user_id, id) VALUES ('ann', 'd')")
    with world.store.transaction():
        world.store.run("outbox", "close_group")
    world.write("INSERT INTO walks (user_id, id) VALUES ('ann', 'e'), ('ann', 'f')")
    assert world.groups() == [(1, 1), (2, 1), (4, 4), (5, 5), (6, 5)]
    with world.store.transaction():
        world.store.run("users", "forget_entries", owner="ann")
    world.write("INSERT INTO walks (user_id, id) VALUES ('ann', 'g'), ('ann', 'h')")
    assert world.groups() == [(7, 7), (8, 7)]
