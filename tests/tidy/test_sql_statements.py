"""Named SQL: every statement compiles, is described, is used, and needs nothing newer than SQLite 3.37."""

import ast
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from syncengine.clock import SystemClock
from syncengine.local.connection import open_server_db
from syncengine.local.engine_tables import UPGRADES
from syncengine.local.statements import LOCAL_SQL, statements
from syncengine.local.store import Store
from syncengine.server.stored_forms import SERVER_SQL
from syncengine.settings import Settings
from tests.tidy.tree import ROOT, modules, name_of, strings_of, tree_of

# sqlite.org/lang_corefunc.html, lang_aggfunc.html, lang_datefunc.html, windowfunctions.html, json1.html as of 3.37.
FUNCTIONS_OF_3_37 = frozenset(
    re.findall(
        r"\w+",
        """
    abs changes char coalesce glob hex ifnull iif instr last_insert_rowid length like likelihood likely lower ltrim
    max min nullif printf quote random randomblob replace round rtrim sign soundex substr substring total_changes trim
    typeof unicode unlikely upper zeroblob avg count group_concat sum total date time datetime julianday strftime
    row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value json json_array
    json_array_length json_extract json_insert json_object json_patch json_remove json_replace json_set json_type
    json_valid json_quote json_group_array json_group_object json_each json_tree
    """,
    )
)
CALLS_OF_THE_STORE = frozenset({"run", "run_many", "rows", "row", "value", "statement"})

CALLS_OF_THE_SERVER = frozenset({"_ask", "_do", "_do_many", "text_of"})
FILES_OF = {"sqlite": ("cloud",), "postgresql": ("postgresql",), "row": ("cloud", "postgresql")}
"""Whose statements a module of the server asks for, by the first word of its name."""

Name = tuple[str, str]


def _files(directory: str) -> list[str]:
    return sorted(path.stem for path in Path(directory).glob("*.sql"))


LOCAL_FILES = [file for file in _files(LOCAL_SQL) if file not in UPGRADES]
LOCAL = {(file, name): sql for file in LOCAL_FILES for name, sql in statements(file).items()}
POSTGRESQL = {("postgresql", name): sql for name, sql in statements("postgresql", directory=SERVER_SQL).items()}
CLOUD = {("cloud", name): sql for name, sql in statements("cloud", directory=SERVER_SQL).items()}


@pytest.fixture(scope="module")
def store_connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apsw.Connection]:
    path = str(tmp_path_factory.mktemp("store") / "app.db")
    store = Store(path, settings=Settings(), clock=SystemClock())
    yield store.connection
    store.close()


@pytest.fixture(scope="module")
def cloud_connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apsw.Connection]:
    connection = open_server_db(str(tmp_path_factory.mktemp("cloud") / "cloud.db"))
    for edition in statements("schema", directory=SERVER_SQL).values():
        connection.execute(edition).fetchall()
    yield connection
    connection.close()


def _functions_of(connection: apsw.Connection, sql: str) -> set[str]:
    """Compile a statement; the SQL functions that it calls."""
    called = set()

    def note(action: int, _first: str | None, second: str | None, *_: object) -> int:
        if action == apsw.SQLITE_FUNCTION:
            called.add(str(second))
        return apsw.SQLITE_OK

    connection.authorizer = note
    try:
        for part in filter(None, map(str.strip, sql.split(";\n"))):
            connection.execute("EXPLAIN " + part, dict.fromkeys(re.findall(r":(\w+)", part))).fetchall()
    finally:
        connection.authorizer = None
    return called


@pytest.mark.parametrize("name", LOCAL, ids=".".join)
def test_each_statement_of_the_store_compiles_with_functions_of_sqlite_3_37(
    name: Name, store_connection: apsw.Connection
) -> None:
    assert _functions_of(store_connection, LOCAL[name]) <= FUNCTIONS_OF_3_37


@pytest.mark.parametrize("name", CLOUD, ids=".".join)
def test_each_statement_of_the_cloud_compiles_with_functions_of_sqlite_3_37(
    name: Name, cloud_connection: apsw.Connection
) -> None:
    assert _functions_of(cloud_connection, CLOUD[name]) <= FUNCTIONS_OF_3_37


NOTED = """UPDATE _sync_last_entry
SET entry_id = (SELECT entry_id FROM _sync_newest_entry)
WHERE entry_id < (SELECT entry_id FROM _sync_newest_entry);
DELETE FROM _sync_outbox"""
CLOSED = """UPDATE _sync_outbox
SET fresh = 2
WHERE fresh = 1
  AND entry_id = (SELECT max(entry_id) FROM _sync_outbox)
  AND entry_id < (SELECT entry_id FROM _sync_last_entry);"""
COUNTED = ["outbox.delete_squashed_of", "outbox.delete_run"]
"""They tell how many have left, so what runs them runs `outbox.close_behind` at its end."""
BY_OWN_RULE = "syncengine/local/carrying_over.py"  # it notes the newest number of two stores, and files all


