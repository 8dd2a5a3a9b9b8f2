"""The power goes at every operation of the disk while users come and go, and while the cloud's server is upgraded."""

import os
import shutil
from collections import Counter
from dataclasses import replace

import pytest

from syncengine.local.connection import open_server_db
from syncengine.local.statements import statements
from syncengine.remote.wire import EntryKind, PullRequest, PushEntry, PushRequest
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.server.stored_forms import SERVER_SQL
from syncengine.testing import StoppedClock, crash_everywhere, crash_images
from syncengine.testing.crash import EVERY_CRASH
from syncengine.testing.disk import recording_disk
from syncengine.vocabulary import UserId
from tests.crash.kinds import KINDS, PROFILE_STATUS

ANN, BEN = "ann", "ben"


def both_have_rows(engine):
    with engine.write() as db:
        for number in range(6):
            for user in (ANN, BEN):
                db.execute("INSERT INTO journeys VALUES (?, ?, 1.5, NULL)", (user, f"{user}-{number}"))


def switches_and_writes(engine):
    engine.switch_user(BEN)
    with engine.write() as db:
        db.execute("INSERT OR IGNORE INTO journeys VALUES (?, 'after-the-switch', 2.5, NULL)", (BEN,))


def signs_out_and_gives_up(engine):
    engine.logout(unsent="destroy")


def signs_out_and_keeps(engine):
    engine.logout(unsent="keep")
    with engine.write() as db:
        db.execute("INSERT OR IGNORE INTO journeys VALUES (?, 'after-the-switch', 2.5, NULL)", (BEN,))


def is_wiped(engine):
    engine.wipe(ANN, unsent="destroy", restore_points="delete")


def exports(path):
    def signs_out_with_a_file(engine):
        file = path / "unsent.jsonl"
        file.unlink(missing_ok=True)
        engine.logout(unsent="export", export_to=file)

    return signs_out_with_a_file


@pytest.mark.parametrize("act", [switches_and_writes, signs_out_and_gives_up, signs_out_and_keeps, is_wiped, exports])
def test_wherever_the_power_goes_a_user_is_here_whole_or_gone_whole_and_the_other_one_loses_nothing(
    act, tmp_path, record_property
):
    if act is exports:
        act = exports(tmp_path)
    plain = KINDS["tables"]
    kind = replace(plain, before=plain.after, prepare=both_have_rows, act=act, user=None)

    def build(path):
        kind.build(path)

    def run(path):
        with kind.open(path, kind.after()) as engine:
            engine.switch_user(ANN)
            act(engine)

    def looked_at(path):
        with kind.open(path, kind.after()) as engine:
            of_ben = engine._store.query("SELECT count(*) FROM journeys WHERE user_id = 'ben' AND id LIKE 'ben-%'")
            assert of_ben == [(6,)], "rows of the other user are gone"
            queued = engine._store.query(
                "SELECT count(*) FROM _sync_outbox WHERE owner = 'ben' AND row_key LIKE 'ben-%'"
            )
            assert queued == [(6,)], "the other user's queue has lost something"

    report = crash_everywhere(
        folder=tmp_path / "sweep",
        build=build,
        run=run,
        check=looked_at,
        images_max=25,
        statements_max=6,
        leave_out=PROFILE_STATUS,
    )
    record_property("sweep", str(report))
    assert report.old > 0
    assert report.new > 0


# The cloud's server.

FIRST = list(statements("schema", directory=SERVER_SQL).values())
NEXT = "ALTER TABLE document ADD COLUMN size_class TEXT; UPDATE document SET size_class = 'small';"
ROWS = 40
IMAGES_MAX = 60


def cloud_at(folder, editions):
    return Cloud(SqliteStorage(str(folder), clock=StoppedClock(), editions=editions), clock=StoppedClock())


def filled(folder):
    cloud = cloud_at(folder, FIRST)
    cloud.accept_token(UserId(ANN), token="of ann")
    entries = tuple(
        PushEntry(
            sequence=number,
            group=number,
            kind=EntryKind.PUT,
            collection="walks",
            key=f"w-{number}",
            set={"n": number},
            shape_version="1.0.0",
        )
        for number in range(1, ROWS + 1)
    )
    cloud.push(
        UserId(ANN),
        PushRequest(request_id="1", user=ANN, device="d", epoch=1, schema_version="1.0.0", entries=entries),
    )
    cloud.close()


def rows_in(folder, editions):
    cloud = cloud_at(folder, editions)
    try:
        page = cloud.pull(UserId(ANN), PullRequest(request_id="2", user=ANN, device="d", cursor=None))
        return sorted((item.key, item.version) for item in page.items)
    finally:
        cloud.close()


def edition_of(folder):
    """What the file says, and whether it is so."""
    connection = open_server_db(str(folder / "cloud.db"))
    try:
        assert connection.execute("PRAGMA integrity_check").get == "ok"
        columns = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('document')")}
        return connection.execute("PRAGMA user_version").get, "size_class" in columns
    finally:
        connection.close()


@pytest.mark.parametrize("upgrade", ["made", "upgraded"])
def test_wherever_the_power_goes_the_servers_database_is_of_one_edition_or_the_other(
    upgrade, tmp_path, record_property
):
    folder = tmp_path / "cloud"
    folder.mkdir(mode=0o700)
    editions = FIRST if upgrade == "made" else [*FIRST, NEXT]
    if upgrade == "upgraded":
        filled(folder)
    before = {path.name for path in folder.iterdir()}
    with recording_disk(folder) as log:
        cloud_at(folder, editions).close()
    assert log.operations
    found = Counter()
    images_max = None if os.environ.get(EVERY_CRASH) == "1" else IMAGES_MAX
    for image in crash_images(log, seed=1, images_max=images_max):
        shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        for name, data in image.files.items():
            path = folder / name
            path.touch(mode=0o600)
            path.write_bytes(data)
        if (folder / "cloud.db").exists() and upgrade == "upgraded":
            found[edition_of(folder)] += 1
        if upgrade == "upgraded":
            assert rows_in(folder, editions) == sorted((f"w-{number}", number) for number in range(1, ROWS + 1))
        else:
            cloud_at(folder, editions).close()
            found[edition_of(folder)] += 1
    record_property("sweep", f"operations={len(log.operations)}, found={dict(found)}")
    assert before <= {"cloud.db", "cloud.db-wal", "cloud.db-shm"}
    as_it_was, upgraded = (len(FIRST), False), (len(FIRST) + 1, True)
    assert found.keys() == ({as_it_was, upgraded} if upgrade == "upgraded" else {as_it_was}), found
