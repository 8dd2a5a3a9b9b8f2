"""The size of the next batch follows the machine: slower, then smaller; idle, then larger; never out of bounds."""

from syncengine import Settings
from syncengine.migrate.shadow_pace import BATCH_ROWS_MAX, BATCH_ROWS_MIN, adapted

SETTINGS = Settings(batch_ms_target=50)


def test_batches_shrink_when_the_machine_slows_down_and_grow_again_up_to_twice_at_a_time():
    assert adapted(1_000, took_ms=50, settings=SETTINGS) == 1_000
    assert adapted(1_000, took_ms=75, settings=SETTINGS) == 667
    assert adapted(1_000, took_ms=5_000, settings=SETTINGS) == 500
    assert adapted(1_000, took_ms=40, settings=SETTINGS) == 1_250
    assert adapted(1_000, took_ms=0, settings=SETTINGS) == 2_000


def test_a_batch_stays_within_its_bounds_however_long_the_last_one_took():
    assert adapted(BATCH_ROWS_MIN, took_ms=60_000, settings=SETTINGS) == BATCH_ROWS_MIN
    assert adapted(BATCH_ROWS_MAX, took_ms=1, settings=SETTINGS) == BATCH_ROWS_MAX


def test_at_a_steady_speed_the_length_of_a_batch_comes_to_its_target():
    for rows_per_ms in (1, 7, 40):
        rows = 100
        for _ in range(12):
            rows = adapted(rows, took_ms=rows // rows_per_ms, settings=SETTINGS)
        assert 40 <= rows / rows_per_ms <= 60
