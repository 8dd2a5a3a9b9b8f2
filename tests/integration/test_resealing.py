"""Restore points are sealed anew for another key: each opens with one of the two, whenever it breaks off."""

import shutil
import stat
import subprocess
import sys
import textwrap

import pytest

from syncengine import KeyFile, Settings, SystemClock
from syncengine.errors import KeyUnavailable, RestorePointUnusable
from syncengine.local.keys import SealingKey
from syncengine.local.rescuing import rescue
from syncengine.local.resealing import reseal
from syncengine.local.restore_points import make_restore_point, opened_restore_point, restore_points
from syncengine.local.store import Store
from tests.integration.cli_process import Command
from tests.integration.restore_world import (
    CANARY,
    ROOT,
    all_notes,
    files_with,
    fill,
    folder_of,
    key_of,
    notes_of,
    old_app,
    opened,
    sealed_files,
    write,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


@pytest.fixture
def new(tmp_path):
    return KeyFile(tmp_path / "new.key")


def _with_points(path, count):
    """A store with so many restore points under the key beside it."""
    fill(path, notes_of(20))
    with opened(path, registry=old_app()) as engine:
        for number in range(count):
            engine.migrations.make_restore_point(f"number {number}")
        return engine.restore_points()


def _notes_in(store, point, keys):
    with opened_restore_point(store, point.restore_point_id, keys=keys) as plain:
        found = Store(str(plain), settings=Settings(), clock=SystemClock())
        try:
            return found.query("SELECT count(*) FROM notes")[0][0]
        finally:
            found.close()


def test_every_restore_point_opens_with_the_new_key_and_none_with_the_old(path, new):
    before = _with_points(path, 3)
    with opened(path, registry=old_app(), keys=new) as engine:
        report = engine.migrations.reseal_restore_points(old_keys=key_of(path))
        assert (len(report.resealed), report.already, report.left, report.complete) == (3, (), (), True)
        after = engine.restore_points()
        assert [point.state for point in after] == ["good"] * 3
        assert {point.recipient for point in after} == {new.identity().recipient}
        assert [(point.reason, point.made_at, point.rows, point.keep_until) for point in after] == [
            (point.reason, point.made_at, point.rows, point.keep_until) for point in before
        ]
        assert all(late.verified_at > early.verified_at for early, late in zip(before, after, strict=True))
        assert [_notes_in(engine._store, point, new) for point in after] == [20] * 3
        for point in after:
            with (
                pytest.raises(RestorePointUnusable),
                opened_restore_point(engine._store, point.restore_point_id, keys=key_of(path)),
            ):
                pass
    assert len(sealed_files(path)) == 3
    assert not list(folder_of(path).glob("plain-*"))
    assert files_with(folder_of(path), CANARY) == []


def test_age_alone_opens_what_was_sealed_anew(path, new, tmp_path):
    if shutil.which("age") is None:
        pytest.skip("the program age is not installed")
    _with_points(path, 1)
    with opened(path, registry=old_app(), keys=new) as engine:
        engine.migrations.reseal_restore_points(old_keys=key_of(path))
    [sealed] = sealed_files(path)
    back = tmp_path / "back.db"
    subprocess.run(["age", "-d", "-i", new.path, "-o", back, sealed], check=True, timeout=60)
    assert CANARY.encode() in back.read_bytes()
    tried = subprocess.run(["age", "-d", "-i", f"{path}.key", sealed], capture_output=True, timeout=60, check=False)
    assert tried.returncode != 0


def test_a_second_call_does_nothing_more(path, new):
    _with_points(path, 2)
    with opened(path, registry=old_app(), keys=new) as engine:
        engine.migrations.reseal_restore_points(old_keys=key_of(path))
        files = sealed_files(path)
        report = engine.migrations.reseal_restore_points(old_keys=key_of(path))
        assert (report.resealed, len(report.already), report.complete) == ((), 2, True)
        assert sealed_files(path) == files


def test_what_cannot_be_opened_is_named_and_left_alone(path, new, tmp_path):
    altered, missing, good, foreign = _with_points(path, 4)
    with opened(path, registry=old_app(), keys=new) as engine:
        with open(altered.path, "ab") as file:
            file.write(b"x")
        sealed_files(path)[1].unlink()
        other = KeyFile(tmp_path / "other.key")
        reseal(engine._store, old_keys=(key_of(path),), keys=other)
        report = engine.migrations.reseal_restore_points(old_keys=key_of(path))
        assert report.resealed == ()
        assert len(report.left) == 4
        assert not report.complete
        report = engine.migrations.reseal_restore_points(old_keys=(key_of(path), other))
        assert len(report.resealed) == 2
        assert [left.why for left in report.left] == [
            "its file is not the one that was made: another hash, another kind, or another place",
            "its file is not there",
        ]
        assert report.left[0].name in altered.path
        after = {point.restore_point_id: point for point in engine.restore_points()}
        assert [after[point.restore_point_id].state for point in (altered, missing, good, foreign)] == [
            "altered",
            "missing",
            "good",
            "good",
        ]
        assert after[altered.restore_point_id].recipient == key_of(path).identity().recipient


KILLED = """
import os, sys
from syncengine import KeyFile, Settings, SystemClock
from syncengine.local.resealing import reseal
from syncengine.local.store import Store

path, moment = sys.argv[1], int(sys.argv[2])
store = Store(path, settings=Settings(), clock=SystemClock())
old, new = KeyFile(path + ".key"), KeyFile(path + ".new")
new.identity()
count = 0

def audit(event, _):
    global count
    if event in ("os.rename", "os.remove", "os.chmod", "os.rmdir"):
        count += 1
        if count == moment:
            os._exit(9)

sys.addaudithook(audit)
execute = store.connection.set_exec_trace

def traced(cursor, sql, bindings):
    audit("os.rename" if sql.lstrip().startswith(("BEGIN", "COMMIT", "UPDATE")) else "", ())
    return True

execute(traced)
reseal(store, old_keys=(old,), keys=new)
store.close()
"""


def test_wherever_the_process_is_killed_each_restore_point_opens_and_the_next_call_finishes(path, tmp_path):
    _with_points(path, 2)
    moments, ended = 0, False
    while not ended:
        moments += 1
        place = tmp_path / f"killed-{moments}"
        place.mkdir()
        for found in tmp_path.glob("app.db*"):
            (shutil.copytree if found.is_dir() else shutil.copy2)(found, place / found.name)
        there = place / "app.db"
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(there), str(moments)],
            cwd=ROOT,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in (0, 9), done.stderr
        ended = done.returncode == 0
        keys = {key.identity().recipient: key for key in (key_of(there), KeyFile(f"{there}.new"))}
        store = Store(str(there), settings=Settings(), clock=SystemClock())
        try:
            points = restore_points(store)
            assert [_notes_in(store, point, keys[point.recipient]) for point in points] == [20, 20]
            new = KeyFile(f"{there}.new")
            assert reseal(store, old_keys=(key_of(there),), keys=new).complete
            assert [_notes_in(store, point, new) for point in restore_points(store)] == [20, 20]
            # Nothing that the old key opens is left.
            assert len(sealed_files(there)) == 2
            assert not list(folder_of(there).glob("plain-*"))
        finally:
            store.close()
        shutil.rmtree(place)
    assert moments > 15


