"""Worlds that are kept: in each a bug was found once, or something rare happens. They are lived through for ever.

A file that names a bug of `simulator.mutants` is a failure that was made small: its few actions still show the bug.
"""

from pathlib import Path

import pytest

from simulator.replay import Replay, as_it_says, said_of

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_a_world_of_the_corpus_goes_as_its_file_says(path):
    replay = Replay.read(path)
    outcome = replay.live()
    assert as_it_says(replay, outcome), f"{said_of(replay, outcome)}\n{outcome}"


def test_each_file_of_the_corpus_says_why_it_is_kept_and_only_a_bug_breaks_a_promise_in_it():
    replays = [Replay.read(path) for path in CORPUS]
    assert all(replay.about for replay in replays), "why is it kept?"
    assert all((replay.promise is None) is (replay.mutant is None) for replay in replays)
