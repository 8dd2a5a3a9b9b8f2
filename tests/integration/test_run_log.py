"""What the log of a run says: each row that was set aside and each batch, by code and count, never a row or a key."""

import io
import logging

import pytest
from migrate_world import registry_of
from pydantic import BaseModel, ConfigDict

from syncengine import Engine, Quarantine, Settings, migration, tables

CANARY = "canary-of-a-row"
TABLE = (
    "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, text TEXT, tags TEXT, {} "
    "PRIMARY KEY (user_id, id)) STRICT"
)
make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(TABLE.format(""),))


class Old(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)
    user_id: str
    id: str
    text: str | None
    tags: dict[str, int]


class New(Old):
    stars: int | None


@migration(
    id="stars", collection="notes", from_version="2.0.0", to_version="3.0.0", table=TABLE.format("stars INTEGER,")
)
def stars(old: Old) -> New:
    if old.text is None:
        raise Quarantine("has no text", field="text")
    if old.text.endswith("!"):
        raise Quarantine("has no such thing", field=f"{CANARY}.of.{old.id}")
    count: object = CANARY if old.text.endswith("?") else 1
    return New(**{**dict(old), "stars": count})


@pytest.fixture
def log():
    """What a host's own handler writes, facts included, at the level of `syncengine` that a test sets."""
    said, logger = io.StringIO(), logging.getLogger("syncengine")
    handler = logging.StreamHandler(said)
    handler.setFormatter(_WithFacts())
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


FACTS = ("migration", "collection", "code", "field", "batch", "rows", "rows_quarantined", "undone")


class _WithFacts(logging.Formatter):
    def format(self, record):
        facts = " ".join(f"{name}={record.__dict__[name]}" for name in FACTS if name in record.__dict__)
        return f"{record.levelname} {super().format(record)}: {facts}"


def run(path, *, rows, bad, **settings):
    """Migrate so many rows, of which those of `bad` (text and tags) are set aside."""
    with Engine.open(path, registry=registry_of(make, stars, target="2.0.0")) as engine:
        engine.migrate()
        with engine.write() as db:
            db["notes"].insert_all(
                {"user_id": "ann", "id": f"{CANARY}-{number:04}", "text": CANARY, "tags": "{}"}
                for number in range(rows)
            )
            db["notes"].upsert_all(
                (
                    {"user_id": "ann", "id": f"{CANARY}-{number:04}", "text": text, "tags": tags}
                    for number, (text, tags) in enumerate(bad)
                ),
                pk=("user_id", "id"),
            )
    settings = {"quarantine_ratio_max": 1.0, "batch_rows": 10, **settings}
    with Engine.open(
        path, registry=registry_of(make, stars, target="3.0.0"), settings=Settings(**settings)
    ) as engine:
        report = engine.migrate()
        assert report.quarantined == len(bad)
        with engine.read() as db:
            assert CANARY in repr(list(db.query("select body from _sync_quarantine"))), "else this shows nothing"
        return report


BAD = (
    (None, "{}"),
    (f"{CANARY}?", "{}"),
    (CANARY, f'{{"{CANARY}": "{CANARY}"}}'),
    (f"{CANARY}!", "{}"),
)
SAID = [
    "INFO row set aside: migration=stars collection=notes code=quarantined_by_rule field=text",
    "INFO row set aside: migration=stars collection=notes code=shape_invalid field=stars",
    # The path in quarantine goes on with a name that the user gave.
    "INFO row set aside: migration=stars collection=notes code=shape_invalid field=tags",
    "INFO row set aside: migration=stars collection=notes code=quarantined_by_rule field=None",
]


@pytest.mark.parametrize("shadow_rows_min", [1, 1_000], ids=["beside the live table", "in one transaction"])
def test_each_row_that_is_set_aside_is_logged_by_code_and_column_without_its_key(tmp_path, log, shadow_rows_min):
    logging.getLogger("syncengine").setLevel(logging.INFO)
    run(tmp_path / "app.db", rows=30, bad=BAD, shadow_rows_min=shadow_rows_min)
    lines = log.getvalue().splitlines()
    assert [line for line in lines if "row set aside" in line] == SAID
    assert not [line for line in lines if line.startswith("DEBUG")]
    assert CANARY not in log.getvalue()


def test_at_debug_each_batch_says_its_number_rows_time_and_whether_it_was_done_again(tmp_path, log):
    logging.getLogger("syncengine").setLevel(logging.DEBUG)
    run(tmp_path / "app.db", rows=25, bad=BAD)
    lines = [line for line in log.getvalue().splitlines() if "batch ended" in line]
    assert lines == [
        "DEBUG batch ended: migration=stars batch=1 rows=10 rows_quarantined=4 undone=True",
        "DEBUG batch ended: migration=stars batch=2 rows=10 rows_quarantined=0 undone=False",
        "DEBUG batch ended: migration=stars batch=3 rows=5 rows_quarantined=0 undone=False",
    ]
    assert CANARY not in log.getvalue()


def test_the_batches_of_a_large_collection_are_logged_too_with_their_time(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, logger="syncengine")
    run(tmp_path / "app.db", rows=25, bad=BAD, shadow_rows_min=1)
    batches = [vars(record) for record in caplog.records if record.message == "batch ended"]
    assert [facts["batch"] for facts in batches] == list(range(1, len(batches) + 1))
    assert sum(facts["rows"] for facts in batches) == 25
    assert sum(facts["rows_quarantined"] for facts in batches) == 4
    assert all(isinstance(facts["ms"], int) and 0 <= facts["ms"] < 60_000 for facts in batches)
    assert CANARY not in repr([vars(record) for record in caplog.records])
