"""Cut lines, at random and both ways or one way: when they are whole again nobody is stuck and nobody differs.

All 500: SYNCENGINE_WORLDS=500, or `python -m simulator run --partitions --seeds 500 --processes 2`.
"""

import os

import pytest

from simulator.world.history import live

WORLDS = int(os.environ.get("SYNCENGINE_WORLDS", "60"))
WORLDS_OF_ONE_TEST = 10


@pytest.mark.parametrize("first", range(0, WORLDS, WORLDS_OF_ONE_TEST))
def test_after_a_partition_all_queues_empty_and_all_devices_agree_and_go_on(first):
    cut = 0
    for seed in range(first, min(first + WORLDS_OF_ONE_TEST, WORLDS)):
        outcome = live(seed, profile="partitions")
        assert not outcome.broken, str(outcome)
        cut += outcome.seen.get("partition", 0) + outcome.seen.get("answers_cut", 0)
    assert cut >= WORLDS_OF_ONE_TEST
