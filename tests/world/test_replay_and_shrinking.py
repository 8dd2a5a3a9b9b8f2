"""A failure goes into a file, comes back as the same world, and is made small; a run tells what it found."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from simulator.coverage import PROBES, RARE, never_fired, table_as_text
from simulator.mutants import mutant_of
from simulator.mutants.catching import catch
from simulator.replay import Replay, as_it_says, kept
from simulator.shrinking import _ddmin, shrunk
from simulator.timeline import timeline
from simulator.world.history import live
from simulator.world.plan import plan_of

SMALL = replace(plan_of(4, "partitions"), devices=2, edits_per_device=4)
ENOUGH = 6
"""An edit that is lost takes one edit; so many actions are still a story that one can read."""


def failure_of(name, tmp_path):
    caught = catch(replace(mutant_of(name), plan=SMALL.to_json()), folder=tmp_path)
    assert caught is not None
    return Replay.of(caught.outcome, mutant=name)


def test_a_replay_file_gives_the_same_world_again(tmp_path):
    outcome = live(4, plan=SMALL, skip=frozenset({1, 2, 3, 9}), folder=tmp_path)
    path = tmp_path / "world.json"
    Replay.of(outcome).write(path)
    again = Replay.read(path)
    assert again.skip == {1, 2, 3, 9}
    assert again.live().trace_hash == outcome.trace_hash
    assert as_it_says(again, again.live())


def test_a_replay_file_gives_the_same_world_in_a_process_with_another_hash_seed(tmp_path):
    failure = failure_of("changes are not captured", tmp_path)
    path = tmp_path / "world.json"
    failure.write(path)
    tells = "import sys; from pathlib import Path; from simulator.replay import Replay;"
    tells += "print(Replay.read(Path(sys.argv[1])).live().trace_hash)"
    for hash_seed in ("1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", tells, str(path)]
        there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert there.stdout.strip() == failure.live().trace_hash


def test_a_file_of_an_older_simulator_that_lacks_a_part_of_the_plan_is_read(tmp_path):
    told = Replay.of(live(4, plan=SMALL, folder=tmp_path)).to_json()
    del told["plan"]["has_weather"]
    assert Replay.from_json(told).plan == replace(SMALL, has_weather=True)
    with pytest.raises(ValueError, match="of format 9"):
        Replay.from_json({**told, "format": 9})


@pytest.mark.parametrize("name", ["changes are not captured", "the cloud confirms what it did not write"])
def test_a_failure_is_shrunk_to_a_few_actions_that_break_the_same_promise(name, tmp_path):
    failure = failure_of(name, tmp_path)
    done = shrunk(failure, tries_max=120)
    outcome = done.replay.live()
    assert outcome.broken is not None
    assert outcome.broken[0] == failure.promise
    assert kept(outcome) == done.left <= ENOUGH < done.whole
    done.replay.write(tmp_path / "small.json")
    assert Replay.read(tmp_path / "small.json") == done.replay


def test_what_does_not_fail_is_not_shrunk(tmp_path):
    held = Replay.of(live(4, plan=SMALL, folder=tmp_path))
    with pytest.raises(ValueError, match="it is not"):
        shrunk(replace(held, promise="P2"))


def test_shrinking_finds_the_two_of_a_hundred_that_fail_together():
    asked = []

    def fails(numbers):
        asked.append(numbers)
        return {17, 83} <= set(numbers)

    assert _ddmin(list(range(100)), fails) == [17, 83]
    assert len(asked) < 100


def test_the_command_writes_a_replay_file_of_each_failure_and_ends_with_1(tmp_path):
    """The bug comes by a module that is loaded before the command."""
    (tmp_path / "sitecustomize.py").write_text(
        "from simulator.mutants import mutant_of\n"
        "from simulator.mutants.surgery import Surgery\n"
        "mutant_of('changes are not captured').put_in(Surgery())\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-m", "simulator", "run", "--seeds", "2", "--failures", str(tmp_path / "found")]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    files = sorted((tmp_path / "found").glob("*.json"))
    assert files
    assert f"python -m simulator shrink {files[0]}" in done.stdout
    assert json.loads(files[0].read_text())["promise"].startswith("P")


def test_a_probe_that_never_fired_is_told_and_the_table_shows_where_faults_met_phases(tmp_path):
    outcome = live(4, folder=tmp_path)
    assert never_fired(outcome.seen) == [name for name in PROBES if not outcome.seen[name] and name not in RARE]
    (fault, phase), times = outcome.table.most_common(1)[0]
    text = table_as_text(outcome.table)
    assert phase in text.splitlines()[0]
    assert any(line.startswith(fault) and f"{times}" in line for line in text.splitlines())


def test_a_timeline_shows_each_device_with_its_versions_and_needs_nothing_from_outside(tmp_path):
    outcome = live(4, folder=tmp_path)
    page = timeline(outcome)
    for name in {event.who for event in outcome.trace} - {"network", "person"}:
        assert f">{name}<" in page
    for version in {event.version for event in outcome.trace if event.version}:
        assert f">{version}<" in page
    for foreign in ("<script", "src=", "href=", "@import", "url(http"):
        assert foreign not in page
    assert page.count("<svg") == page.count("</svg>") == 1
