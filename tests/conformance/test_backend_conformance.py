"""The suite against the cloud in memory, and over HTTP against real servers on SQLite and on PostgreSQL."""

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("tests.conformance.backend_suite")

from simulator.world.memory_cloud import MemoryCloud  # noqa: E402
from syncengine.remote.backend import Backend  # noqa: E402 - rewriting must be asked for before the import
from syncengine.remote.http_backend import HttpBackend  # noqa: E402
from syncengine.remote.plain_page import PlainPage  # noqa: E402
from syncengine.remote.wire import (  # noqa: E402
    HealthAnswer,
    HelloAnswer,
    HelloRequest,
    PullAnswer,
    PullRequest,
    PushAnswer,
    PushRequest,
    RowsAnswer,
    RowsRequest,
)
from tests.conformance.backend_suite import NEW, BackendSuite, CursorOf, Operator, SignIn  # noqa: E402
from tests.conformance.device_requests import delete, patch, pull, push, put  # noqa: E402
from tests.conformance.server_process import ServerProcess  # noqa: E402

if TYPE_CHECKING:
    from simulator.postgresql import PostgresqlCluster

SCHEMA_MIN = {"windowed-app": "2.0.0"}
SHARED_DATABASE = "conformance"


class ServerOperator:
    """What an operator does to a running server's database: copy it, bring the copy back, forget tombstones."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._copy = server.folder.with_name("copy")

    def take_copy(self) -> None:
        self._server.stop()
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._server.folder, self._copy)
        self._server.start()

    def bring_copy_back(self) -> None:
        self._server.stop()
        shutil.rmtree(self._server.folder)
        shutil.copytree(self._copy, self._server.folder)
        self._server.start()

    def forget_deleted(self) -> None:
        self._server.run_command("compact", "--keep-days", "0")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("server") / "cloud"
    windows = [f"--schema-min={app}={version}" for app, version in SCHEMA_MIN.items()]
    with ServerProcess(folder, *windows) as running:
        yield running


class PostgresqlOperator:
    """The same to a server on PostgreSQL: the copy is another database."""

    def __init__(self, server: ServerProcess, cluster: "PostgresqlCluster") -> None:
        self._server = server
        self._cluster = cluster

    def take_copy(self) -> None:
        self._server.stop()
        self._cluster.drop_database("copy")
        self._cluster.make_database("copy", like=SHARED_DATABASE)
        self._server.start()

    def bring_copy_back(self) -> None:
        self._server.stop()
        self._cluster.drop_database(SHARED_DATABASE)
        self._cluster.make_database(SHARED_DATABASE, like="copy")
        self._server.start()

    def forget_deleted(self) -> None:
        self._server.run_command("compact", "--keep-days", "0")


@pytest.fixture(scope="module")
def postgresql_server(
    tmp_path_factory: pytest.TempPathFactory, postgresql: "PostgresqlCluster"
) -> Iterator[ServerProcess]:
    address = postgresql.make_database(SHARED_DATABASE)
    windows = [f"--schema-min={app}={version}" for app, version in SCHEMA_MIN.items()]
    with ServerProcess(tmp_path_factory.mktemp("server"), *windows, database=address) as running:
        yield running
    postgresql.drop_database(SHARED_DATABASE)


class TestMemoryCloud(BackendSuite):
    @pytest.fixture
    def cloud(self) -> MemoryCloud:
        return MemoryCloud(SCHEMA_MIN)

    @pytest.fixture
    def sign_in(self, cloud: MemoryCloud) -> SignIn:
        return lambda user: cloud.backend(cloud.sign_in(user))

    @pytest.fixture
    def stranger(self) -> Backend:
        return MemoryCloud().backend("nobody's")

    @pytest.fixture
    def operator(self, cloud: MemoryCloud) -> Operator:
        return cloud

    @pytest.fixture
    def cursor_of_another_cloud(self) -> CursorOf:
        return lambda life: json.dumps(["ann", life, 9, 5, 0])


class OfOneTest:
    """A Backend over HTTP whose users bear the test's number, so that one server can serve all tests apart."""

    def __init__(self, server: ServerProcess, user: str, *, number: int) -> None:
        self._server = server
        self._token = server.sign_in(f"{user} {number}")
        self._number = number
        self._is_closed = False
        self._connect()

    def _connect(self) -> None:
        self._url = self._server.url
        self._to_server = self._server.backend(self._token)

    @property
    def _backend(self) -> HttpBackend:
        """Anew where the server was started again: it has another port then."""
        if self._url != self._server.url and not self._is_closed:
            self._connect()
        return self._to_server

    def hello(self, request: HelloRequest) -> HelloAnswer:
        return self._backend.hello(request.model_copy(update=self._user(request.user)))

    def push(self, request: PushRequest) -> PushAnswer:
        return self._backend.push(request.model_copy(update=self._user(request.user)))

    def pull(self, request: PullRequest) -> PullAnswer:
        return self._backend.pull(request.model_copy(update=self._user(request.user)))

    def rows(self, request: RowsRequest) -> RowsAnswer:
        return self._backend.rows(request.model_copy(update=self._user(request.user)))

    def health(self, nonce: str) -> HealthAnswer:
        return self._backend.health(nonce)

    def close(self) -> None:
        self._is_closed = True
        self._to_server.close()

    def _user(self, name: str) -> dict[str, str]:
        return {"user": f"{name} {self._number}"}


_numbers = itertools.count(1)


class TestHttpBackend(BackendSuite):
    @pytest.fixture
    def sign_in(self, server: ServerProcess) -> SignIn:
        number = next(_numbers)
        return lambda user: OfOneTest(server, user, number=number)

    @pytest.fixture
    def stranger(self, server: ServerProcess) -> Backend:
        return server.backend("f" * 64)

    @pytest.fixture
    def operator(self, server: ServerProcess) -> Operator:
        return ServerOperator(server)

    def test_rows_that_nothing_lies_beside_come_without_models_and_are_the_same(self, server: ServerProcess) -> None:
        ann = server.backend(server.sign_in("ann of pages"))
        asked = pull(user="ann of pages")
        ann.push(
            push(
                put(1, "a", {"n": 1, "text": '{"tags": ["x"]}', "picture": {"$blob": "AA=="}}),
                put(2, "b", {"n": 2.5}),
                delete(3, "b"),
                user="ann of pages",
            )
        )
        page, said = ann.pull_plain(asked), ann.pull(asked)
        assert isinstance(page, PlainPage)
        assert list(
            zip(page.collections, page.keys, page.versions, page.shape_versions, page.bodies, strict=True)
        ) == [(item.collection, item.key, item.version, item.shape_version, item.body) for item in said.items]
        assert (page.cursor, page.more, page.server_epoch) == (said.cursor, said.more, said.server_epoch)
        ann.push(push(patch(4, "a", {"n": 2}, shape=NEW), user="ann of pages"))
        assert isinstance(ann.pull_plain(asked), PullAnswer), "a patch lies beside"


class TestHttpBackendOnPostgresql(BackendSuite):
    @pytest.fixture
    def sign_in(self, postgresql_server: ServerProcess) -> SignIn:
        number = next(_numbers)
        return lambda user: OfOneTest(postgresql_server, user, number=number)

    @pytest.fixture
    def stranger(self, postgresql_server: ServerProcess) -> Backend:
        return postgresql_server.backend("f" * 64)

    @pytest.fixture
    def operator(self, postgresql_server: ServerProcess, postgresql: "PostgresqlCluster") -> Operator:
        return PostgresqlOperator(postgresql_server, postgresql)
