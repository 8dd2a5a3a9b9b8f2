"""A page read as a whole says what the models say, or leaves it to them."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncengine.errors import ProtocolViolation
from syncengine.remote.http_answer import answer_of_body
from syncengine.remote.plain_page import PlainPage, plain_page
from syncengine.remote.wire import PullAnswer, PullRequest, check_pull_answer

REQUEST = PullRequest(request_id="r", user="ann", device="d", cursor="here", limit=100)


def item(key: str = "a", version: int = 1, body: Any = None, **others: Any) -> dict[str, Any]:
    return {
        "collection": "walks",
        "key": key,
        "version": version,
        "shape_version": "2.0.0",
        "body": {"id": key, "steps": 7} if body is None else body,
        **others,
    }


def answer(*items: Any, **others: Any) -> dict[str, Any]:
    said = {"protocol": 1, "request_id": "r", "server_time": "t", "server_epoch": 3, "cursor": "there", "more": True}
    return {**said, "items": list(items), **others}


def read(raw: bytes, *, depth_max: int = 64) -> PlainPage | None:
    return plain_page(raw, REQUEST, depth_max=depth_max)


def judged(raw: bytes, *, depth_max: int = 64) -> PullAnswer:
    said = answer_of_body(200, raw, model=PullAnswer, depth_max=depth_max)
    check_pull_answer(REQUEST, said)
    return said


def rows_of(page: PlainPage) -> list[tuple[Any, ...]]:
    return list(zip(page.collections, page.keys, page.versions, page.shape_versions, page.bodies, strict=True))


def rows_of_models(said: PullAnswer) -> list[tuple[Any, ...]]:
    return [(each.collection, each.key, each.version, each.shape_version, each.body) for each in said.items]


def test_a_page_of_plain_rows_is_read_whole() -> None:
    gone = item("c", 9) | {"body": None}
    nested = item("d", 10, {"id": "d", "picture": {"$blob": "AA=="}, "tags": ["x", {"y": 1}]})
    raw = orjson.dumps(answer(item("a", 5), item("b", 7, {"text": 'a: {"b": [1]} \\ é'}), gone, nested))
    page = read(raw)
    assert page is not None
    assert rows_of(page) == rows_of_models(judged(raw))
    assert (page.cursor, page.more, page.server_epoch) == ("there", True, 3)


@pytest.mark.parametrize("text", [json.dumps, lambda said: json.dumps(said, indent=1)], ids=["spaced", "indented"])
def test_blanks_make_no_difference(text: Any) -> None:
    raw = text(answer(item("a", 5), item("b", 7))).encode()
    page = read(raw)
    assert page is not None
    assert rows_of(page) == rows_of_models(judged(raw))


WRONG = {
    "a row that comes twice": answer(item("a", 1), item("a", 2)),
    "versions that fall": answer(item("a", 2), item("b", 1)),
    "versions that stay": answer(item("a", 2), item("b", 2)),
    "a version below 0": answer(item("a", -1), item("b", 2)),
    "a version beyond 64 bit": answer(item("a", 1), item("b", 2**63)),
    "a version that is true": answer(item("a", 0), item("b", True)),
    "a version that is 1.0": answer(item("a", 1.0)),  # type: ignore[arg-type]  # on purpose
    "a key that is a number": answer(item(1)),  # type: ignore[arg-type]  # on purpose
    "a collection that is null": answer(item() | {"collection": None}),
    "a shape that is a number": answer(item() | {"shape_version": 2}),
    "a body that is a list": answer(item(body=[1])),
    "a body that is a text": answer(item(body="{}")),
    "a name too many": answer(item(mood="calm")),
    "a name too many beside a list": answer(item(body={"tags": [1]}, mood="calm")),
    "a name too few": answer({name: value for name, value in item().items() if name != "body"}),
    "a name too many and one too few": answer({"mood": 1, **{k: v for k, v in item().items() if k != "body"}}),
    "no rows, and more": answer(),
    "a cursor that stays": answer(item(), cursor="here"),
    "another request's": answer(item(), request_id="other"),
    "an epoch that is a text": answer(item(), server_epoch="3"),
    "an unknown name": answer(item(), mood="calm"),
    "items that are no list": answer(items={"a": item()}),
    "a row that is a list": answer([1, 2, 3, 4, 5]),
    "a list": [answer(item())],
    "deeper than is read": answer(item(body={"a": [[[[[1]]]]]})),
}


@pytest.mark.parametrize("said", WRONG.values(), ids=WRONG)
def test_what_the_models_refuse_is_left_to_them(said: Any) -> None:
    raw = json.dumps(said, separators=(",", ":")).encode()
    assert read(raw, depth_max=6) is None
    if said.get("request_id") == "other" if isinstance(said, dict) else False:
        return  # the caller compares it
    with pytest.raises(ProtocolViolation):
        judged(raw, depth_max=6)


@pytest.mark.parametrize(
    ("plain", "odd"),
    [
        ('"steps":7', '"steps":7,"steps":8'),
        ('"steps":7', '"steps":7,"steps" :8'),
        ('"version":1', '"version":0,"version":1'),
        ('"server_epoch":3', '"server_epoch":4,"server_epoch":3'),
        ('"steps":7', '"steps":18446744073709551615'),
        ('"steps":7', '"steps":99999999999999999999'),
        ('"steps":7', '"steps":1e999'),
        ('"steps":7', '"steps":"\\u0000"'),
        ('"steps":7', '"steps":"\\ud800"'),
        ('"steps":7', '"steps":NaN'),
        ('"more":true', '"more":true}'),
    ],
)
def test_text_that_may_mean_another_thing_is_left_to_the_careful_reading(plain: str, odd: str) -> None:
    text = orjson.dumps(answer(item())).decode()
    assert read(text.encode()) is not None
    raw = text.replace(plain, odd).encode()
    assert raw != text.encode()
    assert read(raw) is None
    with pytest.raises(ProtocolViolation):
        judged(raw)


def test_patches_beside_a_row_are_left_to_the_models() -> None:
    patch = {"patch": 2, "kind": "patch", "set": {"steps": 8}, "shape_version": "1.0.0"}
    raw = orjson.dumps(answer(item("a", 1), item("b", 3, patches=[patch])))
    assert read(raw) is None
    assert len(judged(raw).items[1].patches) == 1


def test_a_page_without_rows_is_left_to_the_models() -> None:
    raw = orjson.dumps(answer(more=False))
    assert read(raw) is None
    assert judged(raw).items == ()


LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5)
)
BODIES = st.dictionaries(st.text(max_size=3), LEAVES | st.lists(LEAVES, max_size=2), max_size=4)
NAMES = st.sampled_from(["a", "b", "c"]) | st.text(max_size=3)
ITEMS = st.lists(
    st.builds(
        lambda collection, key, version, body: {**item(key, version), "collection": collection, "body": body},
        NAMES,
        NAMES,
        st.integers(-1, 9) | st.sampled_from([2**63 - 1, 2**63, True]),
        st.none() | BODIES,
    ),
    max_size=4,
)


@settings(deadline=None, max_examples=300)
@given(ITEMS.map(lambda items: sorted(items, key=lambda each: each["version"])), st.booleans())
def test_what_is_read_is_what_the_models_read(items: list[dict[str, Any]], more: bool) -> None:
    raw = json.dumps(answer(*items, more=more), separators=(",", ":")).encode()
    page = read(raw)
    if page is not None:
        assert repr(rows_of(page)) == repr(rows_of_models(judged(raw)))
