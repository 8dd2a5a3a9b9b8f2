"""How large the next push is, and whether it is compressed: decided from what the line has shown."""

import pytest

from syncengine.settings import Settings
from syncengine.sync.line import BYTES_FIRST, BYTES_MIN, ENTRIES_MIN, Line, next_entries_max

SETTINGS = Settings()


@pytest.mark.parametrize(
    ("took_ms", "grows"), [(230, [2_000, 5_000, 5_000]), (900, [1_000, 2_000, 4_000]), (2_500, [500, 500, 500])]
)
def test_full_and_quick_pushes_grow_up_to_the_setting(took_ms, grows):
    sizes, size = [], 500
    for _ in range(3):
        size = next_entries_max(size, sent=size, took_ms=took_ms, settings=SETTINGS)
        sizes.append(size)
    assert sizes == grows


def test_a_push_that_was_not_half_full_says_nothing_about_larger_ones():
    assert next_entries_max(1_000, sent=499, took_ms=10, settings=SETTINGS) == 1_000


def test_a_slow_push_makes_later_ones_smaller_but_not_tiny():
    assert next_entries_max(4_000, sent=4_000, took_ms=5_000, settings=SETTINGS) == 2_000
    assert next_entries_max(60, sent=60, took_ms=60_000, settings=SETTINGS) == ENTRIES_MIN


def test_a_slow_push_never_undoes_a_halving_that_isolates_an_entry():
    assert next_entries_max(2, sent=2, took_ms=60_000, settings=SETTINGS) == 2


def test_without_a_measurement_batches_grow_and_nothing_is_known_of_the_line():
    assert next_entries_max(8, sent=8, took_ms=0, settings=SETTINGS) == 16
    assert Line().pushed(sent_bytes=10**6, took_ms=0, compressed=False) == Line()


def test_the_speed_of_the_line_leaves_the_round_trip_out():
    line = Line().heard(took_ms=200).pushed(sent_bytes=100_000, took_ms=300, compressed=False)
    assert line == Line(round_trip_ms=200, bytes_per_s=1_000_000)


def test_a_small_or_compressed_push_says_nothing_of_the_speed():
    line = Line(round_trip_ms=10, bytes_per_s=77)
    assert line.pushed(sent_bytes=100, took_ms=900, compressed=False).bytes_per_s == 77
    assert line.pushed(sent_bytes=10**6, took_ms=900, compressed=True).bytes_per_s == 77


@pytest.mark.parametrize(
    ("bytes_per_s", "bytes_max"),
    [(None, BYTES_FIRST), (1_000, BYTES_MIN), (100_000, 200_000), (10**9, SETTINGS.push_bytes_max)],
)
def test_a_push_holds_what_arrives_in_about_the_target_time(bytes_per_s, bytes_max):
    assert Line(bytes_per_s=bytes_per_s).bytes_max(SETTINGS) == bytes_max


def test_bodies_are_compressed_where_the_line_is_slow_or_metered_or_as_the_host_says():
    fast, slow = Line(bytes_per_s=10**7), Line(bytes_per_s=50_000)
    assert [line.compresses(SETTINGS, metered=False) for line in (Line(), fast, slow)] == [False, False, True]
    assert fast.compresses(SETTINGS, metered=True)
    assert fast.compresses(Settings(compress="always"), metered=False)
    assert not slow.compresses(Settings(compress="never"), metered=True)
