"""What the sweep is for: faults of an engine, or of a disk, that it must find."""

from itertools import pairwise

import pytest

from syncengine.local import savepoint
from syncengine.migrate import run
from syncengine.testing import CrashFound, CrashImage, DiskLog, contents_of, crash_everywhere, crash_images
from syncengine.testing.crash import EVERY_CRASH
from syncengine.testing.disk import recording_disk
from syncengine.testing.images import Operation
from tests.crash.kinds import PROFILE_STATUS, Kind, at_three, at_two
from tests.integration.imports import seconds_v3

KIND = Kind(at_two(), at_three(lambda: seconds_v3(backup="never")))


def sweep(folder, *, run=KIND.run, **limits):
    limits = {"images_max": 80, "statements_max": 0, **limits}
    return crash_everywhere(folder=folder, build=KIND.build, run=run, leave_out=PROFILE_STATUS, **limits)


def marked_too_late(store):
    """A fault that looks harmless: the rows are committed, and what says so comes in the next transaction."""

    class MarkedLater(run.Run):
        def record(self, state, failure=None):
            if state != "completed":
                super().record(state, failure)
                return
            here = f'"migration_{self.step.id}"'
            store.committing = True
            for sql in (f"RELEASE {here}", "COMMIT", "BEGIN IMMEDIATE", f"SAVEPOINT {here}"):
                store.connection.execute(sql)
            store.committing = False
            super().record(state, failure)

    return MarkedLater


def test_a_marker_in_a_second_transaction_is_found(tmp_path, monkeypatch):
    def run_with_the_fault(path):
        with KIND.open(path, KIND.after()) as engine, monkeypatch.context() as fault:
            fault.setattr(run, "Run", marked_too_late(engine._store))
            report = engine.migrate()
            assert report is None or report.success, report

    with pytest.raises(CrashFound, match="power cut before operation"):
        sweep(tmp_path / "images", run=run_with_the_fault)
    with pytest.raises(CrashFound, match="power cut before statement"):
        sweep(tmp_path / "statements", run=run_with_the_fault, images_max=0, statements_max=150)


def test_without_the_fault_the_same_sweep_finds_nothing(tmp_path):
    assert sweep(tmp_path, statements_max=5).between == 0


def test_a_commit_that_was_not_synced_is_missed_at_the_end(tmp_path, monkeypatch):
    def never_synced(path):
        with KIND.open(path, KIND.after()) as engine:
            engine._store.connection.execute("PRAGMA synchronous = OFF")
            monkeypatch.setattr(savepoint.Transaction, "_begin", begin_without_full_sync)
            engine.migrate()

    begin = savepoint.Transaction._begin

    def begin_without_full_sync(transaction):
        transaction._durable = False
        begin(transaction)

    with pytest.raises(CrashFound):
        sweep(tmp_path, run=never_synced)


def test_a_run_that_changes_nothing_is_refused_for_it_would_prove_nothing(tmp_path):
    with pytest.raises(CrashFound, match="changed nothing"):
        sweep(tmp_path, run=lambda path: None)


def test_what_the_test_itself_finds_wrong_ends_the_sweep_and_says_where(tmp_path):
    def check(path):
        assert contents_of(path).rows["journeys"] == (), "there are rows"

    with pytest.raises(CrashFound, match=r"power cut before operation 0.*\n?.*there are rows"):
        sweep(tmp_path, check=check)


def test_the_environment_variable_leaves_nothing_out(tmp_path, monkeypatch):
    def add_one(path):
        with KIND.open(path, KIND.before()) as engine, engine.write() as db:
            db.execute("INSERT OR IGNORE INTO journeys VALUES ('ann', 'new', 1.0, NULL)")

    few = sweep(tmp_path / "few", run=add_one, images_max=3, statements_max=2)
    monkeypatch.setenv(EVERY_CRASH, "1")
    every = sweep(tmp_path / "every", run=add_one, images_max=3, statements_max=2)
    assert (few.images, few.statements) == (3, 2)
    assert every.images > 10
    assert every.statements > 10


# The disk.


def images(log):
    return {(image.before, image.policy): image.files for image in crash_images(log)}


def lost(log, *, before):
    """All that was not synced is lost: the same at each operation since the last sync, so it is made once."""
    return [image.files for image in crash_images(log, policies=("none",)) if image.before <= before][-1]


def write(data, *, name="a.db", offset=0):
    return Operation(kind="write", name=name, offset=offset, data=data)


def sync(name="a.db"):
    return Operation(kind="sync", name=name)


def test_a_write_may_be_lost_until_it_is_synced_and_never_after():
    log = DiskLog(base={"a.db": b"old!"}, operations=[write(b"new!"), sync()])
    found = images(log)
    assert lost(log, before=1) == {"a.db": b"old!"}
    assert found[1, "all"] == {"a.db": b"new!"}
    assert {files["a.db"] for (before, _), files in found.items() if before == 2} == {b"new!"}


def test_sectors_of_one_write_are_lost_one_by_one():
    log = DiskLog(base={"a.db": b"o" * 2048}, operations=[write(b"n" * 2048)])
    mixed = {
        image.files["a.db"] for seed in range(20) for image in crash_images(log, policies=("subset",), seed=seed)
    }
    assert len(mixed) > 5
    for data in mixed:
        assert {data[at : at + 512] for at in range(0, 2048, 512)} <= {b"o" * 512, b"n" * 512}


def test_a_new_file_has_no_name_on_the_disk_until_a_journal_of_its_folder_is_synced():
    created = [Operation(kind="create", name="a.db-wal"), write(b"frame", name="a.db-wal")]
    log = DiskLog(base={"a.db": b"old!"}, operations=[*created, sync("a.db-wal")])
    assert "a.db-wal" not in lost(log, before=2)
    assert lost(log, before=3)["a.db-wal"] == b"frame"


def test_a_deleted_journal_may_come_back_until_the_folder_is_synced():
    for synced, expected in ((False, {"a.db", "a.db-journal"}), (True, {"a.db"})):
        gone = Operation(kind="delete", name="a.db-journal", folder_synced=synced)
        log = DiskLog(base={"a.db": b"", "a.db-journal": b"undo"}, operations=[gone])
        assert set(lost(log, before=1)) == expected


def test_images_are_sampled_evenly_with_both_ends():
    log = DiskLog(base={"a.db": b"0"}, operations=[part for n in range(100) for part in (write(b"%d" % n), sync())])
    few = list(crash_images(log, images_max=10))
    assert len(few) == 10
    assert [few[0].before, few[-1].before] == [0, 200]
    assert isinstance(few[0], CrashImage)
    assert max(b.before - a.before for a, b in pairwise(few)) < 40


def test_a_file_that_other_code_writes_beside_the_store_is_in_the_image_and_gone_when_it_is_deleted(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    KIND.build(folder / "app.db")
    with recording_disk(folder) as log, KIND.open(folder / "app.db", KIND.before()) as engine:
        (folder / "note.txt").write_text("beside")
        with engine.write() as db:
            db.execute("DELETE FROM journeys")
        (folder / "note.txt").unlink()
        with engine.write() as db:
            db.execute("DELETE FROM profile")
    beside = [image.before for image in crash_images(log, policies=("all",)) if "note.txt" in image.files]
    assert 0 < len(beside) < len(log.operations)
    assert beside == list(range(beside[0], beside[-1] + 1))
