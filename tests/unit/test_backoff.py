"""Waits after failures."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from syncengine.settings import Settings
from syncengine.sync.backoff import wait_after_failure_ms

SETTINGS = Settings(retry_wait_ms_min=1_000, retry_wait_ms_max=300_000, retry_after_ms_max=3_600_000)


def waits(attempts, **given_):
    return [
        wait_after_failure_ms(attempts, chance=random.Random(seed), settings=SETTINGS, **given_)
        for seed in range(200)
    ]


@pytest.mark.parametrize(("attempts", "ceiling"), [(1, 1_000), (2, 2_000), (5, 16_000), (9, 256_000), (10, 300_000)])
def test_the_ceiling_doubles_and_the_whole_range_below_it_is_used(attempts, ceiling):
    found = waits(attempts)
    assert max(found) <= ceiling
    assert max(found) > 0.9 * ceiling
    assert min(found) < 0.1 * ceiling


@given(attempts=some.integers(0, 10**9), seed=some.integers())
def test_no_number_of_failures_waits_longer_than_the_setting(attempts, seed):
    wait_ms = wait_after_failure_ms(attempts, chance=random.Random(seed), settings=SETTINGS)
    assert 0 <= wait_ms <= SETTINGS.retry_wait_ms_max


def test_a_retry_after_is_never_undercut_and_spread_a_little():
    found = waits(1, retry_after_ms=60_000)
    assert min(found) >= 60_000
    assert max(found) <= 61_000
    assert len(set(found)) > 100


def test_a_retry_after_beyond_reason_is_clamped():
    assert max(waits(1, retry_after_ms=10**12)) <= SETTINGS.retry_after_ms_max + 1_000
    assert min(waits(1, retry_after_ms=-5)) >= 0
