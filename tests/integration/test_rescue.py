"""A store that is too damaged to be read: a sealed file takes its place, and the damaged one is kept as it is."""

import os
import shutil
import subprocess
import sys

import pytest

from syncengine import Settings, SystemClock
from syncengine.errors import (
    DataAtRisk,
    RestorePointUnusable,
    StoreAlreadyOpen,
    StoreMissing,
    StoreReplaced,
    SyncEngineError,
)
from syncengine.local.keys import SealingKey
from syncengine.local.rescuing import rescue
from tests.integration.restore_world import (
    CANARY,
    ROOT,
    all_notes,
    files_with,
    fill,
    folder_of,
    key_of,
    note,
    notes_of,
    opened,
    sealed_files,
    write,
)

PAGE_BYTES = 4096


@pytest.fixture
def path(tmp_path):
    """A migrated store with a restore point, and a note since; closed."""
    path = tmp_path / "app.db"
    fill(path, notes_of(300))
    with opened(path) as engine:
        engine.migrate()
        write(engine, [note("new")])
    return path


def header(text):
    return b"x" * 16 + text[16:]


def schema(text):
    return text[:100] + b"\xff" * 8 + text[108:]


def cut(text):
    return text[: 2 * PAGE_BYTES]


def zeros(text):
    return bytes(len(text))


DAMAGES = [header, schema, cut, zeros]


def put(path, sealed=None, **facts):
    facts = {"keys": key_of(path), "settings": Settings(), "clock": SystemClock(), **facts}
    return rescue(str(path), str(sealed or sealed_files(path)[0]), **facts)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_put_right_and_its_bytes_are_kept(path, tmp_path, damage):
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    report = put(path)
    assert report.schema_version == "1.1.0"
    with opened(path) as engine:
        assert engine.read_only is None
        assert len(all_notes(engine)) == 300
        assert engine._store.query("PRAGMA integrity_check") == [("ok",)]
        assert engine.migrate().success
    [kept] = report.damaged
    back = tmp_path / "back"
    if shutil.which("age") is None:
        pytest.skip("age is not installed: apt-get install age")
    subprocess.run(["age", "-d", "-i", f"{path}.key", "-o", back, kept], check=True, timeout=60)
    assert back.read_bytes() == damaged


def test_the_log_of_the_damaged_store_does_not_come_into_the_new_one(path):
    code = (
        "import os, sys\nfrom tests.integration.restore_world import note, opened, write\n"
        "engine = opened(sys.argv[1])\nwrite(engine, [note('in-the-log')])\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=True, timeout=60)
    log = path.with_name("app.db-wal").read_bytes()
    assert log
    path.write_bytes(schema(path.read_bytes()))
    assert len(put(path).damaged) == 2
    # SQLite would take any log of this name for the file's own, and write its pages over others.
    assert not path.with_name("app.db-wal").exists()
    with opened(path) as engine:
        assert engine._store.query("PRAGMA integrity_check") == [("ok",)]
        assert len(all_notes(engine)) == 300


def test_the_rescued_store_is_another_device_and_its_queue_waits_for_a_person(path):
    with opened(path) as engine:
        device = engine._store.value("state", "get", name="device_id")
        with engine._store.transaction():
            engine._store.query("INSERT INTO _sync_drain (owner, next_sequence) VALUES ('ann', 41)")
            engine._store.query(
                "INSERT INTO _sync_outbox (owner, sequence, epoch, kind, collection, row_key, set_json,"
                " shape_version, group_id, state, created_ms) VALUES"
                " ('ann', 40, 1, 'put', 'notes', 'n', '{\"a\": 1}', '2.0.0', 1, 'claimed', 0)"
            )
        sealed = engine.migrations.make_restore_point().path
    path.write_bytes(zeros(path.read_bytes()))
    assert put(path, sealed).entries_set_aside == 1
    with opened(path) as engine:
        assert engine._store.value("state", "get", name="device_id") != device
        assert engine._store.query("SELECT count(*) FROM _sync_outbox") == [(0,)]
        assert engine._store.query("SELECT count(*) FROM _sync_drain") == [(0,)]
        assert engine._store.query("SELECT origin, owner FROM _sync_quarantine") == [("outbox", "ann")]
        assert not engine.status().synced


@pytest.mark.parametrize("wrong", ["key", "altered", "missing"])
def test_what_cannot_be_opened_changes_nothing(path, wrong):
    path.write_bytes(schema(path.read_bytes()))
    before = path.read_bytes()
    [sealed] = sealed_files(path)
    facts = {}
    if wrong == "key":
        facts = {"keys": type("Other", (), {"identity": staticmethod(SealingKey.fresh)})()}
    elif wrong == "altered":
        sealed.write_bytes(sealed.read_bytes()[:-1])
    else:
        sealed = sealed.with_name("nothing.age")
    with pytest.raises(RestorePointUnusable):
        put(path, sealed, **facts)
    assert path.read_bytes() == before
    assert [name for name in os.listdir(folder_of(path)) if not name.endswith(".age")] == []


def test_a_store_that_is_open_here_is_not_replaced(path):
    with opened(path), pytest.raises(StoreAlreadyOpen):
        put(path)


def test_there_has_to_be_a_store(tmp_path):
    with pytest.raises(StoreMissing):
        put(tmp_path / "nothing.db", tmp_path / "x.age")


def test_an_app_that_was_forgotten_writes_no_more(path):
    code = (
        "import sys\nfrom tests.integration.restore_world import note, opened, write\n"
        "from syncengine.errors import SyncEngineError\n"
        "with opened(sys.argv[1]) as engine:\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    try:\n"
        "        write(engine, [note('lost')])\n"
        "        print('written', flush=True)\n"
        "    except SyncEngineError as error:\n"
        "        print(error.code(), flush=True)\n"
    )
    forgotten = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert forgotten.stdout.readline() == "open\n"
    put(path)
    assert forgotten.communicate("go\n", timeout=30)[0].strip() == StoreReplaced.code()


def test_nothing_is_left_in_plain_text_and_files_stay_private(path):
    path.write_bytes(header(path.read_bytes()))
    put(path)
    assert [name for name in files_with(path.parent, CANARY) if name != "app.db"] == []
    for file in (path, *folder_of(path).iterdir()):
        assert oct(file.stat().st_mode & 0o777) == "0o600"


def test_the_command_line_says_what_it_did(path):
    path.write_bytes(zeros(path.read_bytes()))
    command = [sys.executable, "-m", "syncengine", "restore-points", "rescue", sealed_files(path)[0], "--store", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "at version 1.1.0 again" in done.stdout
    assert "damaged.age" in done.stdout


def test_a_store_that_can_be_read_is_replaced_only_after_a_question(path):
    before = path.read_bytes()
    command = [sys.executable, "-m", "syncengine", "restore-points", "rescue", sealed_files(path)[0], "--store", path]
    for answer in ("n\n", "\n", ""):
        done = subprocess.run(
            command, cwd=ROOT, input=answer, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert "can be read. Put the sealed file in its place all the same?" in done.stderr
        assert "Traceback" not in done.stderr
    assert path.read_bytes() == before
    done = subprocess.run([*command, "--yes"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 4), done.stderr
    assert "at version 1.1.0 again" in done.stdout


def test_every_damage_here_is_one_that_stops_the_engine(path):
    """Else the tests above would rescue what needs no rescue."""
    whole = path.read_bytes()
    for damage in DAMAGES:
        path.write_bytes(damage(whole))
        try:
            with opened(path) as engine:
                reason = engine.read_only
                assert reason is not None
                assert issubclass(reason.error, DataAtRisk)
        except SyncEngineError:
            continue
