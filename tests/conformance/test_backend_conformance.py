"""The suite against the cloud in memory and against a real server process over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.conformance.backend_suite")

from syncengine.remote.backend import Backend  # noqa: E402 - rewriting must be asked for before the import
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


class TestHttpBackend(BackendSuite):
    @pytest.fixture
    def sign_in(self, server: ServerProcess, request: pytest.FixtureRequest) -> SignIn:
        # One server for all tests; users are apart, so each test has its own.
        return lambda user: server.backend(server.sign_in(f"{user} of {request.node.nodeid}"))

    @pytest.fixture
    def stranger(self, server: ServerProcess) -> Backend:
        return server.backend("f" * 64)
