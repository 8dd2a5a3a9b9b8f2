"""The page for sqlite3 users names every table and view of the store, and no other."""

import re
from pathlib import Path

from syncengine.local.engine_tables import UPGRADES
from syncengine.local.statements import LOCAL_SQL
from tests.tidy.tree import ROOT

PAGE = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
SCHEMA = "\n".join((Path(LOCAL_SQL) / f"{edition}.sql").read_text(encoding="utf-8") for edition in UPGRADES)


def _made(kind: str) -> set[str]:
    return set(re.findall(rf"^CREATE {kind} (\w+)", SCHEMA, re.M))


def _listed_under(heading: str) -> set[str]:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.M))


def test_every_table_and_view_is_in_the_dictionary_and_nothing_else() -> None:
    assert _listed_under("Data dictionary") == _made("TABLE")
    assert _listed_under("Views") == _made("VIEW")


def test_every_table_is_strict() -> None:
    endings = re.findall(r"^CREATE TABLE .+?^\)([^;]*);", SCHEMA, re.M | re.S)
    assert len(endings) == len(_made("TABLE"))
    assert all("STRICT" in ending for ending in endings)
