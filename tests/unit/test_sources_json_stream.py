"""A JSON array of any length is cut into its elements in memory for one, and a break loses nothing."""

import itertools
import json
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncengine.sources import BrokenJson, OversizedElement, array_elements, json_stream

MANY = 1 << 20

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=25,
)
# Seven levels are more than what one match of the fast way takes.
deep = values.map(lambda value: [[[{"a": [[[value, ']}\\"']]]}]]])
arrays = st.lists(values | deep, max_size=6)


@st.composite
def written_arrays(draw: st.DrawFn) -> bytes:
    blanks = draw(st.sampled_from([None, 0, 2]))
    return json.dumps(draw(arrays), ensure_ascii=draw(st.booleans()), indent=blanks).encode("utf-8", "surrogatepass")


def cut(value: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The value in chunks of these sizes, again and again; an empty chunk now and then."""
    start = 0
    for size in itertools.cycle(sizes):
        if start >= len(value):
            return
        yield value[start : start + size]
        start += size


chunk_sizes = st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any) | st.just([10_000])


def read(
    chunks: Iterable[bytes], *, element_bytes_max: int = MANY
) -> tuple[list[bytes | OversizedElement], BrokenJson | None]:
    elements: list[bytes | OversizedElement] = []
    try:
        for element in array_elements(chunks, element_bytes_max=element_bytes_max):
            elements.append(element)
    except BrokenJson as error:
        return elements, error
    return elements, None


@settings(deadline=None, max_examples=300)
@given(value=written_arrays(), sizes=chunk_sizes)
def test_any_array_in_any_chunks_gives_the_elements_that_json_gives(value: bytes, sizes: list[int]) -> None:
    elements, error = read(cut(value, sizes))
    assert error is None
    assert [json.loads(element) for element in elements] == json.loads(value)


@settings(deadline=None, max_examples=300)
@given(items=arrays, sizes=chunk_sizes, at=st.floats(0, 1, exclude_max=True))
def test_a_cut_anywhere_gives_all_whole_elements_and_then_the_rest(
    items: list[object], sizes: list[int], at: float
) -> None:
    whole = bytearray(b"[")
    ends = []
    for item in items:
        whole += b", " if ends else b""
        whole += json.dumps(item, ensure_ascii=False).encode("utf-8", "surrogatepass")
        # Only what follows a number or a word shows that it ended.
        closed_by_itself = isinstance(item, str | list | dict)
        ends.append(len(whole) if closed_by_itself else len(whole) + 1)
    whole += b"]"
    kept = bytes(whole[: int(at * len(whole))])

    elements, error = read(cut(kept, sizes))

    assert [json.loads(element) for element in elements] == items[: sum(end <= len(kept) for end in ends)]
    assert error is not None
    assert error.remainder == kept[error.at_byte :]
    assert not error.remainder_truncated


@settings(deadline=None, max_examples=300)
@given(value=written_arrays(), sizes=chunk_sizes, data=st.data())
def test_where_a_broken_value_breaks_does_not_depend_on_the_chunks(
    value: bytes, sizes: list[int], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(value) - 1))
    junk = data.draw(st.sampled_from([b"", b'"', b"\\", b"]", b"}", b"[", b"{", b",", b",,", b"]]", b"\xff", b" x "]))
    broken = value[:at] + junk + value[at + 1 :]
    at_once = read([broken])
    in_chunks = read(cut(broken, sizes))
    assert at_once[0] == in_chunks[0]
    assert (at_once[1] is None) == (in_chunks[1] is None)
    if at_once[1] is not None and in_chunks[1] is not None:
        assert at_once[1].at_byte == in_chunks[1].at_byte
        assert at_once[1].remainder == in_chunks[1].remainder == broken[at_once[1].at_byte :]


@pytest.mark.parametrize(
    ("value", "whole", "remainder"),
    [
        (b"", [], b""),
        (b"  ", [], b""),
        (b"null", [], b"null"),
        (b'{"a":1}', [], b'{"a":1}'),
        (b"[1,2]x", [b"1", b"2"], b"x"),
        (b"[1,]", [b"1"], b"]"),
        (b"[,1]", [], b",1]"),
        (b"[1 2]", [b"1"], b"2]"),
        (b'[{"a":[1}],2]', [], b'{"a":[1}],2]'),
        (b'[1,"\\', [b"1"], b'"\\'),
        (b"[1}", [b"1"], b"}"),
    ],
)
def test_what_is_no_array_is_told_from_where_it_breaks(value: bytes, whole: list[bytes], remainder: bytes) -> None:
    for sizes in ([1], [2], [100]):
        elements, error = read(cut(value, sizes))
        assert elements == whole
        assert error is not None
        assert error.remainder == remainder


def test_one_bad_element_spoils_no_other() -> None:
    elements, error = read([b'[{"a":1},{"a":},nonsense,{"b":2}]'])
    assert error is None
    assert elements == [b'{"a":1}', b'{"a":}', b"nonsense", b'{"b":2}']


@pytest.mark.parametrize("sizes", [[1], [3], [7], [1000]])
@pytest.mark.parametrize(
    "large",
    [
        b'"' + b"x" * 50 + b'"',
        b'"' + b'\\"],' * 20 + b'"',
        b'{"a": [' + b'"]}", ' * 10 + b"1]}",
        b"[" * 30 + b"]" * 30,
        b"7" * 50,
        b'["' + b"x" * 17 + b'"]',
    ],
)
def test_an_element_above_its_limit_is_passed_over_and_those_after_it_are_read(
    large: bytes, sizes: list[int]
) -> None:
    value = b'["a", ' + large + b' , {"b":1},' + large + b"]"
    elements, error = read(cut(value, sizes), element_bytes_max=20)
    assert error is None
    first, second = (
        OversizedElement(at_byte=at, first_bytes=large[:20], element_bytes_max=20)
        for at in (value.index(large), value.rindex(large))
    )
    assert elements == [b'"a"', first, b'{"b":1}', second]


@pytest.mark.parametrize("sizes", [[3], [1000]])
@pytest.mark.parametrize(
    "tail", [b'"' + b"x" * 50, b'{"a":"' + b"x" * 50 + b'"]', b"[" * 30, b'"' + b"x" * 50 + b'" "a"]']
)
def test_a_value_that_breaks_in_or_after_an_element_above_the_limit_is_broken(tail: bytes, sizes: list[int]) -> None:
    elements, error = read(cut(b"[1," + tail, sizes), element_bytes_max=20)
    assert elements[0] == b"1"
    assert error is not None
    assert len(error.remainder) <= 20
    assert error.remainder in tail
    if len(elements) == 1:
        assert error.at_byte == 3
        assert error.remainder == tail[:20]
        assert error.remainder_truncated


@pytest.mark.parametrize("sizes", [[3], [1000]])
def test_brackets_without_end_are_not_followed_without_end(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "BRACKETS_OPEN_MAX", 100)
    assert read(cut(b"[" + b"[" * 100 + b"]" * 101, sizes), element_bytes_max=20)[1] is None
    elements, error = read(cut(b"[" + b"[" * 101 + b"]" * 102, sizes), element_bytes_max=20)
    assert elements == []
    assert error is not None
    assert "too deep" in error.why


def test_an_element_of_a_hundred_megabytes_is_passed_over_in_memory_for_its_limit() -> None:
    filler = b"x" * (256 * 1024)
    chunks = itertools.chain([b'[1,"'], itertools.repeat(filler, 400), [b'",2]'])
    tracemalloc.start()
    try:
        elements, error = read(chunks, element_bytes_max=2 * MANY)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error is None
    first, large, last = elements
    assert (first, last) == (b"1", b"2")
    assert isinstance(large, OversizedElement)
    assert len(large.first_bytes) == MANY
    assert peak < 8 * MANY


def test_an_element_as_long_as_its_limit_is_read() -> None:
    value = b'["' + b"x" * 18 + b'"]'
    assert read([value], element_bytes_max=20) == ([value[1:-1]], None)
    assert read(cut(value, [5]), element_bytes_max=20) == ([value[1:-1]], None)


def test_a_single_object_is_its_own_only_element_where_that_is_allowed() -> None:
    value = b' {"id": "1", "coords": [{}]} '
    assert list(array_elements(cut(value, [4]), element_bytes_max=MANY, single_object=True)) == [value.strip()]
    assert list(array_elements([b"[1]"], element_bytes_max=MANY, single_object=True)) == [b"1"]


def test_an_error_shows_no_contents() -> None:
    _, error = read([b'["secret-token'])
    assert error is not None
    assert "secret-token" not in f"{error} {error!r} {error.args}"


def test_a_hundred_megabytes_need_memory_for_one_element() -> None:
    walk = json.dumps({"id": "1", "coords": [{"latitude": 35.6, "longitude": 139.7}] * 2_000}).encode()
    count = 100 * 1024 * 1024 // len(walk)
    megabyte = b",".join([walk] * (1024 * 1024 // len(walk)))
    per_chunk = megabyte.count(b'"id"')
    chunks = itertools.chain([b"[", megabyte], itertools.repeat(b"," + megabyte, count // per_chunk), [b"]"])
    tracemalloc.start()
    try:
        seen = sum(1 for _ in array_elements(chunks, element_bytes_max=MANY))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen * len(walk) >= 99 * 1024 * 1024
    assert peak < 6 * 1024 * 1024
