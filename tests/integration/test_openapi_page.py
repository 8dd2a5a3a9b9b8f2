"""The shipped server keeps what its OpenAPI page promises, whatever is asked of it: schemathesis tries."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from syncengine.server.openapi import openapi
from tests.conformance.server_process import ServerProcess

EXAMPLES = 60

page = schemathesis.openapi.from_dict(openapi())


@page.hook
def map_body(_context: schemathesis.HookContext, body: Any) -> Any:
    """JSON Schema calls 7.0 an integer, and has no word for those that are written without a fraction."""
    if isinstance(body, float) and body.is_integer():
        return int(body)
    if isinstance(body, dict):
        return {name: map_body(_context, value) for name, value in body.items()}
    if isinstance(body, list):
        return [map_body(_context, value) for value in body]
    return body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def token(server: ServerProcess) -> str:
    return server.sign_in("ann")


@pytest.mark.slow
@page.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_page_describes(
    case: schemathesis.Case, server: ServerProcess, token: str
) -> None:
    case.call_and_validate(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
