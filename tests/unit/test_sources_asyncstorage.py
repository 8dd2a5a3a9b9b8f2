"""AsyncStorage is read as the library itself would read it, wherever it lies, and nothing in it is changed."""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from syncengine.errors import SourceBroken, SourceMissing
from syncengine.local import regular_file
from syncengine.sources import BrokenJson, open_asyncstorage, open_source
from syncengine.sources.asyncstorage_manifest import MANIFEST_BYTES_MAX

DATA = Path(__file__).parents[1] / "data" / "asyncstorage"
EXPECTED: dict[str, str] = json.loads((DATA / "expected.json").read_text(encoding="utf-8"))
CATALYST = "CREATE TABLE catalystLocalStorage (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
ROOM = "CREATE TABLE Storage (key TEXT NOT NULL, value TEXT, PRIMARY KEY(key))"


@pytest.fixture(params=["android-rkstorage-wal", "ios-library-2.2.0"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """One of the two stores that the real library's code and SQL wrote."""
    return Path(shutil.copytree(DATA / request.param, tmp_path / "store"))


def database(path: Path, *statements: str, journal_mode: str = "DELETE") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = apsw.Connection(str(path))
    for statement in (f"PRAGMA journal_mode = {journal_mode}", *statements):
        connection.execute(statement).fetchall()
    connection.close()
    return path


def manifest_folder(folder: Path, manifest: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def filled(table: str, **values: str) -> str:
    rows = ", ".join(f"('{key}', '{value}')" for key, value in values.items())
    return f"INSERT INTO {table} VALUES {rows}"


def test_every_key_has_the_value_that_the_library_itself_returns(store: Path) -> None:
    with open_source(store) as source:
        assert dict(zip(source.keys(), map(source.text, source.keys()), strict=True)) == EXPECTED
        assert source.keys() == tuple(sorted(EXPECTED))
        assert source.problems() == ()
        assert source.size("@saved_routes") == len(EXPECTED["@saved_routes"].encode())


def test_the_elements_of_an_array_are_those_of_its_json(store: Path) -> None:
    with open_source(store) as source:
        for key in ("@saved_routes", "savedPlaces", "dismissedPlaces", "@explored_segments"):
            assert [json.loads(element) for element in source.elements(key)] == json.loads(EXPECTED[key])
        assert [json.loads(element) for element in source.elements("lastRoute", single_object=True)] == [
            json.loads(EXPECTED["lastRoute"])
        ]
        with pytest.raises(BrokenJson) as caught:
            list(source.elements("@broken", single_object=True))
        assert caught.value.remainder == EXPECTED["@broken"].encode()


def test_a_key_without_a_value_is_absent_and_its_likeness_is_named(store: Path) -> None:
    with open_source(store) as source:
        assert source.text("savedRoutes") is None
        assert source.size("savedRoutes") is None
        assert list(source.elements("savedRoutes")) == []
        assert source.near_misses("savedRoutes") == ("@saved_routes",)


def test_reading_changes_no_byte_and_no_time_of_the_store(store: Path) -> None:
    def state() -> dict[str, tuple[int, str]]:
        return {
            str(path): (
                path.stat().st_mtime_ns,
                hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            )
            for path in [store, *store.rglob("*")]
        }

    before = state()
    with open_source(store) as source:
        assert all(map(source.text, source.keys()))
        assert state() == before
    assert state() == before


def test_a_value_above_the_limit_is_refused_without_showing_it(store: Path) -> None:
    with open_source(store) as source:
        assert source.text("@user_language", bytes_max=2) == "ja"
        with pytest.raises(SourceBroken) as caught:
            source.text("@user_ui_theme", bytes_max=8)
        assert "adventure" not in str(caught.value)


def test_the_store_is_named_alike_by_its_own_path_and_by_its_folder(store: Path) -> None:
    with open_source(store) as by_folder:
        identity = by_folder.identity
    inner = next(path for name in ("RKStorage", "RCTAsyncLocalStorage_V1") for path in store.glob(name))
    with open_asyncstorage(inner) as by_path:
        assert by_path.identity == identity
    if inner.is_dir():
        with open_source(inner / "manifest.json") as by_manifest:
            assert by_manifest.identity == identity


def test_closing_twice_is_allowed(store: Path) -> None:
    source = open_source(store)
    source.close()
    source.close()


# Android.


def test_an_android_store_copied_without_its_wal_is_refused_and_not_taken_for_empty(tmp_path: Path) -> None:
    shutil.copy(DATA / "android-rkstorage-wal" / "RKStorage", tmp_path / "RKStorage")
    with pytest.raises(SourceBroken, match="RKStorage-wal"):
        open_source(tmp_path)


def test_a_table_that_is_only_in_the_missing_wal_is_refused_alike(tmp_path: Path) -> None:
    database(tmp_path / "RKStorage", "PRAGMA user_version = 1", journal_mode="WAL")
    with pytest.raises(SourceBroken, match="RKStorage-wal"):
        open_source(tmp_path)


def living_database(folder: Path, *statements: str) -> Path:
    """A database in WAL mode, copied with its `-wal` while its app is running."""
    living = folder / "living"
    living.mkdir()
    connection = apsw.Connection(str(living / "RKStorage"))
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA wal_autocheckpoint = 0", CATALYST, *statements):
        connection.execute(statement).fetchall()
    shutil.copytree(living, folder / "copied")
    connection.close()
    return folder / "copied" / "RKStorage"


@pytest.mark.parametrize("missing_bytes", [1, 10, 4_110, 4_119, 5_000])
def test_a_wal_that_was_copied_short_is_refused_because_sqlite_would_leave_its_rows_out(
    tmp_path: Path, missing_bytes: int
) -> None:
    path = living_database(tmp_path, *(filled("catalystLocalStorage", **{f"k{n}": "x" * 3_000}) for n in range(9)))
    wal = path.with_name("RKStorage-wal")
    with open_source(path) as source:
        assert len(source.keys()) == 9
    os.truncate(wal, wal.stat().st_size - missing_bytes)
    with pytest.raises(SourceBroken, match="copied short"):
        open_source(path)


@pytest.mark.parametrize("left_bytes", [1, 8, 31, 40, 1_000])
def test_a_wal_without_one_whole_frame_is_refused(tmp_path: Path, left_bytes: int) -> None:
    path = living_database(tmp_path)
    os.truncate(path.with_name("RKStorage-wal"), left_bytes)
    with pytest.raises(SourceBroken, match="copied short"):
        open_source(path)


def test_a_wal_that_its_size_limit_cut_inside_an_old_frame_is_whole(tmp_path: Path) -> None:
    many = [filled("catalystLocalStorage", **{f"k{n}": "x" * 3_000}) for n in range(20)]
    path = living_database(
        tmp_path,
        "PRAGMA journal_size_limit = 20000",
        *many,
        "PRAGMA wal_checkpoint(RESTART)",
        filled("catalystLocalStorage", last="new"),
    )
    assert path.with_name("RKStorage-wal").stat().st_size == 20_000  # not a whole number of frames
    with open_source(path) as source:
        assert len(source.keys()) == 21
        assert source.text("last") == "new"


def test_a_wal_whose_app_was_killed_between_a_frames_header_and_its_page_is_whole(tmp_path: Path) -> None:
    path = living_database(tmp_path, filled("catalystLocalStorage", theme="a"))
    wal = path.with_name("RKStorage-wal")
    content = wal.read_bytes()
    wal.write_bytes(content + content[32:56])
    with open_source(path) as source:
        assert source.text("theme") == "a"


def test_an_empty_wal_is_whole(tmp_path: Path) -> None:
    path = database(tmp_path / "RKStorage", CATALYST, filled("catalystLocalStorage", theme="a"), journal_mode="WAL")
    path.with_name("RKStorage-wal").touch()
    with open_source(path) as source:
        assert source.text("theme") == "a"


def test_an_empty_table_of_a_store_without_a_wal_is_simply_empty(tmp_path: Path) -> None:
    database(tmp_path / "RKStorage", CATALYST)
    with open_source(tmp_path) as source:
        assert source.keys() == ()


def test_room_goes_before_the_stale_table_in_it_and_the_stale_file_beside_it(tmp_path: Path) -> None:
    stale = filled("catalystLocalStorage", theme="old", gone="old")
    room = database(
        tmp_path / "AsyncStorage",
        CATALYST,
        stale,
        ROOM,
        "INSERT INTO Storage VALUES ('theme', 'new'), ('unset', NULL)",
    )
    database(tmp_path / "RKStorage", CATALYST, stale)
    with open_source(tmp_path) as source:
        assert source.keys() == ("theme",)
        assert source.text("theme") == "new"
        assert source.text("unset") is None
        assert [problem for problem in source.problems() if "catalystLocalStorage" in problem]
        assert [problem for problem in source.problems() if "RKStorage" in problem]
        assert len(source.problems()) == 2
    with open_source(room) as source:
        assert source.text("theme") == "new"


def test_a_room_file_that_has_no_table_of_its_own_yet_gives_way_to_rkstorage(tmp_path: Path) -> None:
    database(tmp_path / "AsyncStorage", CATALYST, filled("catalystLocalStorage", theme="copied"))
    database(tmp_path / "RKStorage", CATALYST, filled("catalystLocalStorage", theme="living"))
    with open_source(tmp_path) as source:
        assert source.text("theme") == "living"


def test_of_expos_scoped_files_the_last_one_counts_and_only_where_rkstorage_is_missing(tmp_path: Path) -> None:
    for age, name in enumerate(["new", "old"]):
        path = database(
            tmp_path / f"RKStorage-scoped-experience-{name}", CATALYST, filled("catalystLocalStorage", theme=name)
        )
        os.utime(path, ns=(10**18 - age, 10**18 - age))
    with open_source(tmp_path) as source:
        assert source.text("theme") == "new"
        assert len(source.problems()) == 1
    database(tmp_path / "RKStorage", CATALYST, filled("catalystLocalStorage", theme="unscoped"))
    with open_source(tmp_path) as source:
        assert source.text("theme") == "unscoped"


def test_a_named_storage_is_read_where_it_is_the_only_one_and_named_otherwise(tmp_path: Path) -> None:
    named = tmp_path / "files" / "async-storage" / "databases" / "walks" / "walks.sqlite"
    database(
        named, "CREATE TABLE entries (key TEXT PRIMARY KEY NOT NULL, value TEXT)", filled("entries", theme="named")
    )
    with open_source(tmp_path) as source:
        assert source.text("theme") == "named"
    database(tmp_path / "databases" / "RKStorage", CATALYST, filled("catalystLocalStorage", theme="default"))
    with open_source(tmp_path) as source:
        assert source.text("theme") == "default"
        assert [problem for problem in source.problems() if "walks.sqlite" in problem]


def test_the_windows_table_is_read(tmp_path: Path) -> None:
    table = "CREATE TABLE AsyncLocalStorage (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
    database(tmp_path / "AsyncStorage.db", table, filled("AsyncLocalStorage", theme="night"))
    with open_source(tmp_path) as source:
        assert source.text("theme") == "night"


def test_rows_without_a_key_or_a_text_are_counted_and_stop_nothing(tmp_path: Path) -> None:
    odd = "INSERT INTO Storage VALUES (NULL, 'a'), (NULL, 'b'), (x'6162', 'c'), ('number', 7), ('good', 'yes')"
    database(tmp_path / "AsyncStorage", "CREATE TABLE Storage (key, value)", odd)
    with open_source(tmp_path) as source:
        assert source.keys() == ("good",)
        assert source.problems() == (
            "3 row(s) of Storage with a key that is NULL or no text",
            "1 row(s) of Storage with a value that is no text",
        )


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_utf_16_database_gives_the_same_text(tmp_path: Path, encoding: str) -> None:
    # Longer than a chunk, so that characters of four bytes lie across its border.
    walks = json.dumps(["🏯 根津" * 50_000, "x" + "😀" * 100_000], ensure_ascii=False)
    database(
        tmp_path / "RKStorage",
        f"PRAGMA encoding = '{encoding}'",
        CATALYST,
        filled("catalystLocalStorage", ключ=walks),
    )
    with open_source(tmp_path) as source:
        assert source.keys() == ("ключ",)
        assert source.text("ключ") == walks
        assert [json.loads(element) for element in source.elements("ключ")] == json.loads(walks)


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_a_value_stored_as_a_blob_is_read_as_its_bytes(tmp_path: Path, encoding: str) -> None:
    blob = "INSERT INTO catalystLocalStorage VALUES ('a', x'5b312c325d')"
    database(tmp_path / "RKStorage", f"PRAGMA encoding = '{encoding}'", CATALYST, blob)
    with open_source(tmp_path) as source:
        assert list(source.elements("a")) == [b"1", b"2"]


def test_text_that_is_not_utf_8_is_refused_for_its_key_only(tmp_path: Path) -> None:
    bad = "INSERT INTO catalystLocalStorage VALUES ('bad', CAST(x'61ff' AS TEXT)), ('good', '1')"
    database(tmp_path / "RKStorage", CATALYST, bad)
    with open_source(tmp_path) as source:
        assert source.text("good") == "1"
        with pytest.raises(SourceBroken, match="bad"):
            source.text("bad")


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    database(tmp_path / "RKStorage", "CREATE TABLE contacts (name)")
    with pytest.raises(SourceBroken, match="not of AsyncStorage"):
        open_source(tmp_path)


def test_a_damaged_database_is_refused_as_damaged(tmp_path: Path) -> None:
    rows = [filled("catalystLocalStorage", **{f"key{number}": "x" * 900}) for number in range(100)]
    path = database(tmp_path / "RKStorage", CATALYST, *rows)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x7f" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(SourceBroken, match="RKStorage"):
        open_source(tmp_path)


# What is no file.


def socket_at(path: str) -> None:
    with contextlib.chdir(os.path.dirname(path)), socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.basename(path))  # an address of at most 107 bytes


KINDS: dict[str, Callable[[str], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: os.symlink("/dev/zero", path),
    "folder": os.mkdir,
    "socket": socket_at,
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
@pytest.mark.parametrize("name", ["RKStorage", "dump.json", "manifest.json", "RKStorage-wal"])
def test_what_is_no_file_is_refused_at_once_and_named(tmp_path: Path, kind: str, name: str) -> None:
    database(tmp_path / "RKStorage", CATALYST)
    (tmp_path / name).unlink(missing_ok=True)
    KINDS[kind](str(tmp_path / name))
    with pytest.raises(SourceBroken, match=f"{name} is a {kind}, not a file"):
        open_source(tmp_path / name.removesuffix("-wal"))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_that_is_no_file_is_refused_in_its_folder(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "RCTAsyncLocalStorage_V1"
    folder.mkdir()
    KINDS[kind](str(folder / "manifest.json"))
    with pytest.raises(SourceBroken, match=f"manifest.json is a {kind}, not a file"):
        open_source(tmp_path)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", KINDS)
def test_a_value_file_that_is_no_file_is_refused_for_its_key_only(tmp_path: Path, kind: str) -> None:
    folder = manifest_folder(tmp_path / "RCTAsyncLocalStorage_V1", {"long": None, "short": "1"})
    KINDS[kind](str(folder / hashlib.md5(b"long").hexdigest()))
    with open_source(tmp_path) as source:
        assert source.text("short") == "1"
        for read in (source.text, source.size, source.elements):
            with pytest.raises(SourceBroken, match=f"is a {kind}, not a file"):
                read("long")


@pytest.mark.timeout(10)
def test_what_becomes_a_pipe_after_the_look_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "RKStorage")
    monkeypatch.setattr(regular_file, "regular_size_bytes", lambda path: 0)
    with pytest.raises(SourceBroken, match="is a pipe"):
        regular_file.open_regular(tmp_path / "RKStorage")


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    folder = manifest_folder(tmp_path / "RCTAsyncLocalStorage_V1", {"long": None})
    for target, link in (("m", "manifest.json"), ("v", hashlib.md5(b"long").hexdigest())):
        (tmp_path / target).write_text('{"long": null}' if target == "m" else "[1]")
        (folder / link).unlink(missing_ok=True)
        (folder / link).symlink_to(tmp_path / target)
    with open_source(folder) as source:
        assert list(source.elements("long")) == [b"1"]


def test_a_manifest_above_its_limit_is_refused_unread(tmp_path: Path) -> None:
    folder = manifest_folder(tmp_path / "RCTAsyncLocalStorage_V1", {})
    os.truncate(folder / "manifest.json", MANIFEST_BYTES_MAX + 1)
    with pytest.raises(SourceBroken) as caught:
        open_source(folder)
    assert f"larger than {MANIFEST_BYTES_MAX} bytes" in caught.value.why


# iOS and macOS.


@pytest.mark.parametrize("manifest", ["", "{", '{"a": ', "[1]", "null", '"text"', '{"a": "\\', "\xff", "[" * 100_000])
def test_a_broken_manifest_is_refused_and_left_as_it_is(tmp_path: Path, manifest: str) -> None:
    path = tmp_path / "RCTAsyncLocalStorage_V1" / "manifest.json"
    path.parent.mkdir()
    path.write_text(manifest, encoding="latin-1")
    with pytest.raises(SourceBroken, match=r"manifest\.json"):
        open_source(tmp_path)
    assert path.read_text(encoding="latin-1") == manifest


def test_a_broken_manifest_shows_none_of_its_values(tmp_path: Path) -> None:
    path = tmp_path / "RCTAsyncLocalStorage_V1" / "manifest.json"
    path.parent.mkdir()
    path.write_text('{"token": "secret-token", ')
    with pytest.raises(SourceBroken) as caught:
        open_source(tmp_path)
    assert "secret-token" not in f"{caught.value}"
    assert caught.value.__cause__ is None


def test_value_files_that_lost_their_manifest_are_not_taken_for_an_empty_store(tmp_path: Path) -> None:
    shutil.copytree(DATA / "ios-library-2.2.0", tmp_path / "app")
    (tmp_path / "app" / "RCTAsyncLocalStorage_V1" / "manifest.json").unlink()
    with pytest.raises(SourceBroken, match="lost its manifest"):
        open_source(tmp_path)


def test_a_null_without_its_file_is_absent_and_said(tmp_path: Path) -> None:
    manifest_folder(tmp_path / "RCTAsyncLocalStorage_V1", {"long": None, "short": "1"})
    with open_source(tmp_path) as source:
        assert source.keys() == ("short",)
        assert source.text("long") is None
        assert source.problems() == ("1 key(s) point to a value file that is missing, and count as absent",)


def test_value_files_of_no_key_and_values_that_are_no_text_are_counted(tmp_path: Path) -> None:
    folder = manifest_folder(tmp_path / "RCTAsyncLocalStorage_V1", {"number": 7, "short": "1"})
    (folder / ("0" * 32)).write_text("lost")
    (folder / ".DS_Store").write_text("not counted")
    with open_source(tmp_path) as source:
        assert source.keys() == ("short",)
        assert len(source.problems()) == 2
        assert source.problems()[0].startswith("1 value file(s) belong to no key")


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Root may read everything; for the block, root is nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_locked_value_file_is_an_error_and_not_an_absent_value() -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)  # pytest's own folders are closed to others on the way
        folder = manifest_folder(Path(place) / "RCTAsyncLocalStorage_V1", {"locked": None, "open": None})
        (folder / hashlib.md5(b"locked").hexdigest()).touch(mode=0)
        (folder / hashlib.md5(b"open").hexdigest()).write_text("1")
        with open_source(place) as source, as_somebody_else():
            assert source.text("open") == "1"
            with pytest.raises(SourceBroken, match="cannot be read"):
                source.text("locked")


def test_a_value_file_that_cannot_be_read_is_an_error_and_not_an_absent_value(tmp_path: Path) -> None:
    folder = manifest_folder(tmp_path / "RCTAsyncLocalStorage_V1", {"long": None})
    (folder / hashlib.md5(b"long").hexdigest()).mkdir()
    with open_source(tmp_path) as source, pytest.raises(SourceBroken, match="is a folder"):
        source.text("long")


def test_the_places_of_an_apple_store_are_taken_in_the_librarys_order(tmp_path: Path) -> None:
    support = Path("Library/Application Support/org.example.app/RCTAsyncLocalStorage_V1")
    oldest_first = ["Documents/RCTAsyncLocalStorage", "Documents/RNCAsyncLocalStorage_V1"]
    for age, place in enumerate([*oldest_first, "Documents/RCTAsyncLocalStorage_V1", str(support)]):
        manifest = manifest_folder(tmp_path / place, {"from": place}) / "manifest.json"
        # The folders that are newer by their place are older by their time, except among the two oldest.
        changed_ns = 10**18 + (age if place in oldest_first else -age)
        os.utime(manifest, ns=(changed_ns, changed_ns))
        with open_source(tmp_path) as source:
            assert source.text("from") == place
            assert len(source.problems()) == age


def test_of_the_two_oldest_apple_folders_the_last_one_written_counts(tmp_path: Path) -> None:
    for changed, name in ((2, "RCTAsyncLocalStorage"), (1, "RNCAsyncLocalStorage_V1")):
        manifest = manifest_folder(tmp_path / "Documents" / name, {"from": name}) / "manifest.json"
        os.utime(manifest, (changed, changed))
    with open_source(tmp_path) as source:
        assert source.text("from") == "RCTAsyncLocalStorage"


def test_a_folder_with_a_manifest_is_a_store_under_any_name(tmp_path: Path) -> None:
    with open_source(manifest_folder(tmp_path / "backup", {"a": "1"})) as source:
        assert source.text("a") == "1"


# Finding.


@pytest.mark.parametrize(
    "places",
    [
        ("one/databases/RKStorage", "two/databases/RKStorage"),
        ("app/RKStorage", "app/RCTAsyncLocalStorage_V1"),
        (
            "Library/Application Support/org.one/RCTAsyncLocalStorage_V1",
            "Library/Application Support/org.two/RCTAsyncLocalStorage_V1",
        ),
        ("async-storage/databases/a/a.sqlite", "async-storage/databases/b/b.sqlite"),
    ],
)
def test_stores_of_different_apps_are_never_guessed_between(tmp_path: Path, places: tuple[str, str]) -> None:
    for place in places:
        if place.endswith("_V1"):
            manifest_folder(tmp_path / place, {"a": "1"})
        else:
            database(tmp_path / place, CATALYST, filled("catalystLocalStorage", a="1"))
    with pytest.raises(SourceBroken, match="more than one") as caught:
        open_source(tmp_path)
    assert all(str(tmp_path / place) in caught.value.why for place in places)


def test_where_nothing_is_the_store_is_missing(tmp_path: Path) -> None:
    (tmp_path / "empty" / "RCTAsyncLocalStorage_V1").mkdir(parents=True)
    for path in (tmp_path, tmp_path / "empty", tmp_path / "gone", tmp_path / "gone" / "manifest.json"):
        for opener in (open_source, open_asyncstorage):
            with pytest.raises(SourceMissing):
                opener(path)


def test_a_web_manifest_somewhere_in_an_app_is_not_a_store(tmp_path: Path) -> None:
    manifest_folder(tmp_path / "www", {"name": "A web app"})
    with pytest.raises(SourceMissing):
        open_source(tmp_path)


_READ_AND_MEASURE = """
import sys
from syncengine.sources import open_source
def resident_kib_max():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
with open_source(sys.argv[1]) as source:
    before = resident_kib_max()
    print(sum(1 for element in source.elements("@saved_routes")), resident_kib_max() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_hundred_megabytes_in_one_sqlite_value_need_a_few(tmp_path: Path) -> None:
    walk = json.dumps({"id": "1", "coords": [{"latitude": 35.6, "longitude": 139.7}] * 40})
    count = 100_000_000 // len(walk)
    path = database(tmp_path / "RKStorage", CATALYST)
    connection = apsw.Connection(str(path))
    value = "[" + ",".join([walk] * count) + "]"
    connection.execute("INSERT INTO catalystLocalStorage VALUES ('@saved_routes', ?)", (value,))
    connection.close()
    answer = subprocess.run(
        [sys.executable, "-c", _READ_AND_MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    elements, grown_kib = map(int, answer.stdout.split())
    assert elements == count
    assert grown_kib < 20_000
