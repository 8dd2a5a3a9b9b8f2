"""Private copies of a store go with their block, and those of killed processes with the next one's work."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from syncengine.local.copies import open_copy
from syncengine.local.private_folder import LEFTOVER_AGE_MS_MIN, machine, private_folder, remove_leftovers
from tests.integration.open_world import opened

NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files of this test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(place: Path, name: str, *, age_ms: int = LEFTOVER_AGE_MS_MIN, now_ms: int = NOW_MS) -> Path:
    folder = place / name
    folder.mkdir()
    (folder / "copy.db").write_text("private")
    moment_ns = (now_ms - age_ms) * 1_000_000
    os.utime(folder, ns=(moment_ns, moment_ns))
    return folder


@pytest.mark.parametrize("purpose", ["copy", "snapshot"])
def test_a_folder_that_a_killed_process_left_a_day_ago_is_removed(place: Path, dead: int, purpose: str) -> None:
    folder = left(place, f"syncengine-{purpose}-{dead}-abc_12")
    remove_leftovers(str(place), now_ms=NOW_MS)
    assert not folder.exists()


def test_what_is_young_or_alive_or_not_ours_stays(place: Path, dead: int) -> None:
    stays = [
        left(place, f"syncengine-copy-{dead}-young", age_ms=LEFTOVER_AGE_MS_MIN - 1),
        left(place, f"syncengine-copy-{os.getpid()}-alive"),
        left(place, "syncengine-copy-1-first"),
        left(place, f"syncengine-other-{dead}-x"),
        left(place, f"my-syncengine-copy-{dead}-x"),
        left(place, "syncengine-copy-abc-x"),
    ]
    remove_leftovers(str(place), now_ms=NOW_MS)
    assert [path for path in stays if not path.exists()] == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_another_users_folder_stays(place: Path, dead: int) -> None:
    folder = left(place, f"syncengine-copy-{dead}-theirs")
    os.chown(folder, 65_534, 65_534)
    remove_leftovers(str(place), now_ms=NOW_MS)
    assert folder.exists()


def test_a_link_with_such_a_name_leads_to_no_deletion(place: Path, dead: int) -> None:
    target = left(place, "precious")
    link = place / f"syncengine-copy-{dead}-link"
    link.symlink_to(target)
    moment_ns = (NOW_MS - LEFTOVER_AGE_MS_MIN) * 1_000_000
    os.utime(link, ns=(moment_ns, moment_ns), follow_symlinks=False)
    remove_leftovers(str(place), now_ms=NOW_MS)
    assert (target / "copy.db").exists()


def test_a_private_folder_is_for_this_user_only_and_goes_with_its_block(place: Path) -> None:
    with private_folder("copy") as folder:
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert os.path.basename(folder).startswith(f"syncengine-copy-{os.getpid()}-{machine()}-")
    assert list(place.iterdir()) == []


def test_the_copy_of_a_killed_process_goes_when_the_next_copy_is_opened(place: Path, tmp_path_factory) -> None:
    path = str(tmp_path_factory.mktemp("app") / "RKStorage")
    apsw.Connection(path).execute("CREATE TABLE a (b)")
    code = """
import os, sys
from syncengine.local.copies import open_copy
with open_copy(sys.argv[1]):
    os.kill(os.getpid(), 9)
"""
    environment = {**os.environ, "TMPDIR": str(place)}
    subprocess.run([sys.executable, "-c", code, path], check=False, env=environment)
    [folder] = place.iterdir()
    assert (folder / "copy.db").exists()
    with open_copy(path):
        assert not folder.exists()


def test_a_folder_of_this_machine_goes_as_soon_as_its_process_has_ended(place: Path, dead: int) -> None:
    gone = left(place, f"syncengine-snapshot-{dead}-{machine()}-abc_12", age_ms=0)
    alive = left(place, f"syncengine-snapshot-{os.getpid()}-{machine()}-abc_12")
    elsewhere = left(place, f"syncengine-snapshot-{dead}-{'0' * 8}-abc_12", age_ms=LEFTOVER_AGE_MS_MIN - 1)
    remove_leftovers(str(place), now_ms=NOW_MS)
    assert [path.exists() for path in (gone, alive, elsewhere)] == [False, True, True]


def test_a_migration_takes_away_what_a_killed_rehearsal_left(place: Path, dead: int) -> None:
    folder = left(place, f"syncengine-snapshot-{dead}-{machine()}-abc_12", age_ms=0)
    with opened(place / "app.db") as engine:
        assert folder.exists()
        engine.migrate()
    assert not folder.exists()