def _texts_with(words: str) -> list[tuple[str, str]]:
    """Where words of SQL stand, and the text from there on: named statements, and strings of modules."""
    named = [(".".join(name), sql) for name, sql in LOCAL.items()]
    inline = [
        (name_of(path), str(node.value)) for path in modules("syncengine") for node in strings_of(tree_of(path))
    ]
    return [(where, sql) for where, sql in (*named, *inline) if re.search(words, sql)]


def test_what_leaves_the_outbox_has_its_number_noted_before_in_the_same_statement() -> None:
    leaving = _texts_with(r"DELETE FROM (main\.)?_sync_outbox")
    assert len(leaving) > 10
    assert [where for where, sql in leaving if NOTED not in sql] == [BY_OWN_RULE]


def test_behind_what_has_left_the_outbox_nothing_is_open_in_the_same_statement() -> None:
    leaving = _texts_with(r"DELETE FROM (main\.)?_sync_outbox")
    assert {where for where, sql in leaving if CLOSED not in sql} == {*COUNTED, BY_OWN_RULE}
    assert LOCAL[("outbox", "close_behind")].strip().endswith(CLOSED)


def test_what_enters_the_outbox_has_a_number_that_none_had_before() -> None:
    entering = _texts_with(r"INSERT INTO (main\.)?_sync_outbox")
    assert len(entering) > 8
    without = [where for where, sql in entering if not re.search(r"_sync_outbox \(\s*entry_id,", sql)]
    assert without == [BY_OWN_RULE]


def test_a_newer_function_would_be_noticed(store_connection: apsw.Connection) -> None:
    assert not _functions_of(store_connection, "SELECT unixepoch('now', 'subsec')") <= FUNCTIONS_OF_3_37


def test_views_and_checks_of_the_store_use_functions_of_sqlite_3_37_only(store_connection: apsw.Connection) -> None:
    views = store_connection.execute("SELECT name FROM sqlite_schema WHERE type = 'view'").fetchall()
    assert views
    for (view,) in views:
        assert _functions_of(store_connection, f"SELECT * FROM {view}") <= FUNCTIONS_OF_3_37
    for (table,) in store_connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '\\_sync%' ESCAPE '\\'"
    ).fetchall():
        assert _functions_of(store_connection, f"INSERT INTO {table} DEFAULT VALUES") <= FUNCTIONS_OF_3_37


@pytest.mark.parametrize("edition", UPGRADES)
def test_the_tables_can_be_made_and_read_by_the_sqlite_of_this_machine(edition: str) -> None:
    """A second, often older library: what the sqlite3 command line of the same machine is built from."""
    if sqlite3.sqlite_version_info < (3, 37):
        pytest.skip(f"STRICT tables need SQLite 3.37; this Python has {sqlite3.sqlite_version}")
    memory = sqlite3.connect(":memory:")
    memory.executescript((Path(LOCAL_SQL) / f"{edition}.sql").read_text(encoding="utf-8"))
    for (view,) in memory.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall():
        memory.execute(f"SELECT * FROM {view}").fetchall()
    memory.close()


def _used_in(path: Path) -> set[Name]:
    """(file, name) of each statement that a module asks for; a name that is passed on counts wherever it is said."""
    tree = tree_of(path)
    said = {str(node.value) for node in strings_of(tree)}
    used: set[Name] = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        words = [arg.value if isinstance(arg, ast.Constant) else None for arg in call.args[:2]]
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if called in CALLS_OF_THE_SERVER and path.parent.name == "server" and words and words[0]:
            used |= {(file, str(words[0])) for file in FILES_OF.get(path.stem.split("_")[0], ())}
        elif called in CALLS_OF_THE_STORE and len(words) == 2 and isinstance(words[0], str):
            names = {words[1]} if isinstance(words[1], str) else said
            used |= {
                (words[0], str(name)) for name in names if isinstance(words[1], str) or (words[0], name) in LOCAL
            }
    return used


def _all_used() -> dict[Name, str]:
    return {name: name_of(path) for path in modules("syncengine") for name in _used_in(path)}


def test_each_statement_is_used_and_each_name_that_is_used_exists() -> None:
    used, there = _all_used(), LOCAL.keys() | CLOUD.keys() | POSTGRESQL.keys()
    assert sorted(there - used.keys()) == [], "statements that no module asks for"
    assert {name: module for name, module in used.items() if name not in there} == {}, "names without a statement"


@pytest.mark.parametrize("name", [*LOCAL, *CLOUD, *POSTGRESQL], ids=".".join)
def test_each_statement_begins_with_a_sentence_that_says_what_it_does(name: Name) -> None:
    first = (LOCAL | CLOUD | POSTGRESQL)[name].splitlines()[0]
    assert re.fullmatch(r"-- [A-Z0-9].*[.?]", first), first


def test_sql_is_written_nowhere_but_in_the_two_folders_for_it() -> None:
    found = {path.parent for path in ROOT.glob("*/**/*.sql") if ".venv" not in path.parts}
    assert found == {Path(LOCAL_SQL), Path(SERVER_SQL)}
