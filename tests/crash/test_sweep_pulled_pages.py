"""The power goes at every operation of the disk while a pulled page is written: rows and cursor stay together."""

from contextlib import closing
from dataclasses import replace

import pytest

from syncengine.local.store import Store
from syncengine.migrate.registry import Collection, MigrationRegistry
from syncengine.outbox.capture import verify_capture
from syncengine.settings import Settings
from syncengine.sync.apply import Applier
from syncengine.sync.position import Position, move_cursor, standing
from syncengine.testing import CrashFound, StoppedClock, crash_everywhere
from tests.integration.pull_world import Device, gone, journey, note, pulled

ANN = "ann"
REGISTRY = MigrationRegistry(
    app="app", baseline="2.0.0", target="2.0.0", collections=(Collection("journeys"), Collection("notes"))
)
AFTER = Position(cursor="after", server_epoch=1, at_head=True, resync=1)

NEW_ROWS = tuple(journey(f"new-{number}", 100 + number, steps=number) for number in range(60))
CHANGED = tuple(journey(f"k{number}", 200 + number, title="of the cloud", steps=8) for number in range(30))
WHOLE = (*NEW_ROWS, *CHANGED, gone("journeys", "k30", 300), note("n1", 301, journey="new-1"))
ODD = (
    *WHOLE,
    journey("refused", 400, steps="many"),
    note("waits", 401, journey="nobody"),
    pulled("journeys", "newer", 402, {"id": "newer", "miles": 1}, shape="3.0.0"),
    pulled("places", "unknown", 403, {"id": "unknown"}),
)
"""With rows that are set aside or parked, so that the page is undone, and written row by row."""


def build(path):
    """Rows of an earlier page, and edits of some that wait."""
    device = Device(path.parent)
    device.page(*(journey(f"k{number}", number + 1) for number in range(40)))
    device.app("UPDATE journeys SET title = 'mine' WHERE id IN ('k1', 'k2')")
    device.app("UPDATE journeys SET picture = x'01' WHERE id = 'k30'")
    device.app("DELETE FROM journeys WHERE id = 'k3'")
    device.app("INSERT INTO journeys VALUES ('ann', 'here', 'of this device', 1.0, 1, NULL)")
    device.close()


def build_with_trigger(path):
    """The app's own trigger has to fire, so those of capture are dropped for the page, and made anew."""
    build(path)
    with closing(Store(str(path), settings=Settings(), clock=StoppedClock())) as store, store.transaction():
        store.query("CREATE TABLE seen (id TEXT) STRICT")
        store.query("CREATE TRIGGER app_seen AFTER INSERT ON journeys BEGIN INSERT INTO seen VALUES (NEW.id); END")


def applying(page, applier=Applier):
    """What a round does with a page; the next round does not ask for it again."""

    def run(path):
        with closing(Store(str(path), settings=Settings(), clock=StoppedClock())) as store:
            if standing(store, ANN).cursor != AFTER.cursor:
                applier(store, REGISTRY, owner=ANN).apply(page, position=AFTER)

    return run


def rows_and_cursor_agree(path):
    with closing(Store(str(path), settings=Settings(), clock=StoppedClock())) as store:
        is_after = standing(store, ANN).cursor == AFTER.cursor
        rows = dict(store.query("SELECT id, steps FROM journeys WHERE user_id = 'ann'"))
        known = {key for (key,) in store.query("SELECT row_key FROM _sync_row WHERE version >= 100")}
        with store.transaction():
            mended = verify_capture(store)
        captured = store.query("SELECT count(*) FROM _sync_outbox WHERE row_key LIKE 'new-%'")
    here = [f"new-{number}" in rows for number in range(60)] + [rows.get(f"k{number}") == 8 for number in range(3)]
    assert set(here) == {is_after}, "the cursor has passed rows that are not here, or rows are here before it"
    assert {f"new-{number}" in known for number in range(60)} == {is_after}
    assert captured == [(0,)], "rows of the cloud are queued for it"
    assert mended == (), "edits would be missed"


def sweep(folder, run, **options):
    options = {"build": build, "images_max": 100, "statements_max": 30, **options}
    return crash_everywhere(folder=folder, run=run, check=rows_and_cursor_agree, **options)


@pytest.mark.parametrize(
    ("build", "page"),
    [(build, WHOLE), (build, ODD), (build_with_trigger, WHOLE)],
    ids=["taken whole", "with rows that are not taken", "with a trigger of the app"],
)
def test_wherever_the_power_goes_a_page_and_its_cursor_are_here_together_or_not_at_all(build, page, tmp_path):
    report = sweep(tmp_path, applying(page), build=build)
    assert report.images > 20
    assert report.old > 0
    assert report.new > 0
    assert report.between == 0


class CursorFirst(Applier):
    """A fault: the cursor is moved in a transaction of its own, before the rows are here."""

    def apply(self, rows, *, position, moves_cursor=True):
        with self.store.transaction(durable=True):
            move_cursor(self.store, self.owner, replace(position, at_head=False))
        return super().apply(rows, position=position, moves_cursor=moves_cursor)


class CursorLast(Applier):
    """A fault: the rows are here, and the cursor is moved in a transaction of its own."""

    def apply(self, rows, *, position, moves_cursor=True):
        done = super().apply(rows, position=position, moves_cursor=False)
        with self.store.transaction(durable=True):
            move_cursor(self.store, self.owner, position)
        return done


@pytest.mark.parametrize("fault", [CursorFirst, CursorLast])
def test_a_cursor_that_moves_by_itself_is_found(fault, tmp_path):
    with pytest.raises(CrashFound, match="the cursor has passed rows"):
        sweep(tmp_path, applying(WHOLE, fault), images_max=60, statements_max=0)
