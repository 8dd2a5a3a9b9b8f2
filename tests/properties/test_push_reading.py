"""Reading a push by hand takes, refuses and says the same as the models do."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncengine.remote.wire import PushRequest
from syncengine.server.judge import Fault, entry_fault
from syncengine.server.push_reading import Entry, Push, RowEntry, push_of, read_push
from syncengine.server.request_body import RequestRefused, parse_body

TEXTS = [
    "", "1", "put", "delete", "void", "2.0", "x.0.0", "refuse", "a\tb", "a\x7f", "a\0", "\ud800",
    "\N{NO-BREAK SPACE}", 'a":b', "a{b", "9" * 25, "é" * 600, "w" * 129, "k" * 256, "k" * 257,
    "k" * 1_024, "k" * 1_025,
]  # fmt: skip
VALUES: list[Any] = [
    *[None, True, False, 0, 1, -1, 1.0, 1.5, 2**63 - 1, 2**63, 2**64, float("nan"), float("inf")],
    *[[], {}, [[]], {"a": {}}, [1], *TEXTS],
]
ODD: st.SearchStrategy[Any] = st.sampled_from(VALUES)
FIELDS = [
    "sequence", "group", "kind", "collection", "key", "set", "base_version", "shape_version", "token", "on_conflict",
    "migration", "changes", "cloud_version", "lifts", "more",
]  # fmt: skip
BODIES = st.dictionaries(st.sampled_from(["x", "y", 'q"', "z:"]), st.integers(0, 9) | ODD, max_size=3)
CHANGE = {"kind": "put", "collection": "walks", "key": "k", "set": {"x": 1}}


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """An entry as it is sent, some of it perhaps odd or missing."""
    kind = draw(st.sampled_from(["put", "patch", "delete"]))
    entry: dict[str, Any] = {
        "sequence": draw(st.integers(1, 9)),
        "group": draw(st.integers(0, 3)),
        "kind": kind,
        "collection": draw(st.sampled_from(["walks", "a.b-c"])),
        "key": draw(st.sampled_from(["k", "ключ", "a b"])),
        "shape_version": draw(st.sampled_from(["2", "2.0.0"])),
    }
    if kind != "delete":
        entry["set"] = draw(BODIES)
    entry |= draw(st.fixed_dictionaries({}, optional={"base_version": st.integers(0, 9), "token": st.just("t")}))
    entry |= draw(st.dictionaries(st.sampled_from(FIELDS), ODD, max_size=1))
    entry |= draw(st.sampled_from([{}, {}, {}, {"changes": [CHANGE]}, {"kind": "changes", "changes": [CHANGE]}]))
    for name in draw(st.sets(st.sampled_from(FIELDS), max_size=1)):
        entry.pop(name, None)
    return {name: entry[name] for name in draw(st.permutations(list(entry)))}


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """A push as text, in one of the ways to write JSON, perhaps with a flaw."""
    push: dict[str, Any] = {"protocol": 1, "request_id": "r", "user": "ann", "device": "d", "epoch": 1}
    push |= {"schema_version": "2.0.0", "entries": draw(st.lists(entries() | ODD, max_size=3))}
    push |= draw(st.dictionaries(st.sampled_from([*push, "more"]), ODD, max_size=1))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]))
    text = json.dumps(push, ensure_ascii=draw(st.booleans()), separators=separators)
    twice = draw(st.sampled_from(["", "", "", "set", "key", "entries", "x"]))
    if twice:
        text = text.replace(f'"{twice}"', f'"{twice}"{separators[1]}{{}}{separators[0]}"{twice}"', 1)
    return text.encode(errors="surrogatepass")


@settings(deadline=None, max_examples=600)
@given(texts())
def test_a_push_read_by_hand_is_what_the_models_read(raw: bytes) -> None:
    assert _said(read_push, raw) == _said(_read_by_models, raw)


@pytest.mark.parametrize("field", FIELDS)
def test_any_odd_value_of_a_field_is_judged_alike(field: str) -> None:
    for kind, odd in itertools.product(("put", "delete"), VALUES):
        for entry in (_plain(kind=kind) | {field: odd}, {**_plain(kind=kind), "set": {"x": odd}}):
            raw = _text([_plain(kind="put"), entry])
            assert _said(read_push, raw) == _said(_read_by_models, raw), (kind, odd)


def test_plain_entries_are_read_without_the_models() -> None:
    deleted = {**_plain(kind="delete"), "base_version": 4, "token": "t", "on_conflict": "refuse"}
    raw = _text([{**_plain(kind="put"), "set": {"a": [1, {}]}}, deleted])
    read = read_push(raw)
    assert [type(entry) for entry in read.entries] == [RowEntry, RowEntry]
    assert read.values_are_good


def _plain(*, kind: str) -> dict[str, Any]:
    entry = {"sequence": 1, "group": 1, "kind": kind, "collection": "walks", "key": "k", "shape_version": "2.0.0"}
    return entry if kind == "delete" else {**entry, "set": {}}


def _text(entries: list[dict[str, Any]]) -> bytes:
    push = {"request_id": "r", "user": "ann", "device": "d", "epoch": 1, "schema_version": "2.0.0"}
    return json.dumps({**push, "entries": entries}, ensure_ascii=False).encode(errors="surrogatepass")


def _read_by_models(raw: bytes) -> Push:
    request, values_are_good = parse_body(raw, model=PushRequest)
    return push_of(request, values_are_good=values_are_good)


def _said(read: Any, raw: bytes) -> object:
    try:
        push: Push = read(raw)
    except RequestRefused as refused:
        return refused.status, refused.code, refused.message
    return push[:4], [_judged(entry, push) for entry in push.entries]


def _judged(entry: Entry, push: Push) -> tuple[object, Fault | None]:
    """All of an entry, and what is wrong with it."""
    fault = None if isinstance(entry, RowEntry) else entry_fault(entry, values_are_good=push.values_are_good)
    fields = {name: getattr(entry, name, None) for name in FIELDS if name not in ("set", "more")}
    return (fields, repr(entry.set)), fault
