"""Settings are checked when they are made, and never change."""

import pytest

from syncengine.settings import Settings


def test_what_is_not_set_has_its_default():
    assert (Settings(batch_rows=7).batch_rows, Settings(batch_rows=7).push_entries_max) == (7, 5_000)
    assert Settings().batch_rows == 100


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("batch_row", 1, TypeError),
        ("_secret", 1, TypeError),
        ("__init__", 1, TypeError),
        ("batch_rows", "100", TypeError),
        ("batch_rows", 1.5, TypeError),
        ("batch_rows", True, TypeError),
        ("batch_rows", None, TypeError),
        ("durability", 1, TypeError),
        ("batch_rows", -1, ValueError),
        ("quarantine_ratio_max", -0.1, ValueError),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name, value, error):
    with pytest.raises(error, match=name):
        Settings(**{name: value})


def test_a_ratio_may_be_whole():
    assert Settings(quarantine_ratio_max=1).quarantine_ratio_max == 1


def test_settings_are_frozen():
    settings = Settings(batch_rows=7)
    with pytest.raises(AttributeError):
        settings.batch_rows = 8
    assert settings.batch_rows == 7


def test_only_what_was_changed_is_shown():
    assert repr(Settings(durability="full", batch_rows=7)) == "Settings(batch_rows=7, durability='full')"


def test_a_word_or_a_number_that_cannot_work_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="normal or full"):
        Settings(durability="fast")
    with pytest.raises(ValueError, match="too small"):
        Settings(batch_rows=0)
