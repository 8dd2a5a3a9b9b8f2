"""Versions are numbers, not texts."""

import pytest

from syncengine.vocabulary import SchemaVersion, user_scope


@pytest.mark.parametrize(
    ("text", "printed"),
    [("2", "2.0.0"), ("2.1", "2.1.0"), ("2.1.3", "2.1.3"), ("0.0.0", "0.0.0"), ("999999", "999999.0.0")],
)
def test_missing_parts_are_nothing(text, printed):
    assert str(SchemaVersion.parse(text)) == printed


def test_versions_order_as_numbers():
    texts = ["10.0.0", "9.9.9", "2.0.10", "2.0.9", "1.0.0"]
    assert [str(v) for v in sorted(map(SchemaVersion.parse, texts))] == sorted(
        texts, key=lambda text: [int(part) for part in text.split(".")]
    )


@pytest.mark.parametrize(
    "text",
    ["", "v2", "2.0.0.0", "2..0", "-1", "+1", " 2", "2.0.0\n", "2.0.0-beta", "1000000", "²", "٣", "1e3", "2.0."],
)
def test_anything_else_is_no_version(text):
    with pytest.raises(ValueError, match="not a schema version"):
        SchemaVersion.parse(text)


def test_a_version_gives_its_parts_and_is_equal_to_itself_only():
    version = SchemaVersion.parse("2.10.3")
    assert (version.major, version.minor, version.patch) == (2, 10, 3)
    assert repr(version) == "SchemaVersion(2.10.3)"
    assert version == SchemaVersion.parse("2.10.3") != SchemaVersion.parse("2.1.3")


def test_no_user_has_the_stores_scope():
    assert user_scope("store") == "user:store"


def test_a_way_that_leads_nowhere_is_one_version():
    two, three = SchemaVersion.parse("2"), SchemaVersion.parse("3.0.1")
    assert (two.way_to(three), three.way_to(two), two.way_to(two)) == ("2.0.0 > 3.0.1", "3.0.1 > 2.0.0", "2.0.0")
