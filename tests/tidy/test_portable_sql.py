"""The cloud's SQL for PostgreSQL keeps to what Citus, YugabyteDB and CockroachDB have as well.

None of the three runs here. The words are from their own lists of what they lack: Citus "SQL support and
workarounds", YugabyteDB "PostgreSQL compatibility", CockroachDB "SQL feature support".
"""

import re
from pathlib import Path

import pytest

from syncengine.server.stored_forms import SERVER_SQL

FILES = ("postgresql.sql", "postgresql_schema.sql")
SETTINGS = {
    "app.tenant",
    "app.token_hash",
    "app.upkeep",
    "search_path",
    "lock_timeout",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
}
"""All of them have these, and take a name of one's own with a dot in it."""
TABLES_OF_NOBODY = {"cloud_state", "cloud_edition"}

FORBIDDEN = {
    r"\b(small|big)?serial\b|\bidentity\b|\bsequence\s+\w+\s+(start|increment)|nextval": "numbers out of order",
    r"\blisten\b|\bnotify\b": "CockroachDB has no LISTEN",
    r"advisory": "CockroachDB's advisory locks lock nothing",
    r"\block\s+table\b": "YugabyteDB takes ACCESS SHARE only",
    r"\bcreate\s+(or\s+replace\s+)?(trigger|function|procedure|rule|domain|extension)\b|plpgsql": "code",
    r"\binherits\b|\bpartition\s+of\b|\bexclude\s+using\b|\bdeferrable\b": "CockroachDB has neither",
    r"\busing\s+(gist|gin|brin|hash|spgist)\b": "kinds of index that not all have",
    r"\b(temp|temporary|unlogged)\b": "tables that not all have",
    r"\bwith\s+recursive\b|\bgrouping\s+sets\b|\btablesample\b": "Citus: on one shard only, or not",
    r"\bint(eger|2|4)?\b|\bsmallint\b|\boid\b": "INT is 64 bit in one and 32 in another",
    r"\bctid\b|\bxmin\b|\bxmax\b|txid_|pg_snapshot": "what only one PostgreSQL knows of its rows",
    r"\bnow\(\)|current_timestamp|clock_timestamp|random\(\)|gen_random": "shards would not agree",
    r"\bjsonb?\b|->>|#>|@>": "JSON is text here",
    r"(?<![-*/])/(?![*/])": "dividing whole numbers gives others elsewhere",
    r"\bskip\s+locked\b|\bnowait\b|\bfor\s+(share|key\s+share|no\s+key\s+update)\b": "locks that not all have",
    r"\breferences\b": "a check for each row, over shards",
    r"\bmerge\s+into\b|\bnulls\s+not\s+distinct\b|\bxml|\bmoney\b|\bcitext\b|\bhstore\b": "not in all of them",
    r"\breturning\b.*\bold\b|\bon\s+conflict\s+on\s+constraint\b": "not in all of them",
}


def _text(name: str) -> str:
    """Without comments, in small letters."""
    return re.sub(r"--.*", "", (Path(SERVER_SQL) / name).read_text(encoding="utf-8")).lower()


def faults(text: str) -> list[str]:
    return [why for word, why in FORBIDDEN.items() if re.search(word, text)]


@pytest.mark.parametrize("name", FILES)
def test_the_sql_keeps_to_what_all_of_them_have(name: str) -> None:
    assert faults(_text(name)) == []


@pytest.mark.parametrize(
    "bad",
    [
        "create table t (n bigserial)",
        "select pg_advisory_lock(1)",
        "lock table t",
        "create trigger x",
        "n integer not null",
        "select a / b",
        "body jsonb",
        "notify x",
        "select now()",
        "for update skip locked",
        "tenant text references tenant (tenant)",
    ],
)
def test_what_one_of_them_lacks_would_be_noticed(bad: str) -> None:
    assert faults(bad)


def test_settings_are_those_that_all_of_them_have_and_end_with_the_transaction() -> None:
    """Behind PgBouncer, what does not end with the transaction is the next one's."""
    text = _text("postgresql.sql")
    made = re.findall(r"set_config\('([\w.]+)', [^,()]+, true\)", text)
    assert set(made) == SETTINGS
    assert len(made) == text.count("set_config(")
    assert not re.search(r"^\s*(set|reset|discard)\s+(?!\w+ = )", text, re.M)


def test_the_user_is_first_in_every_key_and_unique_index() -> None:
    text = _text("postgresql_schema.sql")
    tables = dict(re.findall(r"create table if not exists (\w+) \((.*?)\n\);", text, re.S))
    assert len(tables) >= 7
    for table, columns in tables.items():
        keys = re.findall(r"primary key \((\w+)|^\s*(\w+) .*not null primary key", columns, re.M)
        first = {one or other for one, other in keys}
        assert first == ({"only_row"} if table in TABLES_OF_NOBODY else {"tenant"}), table
    unique = re.findall(r"create unique index .* \((\w+)", text)
    assert all(column == "tenant" for column in unique)


def test_every_table_of_users_is_closed_to_others_and_to_its_owner() -> None:
    text = _text("postgresql_schema.sql")
    for table in set(re.findall(r"create table if not exists (\w+)", text)) - TABLES_OF_NOBODY:
        for needed in ("enable", "force"):
            assert f"alter table {table} {needed} row level security;" in text, (table, needed)
        assert re.search(rf"create policy of_the_tenant on {table}\s+using .*\s+with check", text), table


def test_every_statement_about_rows_says_whose() -> None:
    """Row-level security is the second guard, never the only one."""
    blocks = (Path(SERVER_SQL) / "postgresql.sql").read_text(encoding="utf-8").split("-- name: ")[1:]
    about_rows = [
        block
        for block in blocks
        if re.search(r"(FROM|JOIN|INTO|UPDATE)\s+(document|patch_beside|commit_mark|receipt|tenant)\b", block)
    ]
    assert len(about_rows) >= 20
    for block in about_rows:
        assert ":tenant" in block or block.startswith(("tenants", "tenant_of_token")), block
