"""JSON with limits: what is taken comes back exactly, what is not is refused in words without contents."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncengine.remote.json_text import (
    INTEGER_MAX,
    INTEGER_MIN,
    JsonRefused,
    read_json,
    read_json_to_judge,
    read_uncounted,
    value_fault,
    write_json,
)

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(INTEGER_MIN, INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=20
)


@settings(deadline=None)
@given(VALUES)
def test_what_is_written_is_read_back_exactly(value: object) -> None:
    assert repr(read_json(write_json(value), depth_max=64)) == repr(value)


@settings(deadline=None)
@given(VALUES)
def test_both_readers_agree_on_good_values(value: object) -> None:
    text = json.dumps(value).encode()
    assert read_json(text, depth_max=64) == read_json_to_judge(text, depth_max=64)[0]


NUMBERS = [
    "0.0012345678901234567", "-0.00012345678901234567", "12345678901234567890", "-12345678901234567890",
    "123456789012345678901234567890", "1234567890123456789", "1e1000000000000000000000", "1e-00000000000000000000001",
    "1E+00000000000000000000001", "12345678901234567890.5", '"12345678901234567890"', '"a, 12345678901234567890"',
    '"a 1234567 8901234567890123"', '"0.00000000000000000000"', "18446744073709551615", "18446744073709551616",
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("around", ["{}", "[{}]", "[ {} ]", "[0,{}]", "[0 ,\n{}]", '{{"a":{}}}', '{{"a" : {}}}'])
def test_many_digits_are_read_as_carefully_as_they_must(number: str, around: str) -> None:
    raw = around.format(number).encode()
    quick = read_uncounted(raw)
    assert quick is None or repr(quick[0]) == repr(json.loads(raw))


@pytest.mark.parametrize("number", [*NUMBERS[:2], '"12345678901234567890"', '"0.00000000000000000000"'])
def test_a_small_fraction_or_a_text_of_digits_is_read_quickly(number: str) -> None:
    assert read_uncounted(f'{{"a": [{number}]}}'.encode()) is not None


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        value = read_json(raw, depth_max=8)
    except JsonRefused:
        return
    assert value_fault(value) is None


@pytest.mark.parametrize("depth", [1, 2, 63, 64])
def test_nesting_is_taken_up_to_the_limit_and_not_beyond(depth: int) -> None:
    read_json(b"[" * depth + b"]" * depth, depth_max=depth)
    with pytest.raises(JsonRefused, match="nests deeper"):
        read_json(b"[" * (depth + 1) + b"]" * (depth + 1), depth_max=depth)


def test_nesting_is_counted_also_where_names_cannot_be() -> None:
    raw = json.dumps([[[{"a": 'a backslash \\ before "'}]], "\\"]).encode()
    assert b'\\\\"' in raw
    read_json(raw, depth_max=4)
    with pytest.raises(JsonRefused, match="nests deeper"):
        read_json(raw, depth_max=3)


@pytest.mark.parametrize("text", ["", "12:30", 'said: "x": y', "a\\", '\\":'])
def test_a_repeated_name_is_found_beside_any_text(text: str) -> None:
    told = json.dumps(text)
    assert read_json(f'{{"a": {told}, "b": 2}}'.encode(), depth_max=8) == {"a": text, "b": 2}
    with pytest.raises(JsonRefused, match="repeats a name"):
        read_json(f'{{"a": {told}, "a" : 2}}'.encode(), depth_max=8)


def test_brackets_inside_texts_do_not_count_as_nesting() -> None:
    text = json.dumps(["[{" * 100, 'quote " and \\ [[[', "\\"])
    assert read_json(text.encode(), depth_max=1) == json.loads(text)


@pytest.mark.parametrize(
    "raw", [b'["' + b'\\"' * 500_000, b'"' * 1_000_001, b"[" * 1_000_000, b'{"a":' * 200_000, b"9" * 1_000_000]
)
def test_a_hostile_megabyte_is_refused_in_linear_time(raw: bytes) -> None:
    # Quadratic time would take minutes here, and run into the timeout of every test.
    with pytest.raises(JsonRefused):
        read_json(raw, depth_max=64)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 2**63, -(2**63) - 1, "a\0", {"\0": 1}, "\ud800", [{"x": ["\udfff"]}]]
)
def test_what_cannot_travel_is_neither_written_nor_read(value: object) -> None:
    with pytest.raises(JsonRefused):
        write_json(value)
    with pytest.raises(JsonRefused):
        read_json(json.dumps(value).encode(), depth_max=8)
    judged, _ = read_json_to_judge(json.dumps(value).encode(), depth_max=8)
    assert value_fault(judged) is not None


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "{\\"b\\": 1, \\"c\\" :2}"}',
        '{"a\\"": 1, "b": "\\":"}',
        '{"a\\\\": 1, "b": "\\\\"}',
        '{"a\\\\\\"": 1, "b\\\\ ": "\\\\\\":"}',
    ],
)
def test_quotes_in_texts_and_names_are_told_from_their_ends(text: str) -> None:
    assert read_json(text.encode(), depth_max=8) == json.loads(text)
    for again in ('"b": 1, "b": 2}', '"b":1,"b" :2}', '"a": 0, "c": 1, "c": 1}'):
        with pytest.raises(JsonRefused, match="repeats a name"):
            read_json(f"{text[:-1]}, {again}".encode(), depth_max=8)


def test_a_refusal_quotes_nothing() -> None:
    for raw in (b'{"canary": 1, "canary": 2}', b"[canary]", b'["canary\\u0000"]', b"canary\xff"):
        with pytest.raises(JsonRefused) as refused:
            read_json(raw, depth_max=8)
        assert "canary" not in str(refused.value)
        assert refused.value.__cause__ is None