def test_a_damaged_store_that_a_rescue_kept_is_sealed_anew_too(path, new):
    [point] = _with_points(path, 1)
    with open(path, "r+b") as file:
        file.seek(0)
        file.write(b"no database at all, and yet somebody's rows")
    [damaged] = rescue(str(path), point.path, keys=key_of(path), settings=Settings(), clock=SystemClock()).damaged
    store = Store(str(path), settings=Settings(), clock=SystemClock())
    try:
        assert not reseal(store, old_keys=(), keys=new).complete
        report = reseal(store, old_keys=(key_of(path),), keys=new)
        assert report.complete
        assert damaged.endswith(report.resealed)
        again = reseal(store, old_keys=(key_of(path),), keys=new)
        assert (again.resealed, again.complete) == ((), True)
    finally:
        store.close()


# A new key in the place of the old one.


def test_a_new_key_keeps_the_old_one_beside_it_for_its_owner_alone(path):
    keys = key_of(path)
    old = keys.identity()
    kept = keys.renew(SystemClock())
    assert keys.identity() != old
    assert KeyFile(kept).identity() == old
    assert [key.path for key in keys.old_keys()] == [kept]
    assert {stat.S_IMODE((path.parent / name).stat().st_mode) for name in (kept, f"{path}.key")} == {0o600}


