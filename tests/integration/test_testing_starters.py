"""Several starters at once, and a network that is not there: what is right passes, what is wrong is named."""

import json
import textwrap

import pytest
from imports import PROFILE, ImportExecutor, make_v2, seconds_v3, upload_walks, walk, write_phone
from migrate_world import registry_of

from syncengine import BaseMigrationExecutor, Engine, Item, MigrationDefinition, Put, SystemClock
from syncengine.server.cloud import Cloud
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.testing import offline_midway, store_at, two_starters
from syncengine.vocabulary import UserId
from tests.integration.drain_world import Line

APP = """
    from syncengine import Collection, ListedMigration, MigrationRegistry, migration, tables
    from pydantic import BaseModel

    class Note(BaseModel):
        user_id: str
        id: str
        text: str

    make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(
        "CREATE TABLE notes (user_id TEXT, id TEXT, text TEXT, PRIMARY KEY (user_id, id))",
    ))

    @migration(id="louder", collection="notes", from_version="2.0.0", to_version="3.0.0", critical=True, lossy=True)
    def louder(old: Note) -> Note:
        BODY

    def registry(target="3.0.0"):
        return MigrationRegistry(
            app="twice", baseline="1.0.0", target=target, collections=[Collection("notes")],
            migrations=[
                ListedMigration("make", "1.0.0 > 2.0.0", "APP:make"),
                ListedMigration("louder", "2.0.0 > 3.0.0", "APP:louder"),
            ],
        )
"""


def app(folder, monkeypatch, *, name, body):
    """A module that other processes can import, and a store that it has filled at 2.0.0."""
    (folder / f"{name}.py").write_text(textwrap.dedent(APP).replace("BODY", body).replace("APP", name))
    monkeypatch.syspath_prepend(str(folder))
    module = __import__(name)
    rows = [{"user_id": "ann", "id": f"n{n}", "text": "hello"} for n in range(300)]
    return store_at(module.registry(), "2.0.0", path=folder / "app.db", rows={"notes": rows})


def test_three_processes_that_start_at_once_migrate_once(tmp_path, monkeypatch):
    path = app(tmp_path, monkeypatch, name="starting_well", body='return old.model_copy(update={"text": "HELLO"})')
    with Engine.open(path, registry=__import__("starting_well").registry("2.0.0")) as engine:
        engine.migrations.make_restore_point()  # a folder beside the store
    two_starters(path, registry="starting_well:registry", starters=3)


def test_a_starter_that_fails_is_shown_with_its_error(tmp_path, monkeypatch):
    path = app(tmp_path, monkeypatch, name="starting_badly", body="raise MemoryError")
    with pytest.raises(AssertionError, match=r"(?s)1 of 1 starters failed.*louder failed"):
        two_starters(path, registry="starting_badly:registry")


def test_data_that_differs_from_process_to_process_is_found(tmp_path, monkeypatch):
    body = 'return old.model_copy(update={"text": str(__import__("os").getpid())})'
    path = app(tmp_path, monkeypatch, name="starting_oddly", body=body)
    with pytest.raises(AssertionError, match="2 starters made other data than one: notes: 300 and 300 rows"):
        two_starters(path, registry="starting_oddly:registry")


# Without a network.


def registry(*more, target="3.0.0"):
    first = make_v2(PROFILE), ImportExecutor(), upload_walks(), seconds_v3()
    return registry_of(*first, *more, target=target, profile=("profile", "status"))


def phone(folder):
    return {"phone": str(write_phone(folder / "phone.json", [walk(n, n + 1) for n in range(7)]))}


def test_uploads_wait_through_restarts_and_are_sent_start_by_start(tmp_path):
    cloud = Cloud(SqliteStorage(str(tmp_path / "cloud"), clock=SystemClock()), clock=SystemClock())
    cloud.accept_token(UserId("ann"), token="a token of ann")
    line = Line(cloud, "ann")
    report = offline_midway(
        tmp_path / "app.db", registry=registry(), user="ann", sources=phone(tmp_path), backend=lambda: line
    )
    cloud.close()
    assert report.queued == ("upload-walks",)
    assert report.entries >= 7
    assert report.starts >= 4, "two entries at each start"


def test_without_a_backend_only_the_waiting_is_checked(tmp_path):
    report = offline_midway(tmp_path / "app.db", registry=registry(), user="ann", sources=phone(tmp_path))
    assert (report.queued, report.starts) == (("upload-walks",), 0)


class AfterTheUpload(BaseMigrationExecutor):
    """It can be done without a network, and was made to wait for one."""

    definition = MigrationDefinition(
        id="after-upload",
        name="After the upload",
        description="-",
        from_version="2.0.0",
        to_version="3.0.0",
        collections=("profile",),
        after=("upload-walks",),
        scope="user",
    )

    def items(self, work):
        yield Item("profile", {}, json.dumps({}).encode())

    def convert(self, item, work):
        return Put("profile", {"user_id": work.user, "id": work.user, "status": None}, if_exists="merge")


def test_an_offline_step_that_comes_after_an_online_one_is_named_since_it_cannot_be_done(tmp_path):
    with pytest.raises(AssertionError, match="after-upload"):
        offline_midway(tmp_path / "app.db", registry=registry(AfterTheUpload()), user="ann", sources=phone(tmp_path))


def test_entries_that_the_cloud_refuses_are_named(tmp_path):
    cloud = Cloud(SqliteStorage(str(tmp_path / "cloud"), clock=SystemClock()), clock=SystemClock())
    cloud.accept_token(UserId("ann"), token="a token of ann")

    class Refusing(Line):
        def push(self, request):
            answer = super().push(request)
            rejected = tuple(
                r.model_copy(update={"status": "rejected", "code": "too_large", "version": None})
                for r in answer.results
            )
            return answer.model_copy(update={"results": rejected})

    with pytest.raises(AssertionError, match="entries were set aside of journeys"):
        offline_midway(
            tmp_path / "app.db",
            registry=registry(),
            user="ann",
            sources=phone(tmp_path),
            backend=lambda: Refusing(cloud, "ann"),
        )
    cloud.close()
