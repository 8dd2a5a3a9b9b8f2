"""One small registry for each kind of migration, a store before it, and what one start of the app does."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from syncengine import Engine, Settings, add, archive, cast, declared, migration, rename
from syncengine.testing import StoppedClock
from tests.integration.imports import (
    PROFILE,
    ImportExecutor,
    JourneyV2,
    JourneyV3,
    make_v2,
    seconds_v3,
    upload_walks,
    walk,
)
from tests.integration.migrate_world import registry_of

ROWS = 30


class JourneyByTitle(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    minutes: float
    title: str | None


def merged_by_title(old: list[JourneyV2]) -> JourneyByTitle:
    first = old[0]
    return JourneyByTitle(user_id=first.user_id, id=first.id, minutes=sum(j.minutes for j in old), title=first.title)


def merge_v3():
    return migration(
        id="merge-v3",
        collection="journeys",
        from_version="2.0.0",
        to_version="3.0.0",
        group_by="minutes",
        critical=True,
        lossy=True,
    )(merged_by_title)


def declared_v3():
    changes = (rename("title", "name"), cast("minutes", str), add("colour", "TEXT", default="grey"))
    return declared(
        id="declared-v3", collection="journeys", from_version="2.0.0", to_version="3.0.0", changes=changes
    )


def upload_v3():
    return upload_walks(from_version="2.0.0", to_version="3.0.0")


def archive_v3():
    return declared(
        id="archive-v3",
        collection="journeys",
        from_version="2.0.0",
        to_version="3.0.0",
        changes=(archive("minutes"),),
    )


def shadow_v3():
    return seconds_v3(shadow=True)


def there_and_back_v3():
    def back(new: JourneyV3) -> JourneyV2:
        return JourneyV2(user_id=new.user_id, id=new.id, minutes=new.seconds / 60, title=new.title)

    step = seconds_v3()
    step.down(back)
    return step


def in_two(old: JourneyV2) -> list[JourneyV3]:
    new = JourneyV3(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 60), title=old.title)
    return [new, new.model_copy(update={"id": f"{old.id}-2", "title": None})]


def split_v3():
    return seconds_v3(in_two, lossy=True)


COPIED_TO_ROWS = """
INSERT OR IGNORE INTO _sync_row_set (owner, collection) SELECT owner, 'journeys' FROM _sync_outbox;
INSERT INTO _sync_row (row_set_id, collection, owner, row_key, version, shape_version)
SELECT s.row_set_id, s.collection, s.owner, o.row_key, o.entry_id, '2.0.0'
FROM _sync_outbox AS o JOIN _sync_row_set AS s ON s.owner = o.owner AND s.collection = 'journeys'
WHERE o.entry_id <= 20
"""


def then_edited(engine: Engine) -> None:
    """Before the upgrade: some rows are at the cloud, one entry is on its way, and edits of all kinds wait."""
    store = engine._store
    with store.transaction():
        for sql in (
            COPIED_TO_ROWS,
            "DELETE FROM _sync_outbox WHERE entry_id <= 20",
            "UPDATE journeys SET minutes = 9.0 WHERE id < 'old-005'",
            "DELETE FROM journeys WHERE id = 'old-006'",
            "UPDATE _sync_outbox SET state = 'claimed', sequence = entry_id, epoch = 1 WHERE entry_id = 21",
            "UPDATE _sync_outbox SET created_ms = 0",  # by SQLite's own clock
        ):
            store.query(sql)


def migrate(engine: Engine) -> None:
    """What every start of an app does."""
    report = engine.migrate()
    assert report is None or report.success, report


def roll_back(engine: Engine) -> None:
    if engine.migrations.get_current_schema_version() == "3.0.0":
        engine.migrations.rollback("seconds-v3", consent=("ann",))


def restore(engine: Engine) -> None:
    """Bring back what was deleted after the restore point was made."""
    (point,) = [point for point in engine.restore_points() if point.reason == "the test's"]
    if engine._store.query("SELECT count(*) FROM journeys") != [(ROWS,)]:
        engine.restore(point.restore_point_id, consent=("ann",))


def then_deleted(engine: Engine) -> None:
    engine.migrations.make_restore_point("the test's")
    with engine.write() as db:
        db.execute("DELETE FROM journeys WHERE id < 'old-020'")


@dataclass(frozen=True)
class Kind:
    """`before` and `after` are the registries of the app before and after its update.

    `prepare` is done once, by the app after its update, to the store of before; `act` is what one start does then.
    """

    before: Callable[[], Any]
    after: Callable[[], Any]
    user: str | None = None
    settings: Settings = field(default_factory=Settings)
    prepare: Callable[[Engine], None] | None = None
    act: Callable[[Engine], None] = migrate
    takes_one_transaction: bool = True

    def build(self, path: Path) -> None:
        phone = _phone_of(path)
        if self.user is not None:
            walks = [walk(n) for n in range(ROWS)] + [walk(ROWS, 13), walk(0), walk(ROWS + 1, 0)]
            phone.write_text(json.dumps({"@walks": json.dumps(walks)}), encoding="utf-8")
        with self.open(path, self.before()) as engine:
            migrate(engine)
            if engine._store.query("SELECT count(*) FROM pragma_table_info('journeys')") != [(0,)]:
                with engine.write() as db:
                    rows = [("ann", f"old-{n:03}", float(n % 4), f"title {n}") for n in range(ROWS)]
                    db.conn.executemany("INSERT INTO journeys VALUES (?, ?, ?, ?)", rows)
        if self.prepare is not None:
            with self.open(path, self.after()) as engine:
                self.prepare(engine)

    def run(self, path: Path) -> None:
        with self.open(path, self.after()) as engine:
            self.act(engine)

    def open(self, path: Path, registry: Any, **options: Any) -> Engine:
        sources = {"phone": str(_phone_of(path))} if self.user else None
        return Engine.open(
            path,
            registry=registry,
            user=self.user,
            sources=sources,
            clock=StoppedClock(),
            settings=self.settings,
            consent=lambda request: True,
            **options,
        )


def nothing():
    return registry_of(target="1.0.0")


def at_two(*more):
    return lambda: registry_of(make_v2(PROFILE), *more, profile=("profile", "status"))


def at_three(step):
    steps = make_v2(PROFILE), ImportExecutor()
    return lambda: registry_of(*steps, step(), target="3.0.0", profile=("profile", "status"))


KINDS = {
    "tables": Kind(nothing, at_two()),
    "import": Kind(nothing, at_two(ImportExecutor()), user="ann", takes_one_transaction=False),
    "upload": Kind(at_two(ImportExecutor()), at_three(upload_v3), user="ann"),
    "declared": Kind(at_two(), at_three(declared_v3)),
    "archive": Kind(at_two(), at_three(archive_v3)),
    "row function": Kind(at_two(), at_three(seconds_v3)),
    "queued edits": Kind(at_two(), at_three(split_v3), prepare=then_edited),
    "merge": Kind(at_two(), at_three(merge_v3)),
    "shadow": Kind(at_two(), at_three(shadow_v3), settings=Settings(batch_rows=10), takes_one_transaction=False),
    "restore": Kind(at_two(), at_two(), prepare=then_deleted, act=restore),
    "rollback": Kind(at_two(), at_three(there_and_back_v3), prepare=migrate, act=roll_back),
}

PROFILE_STATUS = {"profile": ("status",)}
"""It holds the times of the runs."""


def _phone_of(path: Path) -> Path:
    """The old app's data lies elsewhere on the device: it is the same one, whatever becomes of the store."""
    return path.parents[1] / "phone.json"
