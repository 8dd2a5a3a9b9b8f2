"""A restore point before every risky step: whole, sealed, opened once, private, and gone when its time is over."""

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path

import pytest

from syncengine import HostKey, KeyFile, MigrationDefinition, Settings, SystemClock, tables
from syncengine.errors import (
    KeyUnavailable,
    MigrationInvalid,
    RestorePointImpossible,
    RestorePointUnknown,
    RestorePointUnusable,
)
from syncengine.local.keys import SealingKey
from syncengine.local.restore_points import (
    DAY_MS,
    make_restore_point,
    opened_restore_point,
    prune_restore_points,
    restore_points,
)
from tests.integration.migrate_world import dump, registry_of
from tests.integration.restore_world import (
    CANARY,
    MAKE,
    ROOT,
    all_notes,
    files_with,
    fill,
    folder_of,
    key_of,
    new_app,
    note,
    notes_of,
    old_app,
    opened,
    rewrite,
    sealed_files,
    write,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


# Before which step.


def test_a_migration_that_rewrites_a_table_has_a_restore_point_and_says_which(path):
    fill(path, notes_of(3))
    with opened(path) as engine:
        assert engine.migrate().success
        [point] = engine.restore_points()
        assert (point.state, point.schema_version, point.reason) == ("good", "1.1.0", "before to-seconds")
        assert point.rows["notes"] == 3
        assert engine._store.query(
            "SELECT migration, restore_point_id FROM _sync_run WHERE restore_point_id IS NOT NULL"
        ) == [("to-seconds", point.restore_point_id)]


def test_a_store_without_rows_needs_none(path):
    with opened(path) as engine:
        engine.migrate()
        assert engine.restore_points() == ()
    assert not folder_of(path).exists()


def test_one_restore_point_covers_all_steps_of_a_start(path):
    more = tables(
        id="more",
        from_version="2.0.0",
        to_version="3.0.0",
        create=("CREATE TABLE places (user_id TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (user_id, id)) STRICT",),
    )
    fill(path, notes_of(3))
    with opened(path, registry=registry_of(MAKE, rewrite(critical=True), more, target="3.0.0")) as engine:
        engine.migrate()
        [point] = engine.restore_points()
        assert engine._store.query("SELECT migration, restore_point_id FROM _sync_run ORDER BY run_id") == [
            ("make", None),
            ("to-seconds", point.restore_point_id),
            ("more", point.restore_point_id),
        ]


@pytest.mark.parametrize(("backup", "made"), [("auto", 1), ("always", 1), ("never", 0)])
def test_a_migration_may_say_never(path, backup, made):
    fill(path, notes_of(3))
    with opened(path, registry=new_app(backup=backup)) as engine:
        assert engine.migrate().success
        assert len(engine.restore_points()) == made


def test_a_word_that_is_none_of_the_three_is_refused():
    with pytest.raises(MigrationInvalid, match="backup"):
        MigrationDefinition(
            id="x", name="", description="", from_version="1", to_version="2", collections=(), backup="sometimes"
        )


def test_no_restore_point_no_risky_step_and_the_store_is_as_it_was(path):
    fill(path, notes_of(3))
    key_of(path).identity()
    os.chmod(f"{path}.key", 0o644)
    with opened(path) as engine:
        before = dump(engine._store, without=())
        with pytest.raises(KeyUnavailable):
            engine.migrate()
        after = dump(engine._store, without=("_sync_lease",))
        assert after[1] == {name: rows for name, rows in before[1].items() if name != "_sync_lease"}
        assert engine.status().migration.current == "1.1.0"
    assert sealed_files(path) == []
    assert [name for name in files_with(path.parent, CANARY) if not name.startswith("app.db")] == []


def test_no_space_no_risky_step_and_it_is_said_how_much_is_needed(path):
    fill(path, notes_of(3))
    with opened(path, settings=Settings(restore_point_free_bytes_min=2**60)) as engine:
        with pytest.raises(RestorePointImpossible, match="MB are free"):
            engine.migrate()
        assert engine.status().migration.current == "1.1.0"
    assert sealed_files(path) == []
    with opened(path) as engine:
        assert engine.migrate().success


STARTER = """
import sys
from tests.integration.restore_world import opened
sys.stdin.readline()
with opened(sys.argv[1]) as engine:
    report = engine.migrate()
    assert report is None or report.success, report
    print(engine.status().migration.current)
"""


def _start(path, code=STARTER, **more):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def test_eight_processes_that_start_at_once_do_not_make_a_restore_point_each(path):
    fill(path, notes_of(2_000))
    starters = [_start(path) for _ in range(8)]
    for starter in starters:
        starter.stdin.write("go\n")
        starter.stdin.flush()
    answers = [starter.communicate(timeout=100) for starter in starters]
    assert {said for said, _ in answers} == {"2.0.0\n"}, answers
    with opened(path) as engine:
        # Who came when one had been sealed and its migration had not begun may have made another.
        assert 1 <= len(engine.restore_points()) <= 4
        assert engine._store.query("SELECT count(*) FROM _sync_run WHERE migration = 'to-seconds'") == [(1,)]
    assert not list(folder_of(path).glob("plain-*"))


# What is in it.


def test_a_writer_is_not_held_out_while_it_is_made(path):
    fill(path, notes_of(3))
    other = _start(
        path,
        """
        import sys
        from tests.integration.restore_world import note, old_app, opened, write
        with opened(sys.argv[1], registry=old_app()) as engine:
            for line in sys.stdin:
                write(engine, [note(line.strip())])
                print("written", flush=True)
        """,
    )
    said = []

    def between():
        if len(said) < 5:
            other.stdin.write(f"meanwhile-{len(said)}\n")
            other.stdin.flush()
            said.append(other.stdout.readline())

    with opened(path, registry=old_app()) as engine:
        point = make_restore_point(engine._store, keys=key_of(path), reason="test", between=between)
        other.communicate(timeout=30)
        assert said
        assert set(said) == {"written\n"}
        assert point.rows["notes"] == 3
        assert len(all_notes(engine)) == 3 + len(said)
        with opened_restore_point(engine._store, point.restore_point_id, keys=key_of(path)) as copy:
            assert len(_rows(copy)) == 3


def _rows(copy):
    reader = sqlite3.connect(copy)
    try:
        return reader.execute("SELECT * FROM notes ORDER BY user_id, id").fetchall()
    finally:
        reader.close()


def test_age_and_sqlite3_alone_bring_the_rows_back(path, tmp_path):
    if shutil.which("age") is None:
        pytest.skip("age is not installed: apt-get install age")
    fill(path, notes_of(50))
    with opened(path) as engine:
        engine.migrate()
    [sealed] = sealed_files(path)
    back = tmp_path / "back.db"
    subprocess.run(["age", "-d", "-i", f"{path}.key", "-o", back, sealed], check=True, timeout=60)
    shown = subprocess.run(
        ["sqlite3", back, "PRAGMA integrity_check; PRAGMA journal_mode; SELECT count(*), sum(minutes) FROM notes;"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert shown.stdout.split() == ["ok", "delete", "50|1225.0"]


def test_a_restore_point_of_the_wal_holds_what_no_checkpoint_has_moved(path):
    fill(path, notes_of(3))
    with opened(path, registry=old_app()) as engine:
        engine._store.query("PRAGMA wal_autocheckpoint = 0")
        write(engine, [note("in-the-wal")])
        point = make_restore_point(engine._store, keys=key_of(path), reason="test")
        assert point.rows["notes"] == 4


# What can be read.


def test_no_file_but_the_store_holds_a_row_in_plain_text(path):
    fill(path, notes_of(300))
    with opened(path) as engine:
        engine.migrate()
        assert [name for name in files_with(path.parent, CANARY) if name not in ("app.db", "app.db-wal")] == []
    assert sealed_files(path)


def test_files_are_as_private_as_the_store_whatever_the_umask(path):
    before = os.umask(0)
    try:
        fill(path, notes_of(3))
        with opened(path) as engine:
            engine.migrate()
    finally:
        os.umask(before)
    [sealed] = sealed_files(path)
    assert oct(folder_of(path).stat().st_mode & 0o777) == "0o700"
    assert oct(sealed.stat().st_mode & 0o777) == "0o600"
    assert (sealed.stat().st_uid, sealed.stat().st_gid) == (path.stat().st_uid, path.stat().st_gid)


def test_the_plain_copy_is_private_while_it_is_made_and_has_no_name_while_it_is_sealed(path):
    fill(path, [note(f"n-{number}", text=CANARY * 300) for number in range(6_000)])
    seen = []

    def between():
        place = next(folder_of(path).glob("plain-*"))
        modes = {oct(found.stat().st_mode & 0o777) for found in (place, *place.iterdir())}
        seen.append((sorted(found.name for found in place.iterdir()), modes))

    before = os.umask(0)
    try:
        with opened(path, registry=old_app()) as engine:
            make_restore_point(engine._store, keys=key_of(path), reason="test", between=between)
    finally:
        os.umask(before)
    assert {tuple(names) for names, _ in seen} == {("plain.db",), ("sealed",)}
    assert set().union(*(modes for _, modes in seen)) == {"0o700", "0o600"}


def test_a_store_that_its_group_may_read_has_restore_points_that_its_group_may_read(path):
    fill(path, notes_of(3))
    path.chmod(0o640)
    with opened(path) as engine:
        engine.migrate()
    [sealed] = sealed_files(path)
    assert oct(sealed.stat().st_mode & 0o777) == "0o640"


@pytest.mark.parametrize("kind", ["file", "link", "wide"])
def test_a_folder_that_is_none_of_ours_is_not_used(path, tmp_path, kind):
    fill(path, notes_of(3))
    folder = folder_of(path)
    if kind == "file":
        folder.write_text("")
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir(0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir(0o755)
        folder.chmod(0o755)
    with opened(path) as engine, pytest.raises(RestorePointImpossible):
        engine.migrate()
    assert not list(tmp_path.glob("elsewhere/*"))


KILLED = """
import os, sys
from syncengine.local import restore_points
from tests.integration.restore_world import key_of, old_app, opened

pieces = 0
def between():
    global pieces
    pieces += 1
    if pieces == int(sys.argv[2]):
        os.kill(os.getpid(), 9)

with opened(sys.argv[1], registry=old_app()) as engine:
    restore_points.make_restore_point(engine._store, keys=key_of(sys.argv[1]), reason="test", between=between)
    print("made", flush=True)
"""


def test_a_killed_process_leaves_no_plain_copy_after_the_next_start(path):
    """Killed at every moment that it looks around: while it copies, before the check, while it seals and opens."""
    fill(path, [note(f"n-{number}", text=CANARY * 300) for number in range(6_000)])
    killed = 0
    for moment in range(1, 100):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(path), str(moment)],
            cwd=ROOT,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        killed += 1
        with opened(path, registry=old_app()) as engine:
            assert os.listdir(folder_of(path)) == []
            assert engine.restore_points() == ()
            assert engine._store.query("PRAGMA integrity_check") == [("ok",)]
        assert [name for name in files_with(path.parent, CANARY) if not name.startswith("app.db")] == []
    assert killed >= 10


def test_a_plain_copy_that_is_in_use_is_not_swept(path):
    fill(path, notes_of(3))
    with opened(path, registry=old_app()) as engine:
        point = make_restore_point(engine._store, keys=key_of(path), reason="test")
        with opened_restore_point(engine._store, point.restore_point_id, keys=key_of(path)) as copy:
            other = _start(path)
            other.communicate("go\n", timeout=60)
            assert len(_rows(copy)) == 3
        assert [name for name in os.listdir(folder_of(path)) if not name.endswith(".age")] == []


# Opening.


def _made(path, **facts):
    fill(path, notes_of(200))
    with opened(path, **facts) as engine:
        engine.migrate()
    [sealed] = sealed_files(path)
    return sealed


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "gone", "other"])
def test_a_file_that_was_touched_is_said_and_never_opened(path, harm):
    sealed = _made(path)
    text = bytearray(sealed.read_bytes())
    text[len(text) // 2] ^= 1
    if harm == "gone":
        sealed.unlink()
    else:
        sealed.write_bytes(
            {"flip": bytes(text), "cut": bytes(text[:-17]), "empty": b"", "other": b"x" * len(text)}[harm]
        )
    with opened(path) as engine:
        before = dump(engine._store)
        [point] = engine.restore_points()
        assert point.state == ("missing" if harm == "gone" else "altered")
        with pytest.raises(RestorePointUnusable):
            engine.restore(point.restore_point_id)
        assert dump(engine._store) == before
    assert not list(folder_of(path).glob("plain-*"))


@pytest.mark.skipif(os.name == "nt", reason="there are no such pipes")
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_in_the_place_of_one_is_altered_and_nobody_waits_for_it(path, kind):
    sealed = _made(path)
    sealed.unlink()
    (os.mkfifo if kind == "pipe" else os.mkdir)(sealed)
    with opened(path) as engine:
        assert [point.state for point in engine.restore_points()] == ["altered"]
        with pytest.raises(RestorePointUnusable, match="another kind"):
            engine.restore(1)


@pytest.mark.parametrize("named", ["../../{}", "/etc/{}", "{}", "app.db-restore/../{}", "app.db-restore/\0{}.age"])
def test_a_line_that_names_a_file_elsewhere_is_altered_and_that_file_is_never_touched(path, named):
    sealed = _made(path)
    (path.parent / "precious").write_bytes(sealed.read_bytes())
    with opened(path, settings=Settings(restore_points_max=1)) as engine:
        with engine._store.transaction():
            engine._store.query("UPDATE _sync_restore_point SET path = ?", (named.format("precious"),))
        assert [point.state for point in engine.restore_points()] == ["altered"]
        with pytest.raises(RestorePointUnusable, match="another place"):
            engine.restore(1)
        engine.migrations.make_restore_point()
        assert prune_restore_points(engine._store) == 1
    assert (path.parent / "precious").exists()


def test_file_and_hash_altered_together_are_refused_all_the_same(path):
    """Who can write to the store can write a hash; sealed bytes cannot be altered without the key."""
    sealed = _made(path)
    text = bytearray(sealed.read_bytes())
    text[-5] ^= 1
    sealed.write_bytes(bytes(text))
    digest = subprocess.run(["sha256sum", sealed], check=True, capture_output=True, text=True).stdout.split()[0]
    with opened(path) as engine:
        with engine._store.transaction():
            engine._store.query("UPDATE _sync_restore_point SET sha256 = ?", (digest,))
        before = dump(engine._store)
        with pytest.raises(RestorePointUnusable, match="altered or cut short"):
            engine.restore(1)
        assert dump(engine._store) == before


def test_another_key_does_not_open_it_and_nothing_changes(path):
    _made(path)
    with opened(path, keys=HostKey(SealingKey.fresh().secret_text)) as engine:
        before = dump(engine._store)
        with pytest.raises(RestorePointUnusable, match="another key"):
            engine.restore(1)
        assert dump(engine._store) == before
    assert len(sealed_files(path)) == 1


def test_a_number_that_is_none_is_said(path):
    _made(path)
    with opened(path) as engine, pytest.raises(RestorePointUnknown):
        engine.restore(99)


def test_the_key_of_the_host_seals_in_place_of_the_file(path):
    secret = SealingKey.fresh().secret_text()
    _made(path, keys=HostKey(lambda: secret))
    assert not os.path.exists(f"{path}.key")
    assert files_with(path.parent, secret[20:60]) == []


def test_the_key_is_in_its_file_and_nowhere_else(path, caplog):
    caplog.set_level("DEBUG")
    _made(path)
    secret = KeyFile(f"{path}.key").identity().secret_text()
    assert files_with(path.parent, secret) == ["app.db.key"]
    assert secret not in caplog.text


def test_a_moved_store_finds_its_restore_points(path, tmp_path):
    _made(path)
    there = tmp_path / "there"
    there.mkdir()
    for name in os.listdir(tmp_path):
        if name.startswith("app.db"):
            shutil.move(tmp_path / name, there / name)
    with opened(there / "app.db") as engine:
        assert [point.state for point in engine.restore_points()] == ["good"]
        assert engine.restore(1).to_version == "1.1.0"


# Keeping.


class Later(SystemClock):
    """So many days ahead."""

    def __init__(self, days):
        self._ms = days * DAY_MS

    def now_ms(self):
        return super().now_ms() + self._ms


def test_an_older_restore_point_covers_nothing_however_far_the_wall_clock_went_back(path):
    fill(path, notes_of(3))
    with opened(path, registry=old_app()) as engine:
        engine.migrate()
        made_before = make_restore_point(engine._store, keys=key_of(path), reason="asked")
        write(engine, [note("later")])
    with opened(path, clock=Later(-1)) as engine:
        assert engine.migrate().success
        ((covered_by,),) = engine._store.query(
            "SELECT restore_point_id FROM _sync_run WHERE migration = 'to-seconds'"
        )
        [point] = [one for one in engine.restore_points() if one.restore_point_id == covered_by]
    assert covered_by != made_before.restore_point_id
    assert point.rows["notes"] == 4


def test_a_restore_point_goes_when_its_time_is_over_and_its_line_stays(path):
    sealed = _made(path)
    with opened(path, clock=Later(6)) as engine:
        assert engine.migrate() is None
        assert sealed.exists()
    with opened(path, clock=Later(8)) as engine:
        assert engine.migrate() is None
        assert engine.restore_points() == ()
        assert engine._store.query("SELECT gone_at IS NOT NULL FROM _sync_restore_point") == [(1,)]
    assert not sealed.exists()


def test_of_too_many_the_oldest_go_and_the_newest_stays(path):
    fill(path, notes_of(3))
    settings = Settings(restore_points_max=2)
    with opened(path, registry=old_app(), settings=settings) as engine:
        made = [make_restore_point(engine._store, keys=key_of(path), reason="test") for _ in range(4)]
        assert prune_restore_points(engine._store) == 2
        assert [point.restore_point_id for point in restore_points(engine._store)] == [
            point.restore_point_id for point in made[2:]
        ]
    assert len(sealed_files(path)) == 2


def test_with_no_days_to_keep_it_goes_when_its_migration_has_succeeded(path):
    fill(path, notes_of(3))
    with opened(path, settings=Settings(restore_point_keep_days=0)) as engine:
        assert engine.migrate().success
        assert engine._store.query("SELECT count(*) FROM _sync_restore_point WHERE gone_at IS NOT NULL") == [(1,)]
    assert sealed_files(path) == []


def test_a_file_that_nobody_recorded_goes_after_the_time_and_a_strangers_file_never(path):
    sealed = _made(path)
    lost, strange = sealed.with_name("2026-01-01T000000000Z-aaaaaaaaaaaa.age"), sealed.with_name("letter.txt")
    damaged = sealed.with_name("2026-01-01T000000000Z-bbbbbbbbbbbb.damaged.age")
    shutil.copy(sealed, lost)
    shutil.copy(sealed, damaged)
    strange.write_text("mine")
    with opened(path, clock=Later(1)) as engine:
        prune_restore_points(engine._store)
        assert lost.exists()
    with opened(path, clock=Later(9)) as engine:
        prune_restore_points(engine._store)
    assert not lost.exists()
    assert strange.exists()
    assert damaged.exists()


def test_a_restore_point_shows_no_rows(path):
    _made(path)
    with opened(path) as engine:
        [point] = engine.restore_points()
    assert CANARY not in repr(point)
    assert CANARY not in str(asdict(point))


MEMORY = """
import resource, sys
from syncengine.local.restore_points import make_restore_point, opened_restore_point
from tests.integration.restore_world import key_of, old_app, opened

def peak_kb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

with opened(sys.argv[1], registry=old_app()) as engine:
    key_of(sys.argv[1]).identity()
    before = peak_kb()
    point = make_restore_point(engine._store, keys=key_of(sys.argv[1]), reason="test")
    with opened_restore_point(engine._store, point.restore_point_id, keys=key_of(sys.argv[1])):
        print(point.size_bytes, (peak_kb() - before) * 1024)
"""


def test_memory_does_not_grow_with_the_store(path):
    fill(path, [note(f"n-{number}", text="x" * 20_000) for number in range(1_000)])
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    size_bytes, grown_bytes = map(int, done.stdout.split())
    assert size_bytes > 20_000_000
    assert grown_bytes < 12_000_000


def test_a_key_that_is_gone_is_said_and_no_new_one_is_made_to_open_what_was_sealed(path):
    _made(path)
    key = Path(key_of(path)._path)
    key.rename(f"{key}.elsewhere")
    with opened(path) as engine:
        [point] = engine.restore_points()
        for simulate in (True, False):
            with pytest.raises(KeyUnavailable) as refused:
                engine.restore(point.restore_point_id, simulate=simulate)
            assert "not there" in refused.value.why
    assert not key.exists()
    Path(f"{key}.elsewhere").rename(key)
    with opened(path) as engine:
        assert engine.restore(point.restore_point_id, simulate=True).simulated
