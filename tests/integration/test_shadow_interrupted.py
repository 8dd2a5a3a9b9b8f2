"""A rewriting that was interrupted: it goes on when it was asked for, says how far it is, and can be given up."""

import pytest
from shadow_world import ShadowWorld, agrees, leaves_nothing_behind, result_of


@pytest.fixture
def world(tmp_path):
    return ShadowWorld(tmp_path)


class PowerIsGone(BaseException):
    """No `except Exception` stops it."""


def stop_at(number_of_batch, how=PowerIsGone):
    def between(number):
        if number == number_of_batch:
            raise how

    return between


def rolled_back(world):
    with world.open() as engine:
        engine.migrate()
        assert engine.migrations.rollback("seconds-v3", consent=["ann"]).success
        assert [step.id for step in engine.plan().held_back] == ["seconds-v3"]


def test_what_was_rolled_back_and_asked_for_again_goes_on_after_a_pause(world):
    rolled_back(world)
    with world.open(between=lambda number: engine.migrations.pause() if number == 4 else None) as engine:
        report = engine.migrations.run(only="seconds-v3")
        assert (report.results[0].state, report.paused) == ("paused", True)
        assert engine.plan().held_back == ()
        engine.migrations.resume()
        assert result_of(engine.migrate()).state == "completed"
        agrees(engine._store)
        leaves_nothing_behind(engine._store, kept=["_sync_old_journeys"])


def test_what_was_rolled_back_and_asked_for_again_goes_on_after_a_crash_but_not_after_a_cancel(world):
    rolled_back(world)
    with world.open(between=stop_at(4)) as engine, pytest.raises(PowerIsGone):
        engine.migrations.run(only="seconds-v3")
    with world.open() as engine:
        assert [step.id for step in engine.plan().steps] == ["seconds-v3"]
        engine.migrations.cancel()
        recorded = "SELECT state, method, rows_read, batches FROM _sync_run ORDER BY run_id DESC LIMIT 1"
        assert engine._store.query(recorded) == [("cancelled", "shadow", 40, 4)]
        assert [step.id for step in engine.plan().held_back] == ["seconds-v3"]
        assert engine.migrate().results == ()
    with world.open(between=stop_at(4)) as engine, pytest.raises(PowerIsGone):
        engine.migrations.run(only="seconds-v3")
    with world.open() as engine:
        assert result_of(engine.migrate()).state == "completed"


def why_of(engine):
    state = engine.status().collections["journeys"]
    return state.why, state.fix


def test_status_says_how_far_a_rewriting_is_and_whether_anybody_is_at_it(world):
    running = []
    with world.open(between=lambda number: running.append(why_of(engine)) or stop_at(6)(number)) as engine:
        with pytest.raises(PowerIsGone):
            engine.migrate()
        assert ("migration seconds-v3 is rewriting it: 40 of 100 rows", "Wait for it.") in running
        assert why_of(engine) == (
            "migration seconds-v3 began to rewrite it, and nobody is at it: 60 of 100 rows",
            "Call engine.migrate(): it goes on there.",
        )
    with world.open(between=lambda number: engine.migrations.pause() if number == 1 else None) as engine:
        assert result_of(engine.migrate()).state == "paused"
        why, fix = why_of(engine)
        assert why == "migration seconds-v3, which rewrites it, was paused at 70 of 100 rows"
        assert "engine.migrations.resume() first" in fix


def test_a_holder_that_has_ended_is_at_nothing(world):
    with world.open(between=stop_at(6)) as engine, pytest.raises(PowerIsGone):
        engine.migrate()
    other = world.other_process()
    with world.open() as engine:
        take = "UPDATE _sync_lease SET holder = 'another', until_ms = until_ms + 600000, pid = "
        other.execute(take + "1")
        assert "is rewriting it: 60 of" in why_of(engine)[0]
        other.execute(take + "99999999")
        assert "nobody is at it: 60 of" in why_of(engine)[0]
    other.close()
