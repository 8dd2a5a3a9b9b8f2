"""A JSON file of keys and text values is a source like any other."""

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncengine.errors import SourceBroken, SourceMissing
from syncengine.sources import open_json_dump, open_source

texts = st.text(max_size=40) | st.text(alphabet='a"\\/\n😀é\ud83d\ude00', max_size=20)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.dictionaries(texts, st.none() | texts, max_size=5),
    as_pairs=st.booleans(),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
    chunk_bytes=st.integers(1, 9),
)
def test_every_dump_gives_back_its_values_however_it_is_written(
    pairs: dict[str, str | None],
    as_pairs: bool,
    ascii_only: bool,
    indent: int | None,
    chunk_bytes: int,
    tmp_path: Path,
) -> None:
    pairs = {key: value for key, value in pairs.items() if ascii_only or _is_utf8(key + (value or ""))}
    path = tmp_path / "dump.json"
    content = [list(pair) for pair in pairs.items()] if as_pairs else pairs
    path.write_text(json.dumps(content, ensure_ascii=ascii_only, indent=indent), encoding="utf-8")
    with open_json_dump(path, chunk_bytes=chunk_bytes) as source:
        # Every reader of JSON joins \ud83d and \ude00 to one character.
        present = json.loads(json.dumps({key: value for key, value in pairs.items() if value is not None}))
        assert source.keys() == tuple(sorted(present))
        for key, value in present.items():
            if _is_utf8(value):
                assert source.text(key) == value
            else:
                with pytest.raises(SourceBroken):
                    source.text(key)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_the_elements_of_an_escaped_array_come_one_by_one(tmp_path: Path) -> None:
    walks = [{"id": str(number), "name": 'a "walk" \\ 🏯'} for number in range(2_000)]
    path = tmp_path / "dump.json"
    path.write_text(json.dumps([["@saved_routes", json.dumps(walks)]]))
    with open_source(path) as source:
        assert [json.loads(element) for element in source.elements("@saved_routes")] == walks
        assert source.near_misses("savedRoutes") == ("@saved_routes",)
        assert source.identity == f"json-dump:{path}"


def test_half_a_character_early_in_a_value_does_not_hold_the_rest_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "dump.json"
    path.write_text(json.dumps({"a": json.dumps(["\ud83d", *["x" * 1000] * 8_000], ensure_ascii=False)}))
    with open_json_dump(path) as source:
        tracemalloc.start()
        try:
            assert sum(1 for _ in source.elements("a")) == 8_001
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[",
        b'"text"',
        b'{"a": 1}',
        b'{"a": "1"} x',
        b'{"a": "1",}',
        b'{"a": "1" "b": "2"}',
        b'[["a", "1"]["b", "2"]]',
        b'[["a"]]',
        b'{"a": ["1"]}',
        b'{"a\\x": "1"}',
        b'{"a": "1',
    ],
)
def test_a_file_that_is_no_whole_dump_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dump.json"
    path.write_bytes(content)
    with pytest.raises(SourceBroken) as caught:
        open_json_dump(path)
    assert caught.value.why
    assert caught.value.fix


@pytest.mark.parametrize("text", [b"\xff", b"\\x", b"\\ud83", b"\xe6"])
def test_a_text_that_is_no_json_breaks_its_own_value_only(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "dump.json"
    path.write_bytes(b'{"bad": "' + text + b'", "good": "1"}')
    with open_json_dump(path) as source:
        assert source.text("good") == "1"
        with pytest.raises(SourceBroken):
            source.text("bad")


def test_a_dump_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        open_json_dump(tmp_path / "dump.json")
    with pytest.raises(SourceMissing):
        open_source(tmp_path / "dump.json")


def test_a_file_of_another_kind_is_no_source(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"\x89PNG"):
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises(SourceBroken):
            open_source(path)