def test_where_there_is_no_key_there_is_none_to_renew(path):
    with pytest.raises(KeyUnavailable):
        key_of(path).renew(SystemClock())
    assert list(path.parent.iterdir()) == []


def test_a_restore_point_that_was_begun_for_the_old_key_is_not_recorded_after_a_new_one(path):
    fill(path, notes_of(3))
    asked = []

    class Renewed:
        """Between two questions the key was replaced."""

        def identity(self):
            asked.append(SealingKey.fresh())
            return asked[-1]

    with opened(path, registry=old_app()) as engine:
        with pytest.raises(KeyUnavailable, match="replaced while"):
            make_restore_point(engine._store, keys=Renewed(), reason="test")
        assert engine.restore_points() == ()
        assert sealed_files(path) == []
        write(engine, [])
        assert len(all_notes(engine)) == 3


# On the command line.


@pytest.fixture
def command(tmp_path):
    """A store with one restore point, made by the commands."""
    command = Command(tmp_path)
    command.migrate("TWO")
    command.write_notes("5", "4")
    assert command.migrate("THREE").status == 0
    return command


def test_a_new_key_and_a_reseal_leave_nothing_that_the_old_key_opens(command):
    old = (command.folder / "app.db.key").read_text()
    ran = command("restore-points", "new-key")
    assert (ran.status, "AGE-SECRET" in ran.out) == (0, False)
    [kept] = command.folder.glob("app.db.key.old-*")
    assert kept.read_text() == old
    ran = command("restore-points", "reseal", "--json")
    assert ran.status == 0
    assert (len(ran.json["resealed"]), ran.json["left"], ran.json["keys_deleted"]) == (1, [], [str(kept)])
    assert not kept.exists()
    assert command("restore-points").status == 0
    ran = command("restore-points", "restore", "1", "--app", "notes_app:THREE", "--user", "ann", "--simulate")
    assert ran.status == 0


def test_while_one_is_left_the_old_key_stays(command):
    [point] = command("restore-points", "--json").json
    assert command("restore-points", "make").status == 0
    with open(point["path"], "ab") as file:
        file.write(b"x")
    command("restore-points", "new-key")
    ran = command("restore-points", "reseal")
    assert ran.status == 1
    assert "1 file sealed anew, 0 were already" in ran.out
    assert "another hash" in ran.out
    assert list(command.folder.glob("app.db.key.old-*"))


def test_a_key_that_was_kept_elsewhere_is_named_and_never_deleted(command):
    elsewhere = command.folder / "elsewhere"
    (command.folder / "app.db.key").rename(elsewhere)
    ran = command("restore-points", "reseal")
    assert (ran.status, "a key that was not given" in ran.out) == (1, True)
    ran = command("restore-points", "reseal", "--old-key", str(elsewhere))
    assert (ran.status, elsewhere.exists()) == (0, True)
    assert command("restore-points", "reseal", "--old-key", str(command.folder / "nowhere")).status == 2
    assert not (command.folder / "nowhere").exists()
