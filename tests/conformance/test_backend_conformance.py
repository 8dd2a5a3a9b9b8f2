"""The suite against the cloud in memory and against a real server process over HTTP."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.conformance.backend_suite")

from syncengine.remote.backend import Backend  # noqa: E402 - rewriting must be asked for before the import
from syncengine.remote.http_backend import HttpBackend  # noqa: E402
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
from tests.conformance.backend_suite import BackendSuite, SignIn  # noqa: E402
from tests.conformance.memory_cloud import MemoryCloud  # noqa: E402
from tests.conformance.server_process import ServerProcess  # noqa: E402


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("cloud")
    with ServerProcess(folder) as running:
        yield running


class TestMemoryCloud(BackendSuite):
    @pytest.fixture
    def sign_in(self) -> SignIn:
        cloud = MemoryCloud()
        return lambda user: cloud.backend(cloud.sign_in(user))

    @pytest.fixture
    def stranger(self) -> Backend:
        return MemoryCloud().backend("nobody's")


class OfOneTest:
    """A Backend over HTTP whose users bear the test's number, so that one server can serve all tests apart."""

    def __init__(self, backend: HttpBackend, *, number: int) -> None:
        self._backend = backend
        self._number = number

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
        self._backend.close()

    def _user(self, name: str) -> dict[str, str]:
        return {"user": f"{name} {self._number}"}


_numbers = itertools.count(1)


class TestHttpBackend(BackendSuite):
    @pytest.fixture
    def sign_in(self, server: ServerProcess) -> SignIn:
        number = next(_numbers)
        return lambda user: OfOneTest(server.backend(server.sign_in(f"{user} {number}")), number=number)

    @pytest.fixture
    def stranger(self, server: ServerProcess) -> Backend:
        return server.backend("f" * 64)
