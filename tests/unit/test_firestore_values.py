"""Bodies as Firestore's types and back, and names of documents: any value comes back, or is not taken as native."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncengine.firestore.names import document_id, key_of
from syncengine.firestore.values import META, NATIVE_BYTES_MAX, body_of, encoded, native_fields, size_bytes

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, width=64) | TEXTS
VALUES = st.recursive(
    LEAVES, lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXTS, below, max_size=4), max_leaves=20
)


def exactly(value: object) -> str:
    """Tells 1 from 1.0 and True, and 0.0 from -0.0."""
    return json.dumps(value, sort_keys=True)


@given(st.dictionaries(TEXTS, VALUES, max_size=6))
def test_whatever_is_taken_as_native_comes_back_exactly(body: dict) -> None:
    fields = native_fields(body)
    if fields is not None:
        travelled = json.loads(json.dumps(fields))
        assert exactly(body_of(travelled)) == exactly(body)
        assert META not in fields


@given(st.dictionaries(st.sampled_from(["id", "name", "note"]), LEAVES | st.lists(LEAVES, max_size=3)))
def test_plain_rows_are_native(body: dict) -> None:
    texts = exactly(body)
    odd = any(word in texts for word in ("-0.0", "Infinity"))
    assert (native_fields(body) is not None) or odd


@pytest.mark.parametrize(
    "body",
    [
        {"a": [[1]]},
        {"a": {"b": [[1]]}},
        {"a": -0.0},
        {"__a__": 1},
        {"a": {"__b__": 1}},
        {"": 1},
        {META: 1},
        {"a" * 1_501: 1},
        {"a": "x" * NATIVE_BYTES_MAX},
        {"a": [1] * 10_001},
    ],
)
def test_what_firestore_would_change_or_refuse_is_not_native(body: dict) -> None:
    assert native_fields(body) is None


def test_sizes_are_counted_as_firestores_documentation_does() -> None:
    """Its example of a task has fields of 71 bytes."""
    task = {"type": "Personal", "done": False, "priority": 1, "description": "Learn Cloud Firestore"}
    around_the_fields_of_a_map = 32
    assert size_bytes(encoded(task)) == 71 + around_the_fields_of_a_map


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_any_key_is_an_id_that_firestore_takes_and_comes_back(key: str) -> None:
    id_ = document_id(key)
    assert "/" not in id_
    assert id_ not in (".", "..")
    assert not (id_.startswith("__") and id_.endswith("__") and len(id_) >= 4)
    assert key_of(f"projects/p/databases/d/documents/users/u/c/{id_}") == key


@given(TEXTS.filter(bool), TEXTS.filter(bool))
def test_two_keys_never_have_one_id(one: str, other: str) -> None:
    assert (document_id(one) == document_id(other)) == (one == other)
