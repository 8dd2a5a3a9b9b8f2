"""The protocol as OpenAPI 3.1 and as a page to read, both made from the models that the code speaks with."""

import html
import json
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from syncengine.remote.wire import (
    NAME_LENGTH_MAX,
    PROTOCOL,
    PROTOCOL_HEADER,
    WITHOUT_NUL,
    ErrorAnswer,
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

OPENAPI_VERSION = "3.1.0"

_POSTS: dict[str, tuple[type[BaseModel], type[BaseModel], str]] = {
    "/v1/hello": (HelloRequest, HelloAnswer, "Where does this device stand?"),
    "/v1/push": (PushRequest, PushAnswer, "Take these entries, each once, in order."),
}
_GETS: dict[str, tuple[type[BaseModel], type[BaseModel], str]] = {
    "/v1/pull": (PullRequest, PullAnswer, "What has changed since the cursor?"),
    "/v1/rows": (RowsRequest, RowsAnswer, "A page of one collection's living rows."),
}
_ERRORS: dict[str, tuple[str, ...]] = {
    "/v1/hello": ("400", "401", "403", "408", "413", "429", "503"),
    "/v1/push": ("400", "401", "403", "408", "409", "413", "429", "503", "507"),
    "/v1/pull": ("400", "401", "403", "410", "429", "503"),
    "/v1/rows": ("400", "401", "403", "429", "503"),
    "/v1/health": ("400",),
}
_MEANINGS = {
    "400": "The request is not by the protocol (malformed).",
    "401": "The token is missing, has ended or is unknown (unauthorized).",
    "403": "The token is another user's (wrong_user).",
    "408": "The body came too slowly (too_slow).",
    "409": "Another sequence is expected (sequence_gap, with `expected`).",
    "410": "The cursor cannot be read on from (cursor_gone, with `reason`).",
    "413": "The request is too large (too_large, batch_refused).",
    "429": "The user has made too many requests (rate_limited).",
    "503": (
        "Who signs tokens, or the database, cannot be asked now (sign_in_unavailable, database_unavailable), or too "
        "much is being done or sent at once (busy), or a newer server has changed the tables (store_superseded)."
    ),
    "507": "The user has no room for what the push would add (quota_exceeded).",
}
_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top; }
"""


@cache
def openapi_text() -> bytes:
    """The description as JSON."""
    return json.dumps(openapi(), indent=1, ensure_ascii=False).encode()


def openapi() -> dict[str, Any]:
    """Every call, message and error of this server."""
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "syncengine cloud",
            "version": str(PROTOCOL),
            "description": "How a device and the cloud talk; docs/protocol.md tells the rules.",
        },
        "paths": _paths(),
        "components": {"schemas": schemas(), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def schemas() -> dict[str, Any]:
    """A JSON Schema for each message and part of one, by the model's name."""
    messages: list[type[BaseModel]] = [ErrorAnswer, HealthAnswer]
    for asked, said, _ in (*_POSTS.values(), *_GETS.values()):
        messages += [asked, said]
    _, made = models_json_schema(
        [(model, "validation") for model in messages], ref_template="#/components/schemas/{model}"
    )
    found: dict[str, Any] = made["$defs"]
    return found


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for path, (asked, said, summary) in _POSTS.items():
        body = {"required": True, "content": {"application/json": {"schema": _reference(asked)}}}
        paths[path] = {"post": {**_call(path, said=said, summary=summary), "requestBody": body}}
    for path, (asked, said, summary) in _GETS.items():
        paths[path] = {"get": {**_call(path, said=said, summary=summary), "parameters": _parameters(asked)}}
    health = _call("/v1/health", said=HealthAnswer, summary="Is it the cloud that answers? Needs no token.")
    nonce = {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH_MAX, "pattern": WITHOUT_NUL}
    asked_nonce = {"name": "nonce", "in": "query", "required": True, "schema": nonce}
    paths["/v1/health"] = {"get": {**health, "security": [], "parameters": [asked_nonce]}}
    return paths


def _call(path: str, *, said: type[BaseModel], summary: str) -> dict[str, Any]:
    return {
        "operationId": path.rpartition("/")[2],
        "summary": summary,
        "security": [{"token": []}],
        "responses": {
            "200": _answer(said, "Done."),
            **{status: _answer(ErrorAnswer, _MEANINGS[status]) for status in _ERRORS[path]},
        },
    }


def _answer(model: type[BaseModel], description: str) -> dict[str, Any]:
    marker = {"required": True, "schema": {"const": str(PROTOCOL)}}
    content = {"application/json": {"schema": _reference(model)}}
    return {"description": description, "headers": {PROTOCOL_HEADER: marker}, "content": content}


def _parameters(asked: type[BaseModel]) -> list[dict[str, Any]]:
    """The fields of a request that travels in an address."""
    schema = schemas()[asked.__name__]
    needed = schema["required"]
    return [
        {"name": name, "in": "query", "required": name in needed, "schema": field}
        for name, field in schema["properties"].items()
        if name != "protocol"
    ]


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


@cache
def page_html() -> bytes:
    """The same for people: one page without scripts or anything from elsewhere."""
    described = openapi()
    calls = "".join(_call_html(path, calls) for path, calls in described["paths"].items())
    messages = "".join(_message_html(name, schema) for name, schema in described["components"]["schemas"].items())
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>syncengine cloud</title>"
        f"<style>{_STYLE}</style><h1>syncengine cloud, protocol {PROTOCOL}</h1>"
        "<p>This is the backend of an app, not a page to use. "
        'The same for programs: <a href="/v1/openapi.json">openapi.json</a>.</p>'
        f"<h2>Calls</h2>{calls}<h2>Messages</h2>{messages}</html>"
    ).encode()


def _call_html(path: str, calls: dict[str, Any]) -> str:
    method, call = next(iter(calls.items()))
    rows = "".join(
        f"<tr><td><code>{status}</code><td>{_link(answer)}<td>{html.escape(answer['description'])}"
        for status, answer in call["responses"].items()
    )
    asked = ", ".join(f"<code>{each['name']}</code>" for each in call.get("parameters", ()))
    body = call.get("requestBody")
    takes = f"Body: {_link(body)}." if body else f"In the address: {asked}."
    return (
        f"<h3><code>{method.upper()} {path}</code></h3>"
        f"<p>{html.escape(call['summary'])} {takes}</p><table>{rows}</table>"
    )


def _link(described: dict[str, Any]) -> str:
    name = described["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return f'<a href="#{name}">{name}</a>'


def _message_html(name: str, schema: dict[str, Any]) -> str:
    needed = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{field}</code><td>{'needed' if field in needed else ''}"
        f"<td><code>{html.escape(_kind(kind))}</code>"
        for field, kind in schema.get("properties", {}).items()
    )
    told = html.escape(schema.get("description", "")).replace("\n\n", "<p>")
    return f'<h3 id="{name}">{name}</h3><p>{told}</p><table>{rows}</table>'


def _kind(schema: dict[str, Any]) -> str:
    """A field's type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return " | ".join(json.dumps(each) for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}" if "items" in schema else "list"
    return str(schema.get("type", "any"))


__all__ = ["openapi", "openapi_text", "page_html", "schemas"]
