"""Progress is honest, is silent about what is short, and whoever listens cannot harm a migration."""

import time

import pytest
from flow_world import WalkThrough, column, filled, registry

from syncengine import Engine, Settings, SystemClock
from syncengine.events import (
    MigrationEnded,
    MigrationMessage,
    MigrationProgressed,
    MigrationStarted,
    ProgressSeen,
    ProgressShown,
    RunMeasured,
)
from syncengine.migrate.forecast import Forecast
from syncengine.migrate.reporter import MigrationProgressReporter


class HandClock(SystemClock):
    """Moves when told."""

    at_ms = 1_000

    def monotonic_ms(self):
        return self.at_ms

    def pause(self, wait_ms):
        self.at_ms += wait_ms


def heard_of(steps, *, total=1_000, silent_ms_max=2_000):
    """What a listener hears of a run whose progress is (after so many ms, so much is done)."""
    clock, heard = HandClock(), []
    reporter = MigrationProgressReporter(clock=clock, listener=heard.append, silent_ms_max=silent_ms_max)
    reporter.begin()
    reporter.start_migration("m", total)
    for at_ms, done in steps:
        clock.at_ms = 1_000 + at_ms
        reporter.update_progress(done)
    reporter.complete_migration(True, {})
    reporter.end()
    return heard


def of(heard, kind):
    return [event for event in heard if isinstance(event, kind)]


def test_a_forecast_below_two_seconds_shows_nothing(tmp_path):
    heard = heard_of([(100, 100), (500, 500), (900, 1_000)])
    assert of(heard, ProgressShown) == []
    assert not any(event.visible for event in of(heard, MigrationProgressed))


def test_the_first_batch_tells_that_it_will_take_longer_and_all_of_it_is_visible_to_the_end():
    heard = heard_of([(200, 50), (2_000, 500), (4_000, 1_000)])
    shown, hidden = of(heard, ProgressShown)
    assert (shown.visible, shown.forecast_ms, hidden.visible) == (True, 4_000, False)
    assert heard.index(shown) < heard.index(of(heard, MigrationProgressed)[0])
    assert all(event.visible for event in of(heard, MigrationProgressed))
    assert heard[-2].visible
    assert isinstance(heard[-2], MigrationEnded)


def test_of_an_unknown_total_only_the_time_that_passed_tells():
    heard = heard_of([(200, 50), (1_900, 500), (2_100, 510)], total=None)
    assert [event.visible for event in of(heard, MigrationProgressed)] == [False, False, True]
    assert {(event.percent, event.left_ms) for event in of(heard, MigrationProgressed)} == {(None, None)}


def test_what_is_visible_stays_so_when_it_turns_out_to_be_faster():
    heard = heard_of([(200, 10), (400, 900), (500, 1_000)])
    assert [event.visible for event in of(heard, MigrationProgressed)] == [True, True, True]
    assert len(of(heard, ProgressShown)) == 2


def test_many_short_migrations_become_visible_together():
    clock, heard = HandClock(), []
    reporter = MigrationProgressReporter(clock=clock, listener=heard.append)
    reporter.begin()
    for number in range(4):
        reporter.start_migration(str(number), 10)
        clock.at_ms += 900
        reporter.update_progress(9)
        reporter.complete_migration(True, {})
    assert [event.visible for event in of(heard, MigrationProgressed)] == [False, False, True, True]


def test_ten_events_a_second_at_most_and_counts_that_only_grow():
    heard = of(heard_of([(n * 7, n if n != 50 else 1) for n in range(1_000)]), MigrationProgressed)
    assert 60 <= len(heard) <= 71  # 7 seconds
    done = [event.done for event in heard]
    assert done == sorted(done)
    percents = [event.percent for event in heard]
    assert percents == sorted(percents)


def test_the_rest_is_forecast_by_a_moving_average_and_none_while_unknown():
    forecast = Forecast(now_ms=0)
    assert (forecast.rows_per_s, forecast.left_ms(1_000)) == (None, None)
    forecast.saw(10, now_ms=50)
    assert forecast.rows_per_s is None  # too short to tell
    for second in range(1, 31):
        forecast.saw(second * 10, now_ms=second * 1_000)
    assert forecast.rows_per_s == pytest.approx(10)
    assert forecast.left_ms(1_000) == pytest.approx(70_000)
    for second in range(31, 51):  # ten times faster from here on
        forecast.saw(300 + (second - 30) * 100, now_ms=second * 1_000)
    assert forecast.rows_per_s == pytest.approx(100)
    assert forecast.left_ms(2_500) == 2_000
    assert forecast.left_ms(2_299) is None  # the total was wrong
    assert forecast.left_ms(None) is None


@pytest.mark.parametrize("rate", [5, 40, 333])
def test_at_a_steady_speed_the_forecast_is_right_within_a_tenth(rate):
    steps = [(ms, rate * ms // 1_000) for ms in range(250, 30_000, 250)]
    total = rate * 30
    for event, (at_ms, _) in zip(of(heard_of(steps, total=total), MigrationProgressed), steps, strict=True):
        if event.left_ms is not None and at_ms > 2_000:
            assert event.left_ms == pytest.approx(30_000 - at_ms, rel=0.1, abs=500)


def test_success_is_told_where_it_was_awaited_and_failure_always_with_what_to_do(tmp_path):
    def migrated(path, step, **settings):
        heard = []
        known = registry(step)
        with Engine.open(path, registry=known, listener=heard.append, settings=Settings(**settings)) as engine:
            engine.migrate()
        return of(heard, MigrationMessage)

    assert migrated(filled(tmp_path / "short.db"), WalkThrough(30)) == []
    [success] = migrated(filled(tmp_path / "long.db"), Slow(30), silent_ms_max=1, batch_rows=5)
    assert (success.type, success.message) == ("info", "Your data is now at version 3.0.0.")
    bad = column("bad")
    bad.verify = lambda work: 1 / 0
    [failure] = migrated(filled(tmp_path / "bad.db"), bad)
    assert failure.type == "error"
    assert "Correct the migration" in failure.message


class Slow(WalkThrough):
    """30 ms of the processor for each thing."""

    burns_ms = 30

    def convert(self, item, work) -> None:
        until = time.thread_time() + self.burns_ms / 1000
        while time.thread_time() < until:
            pass
        super().convert(item, work)


def test_a_duty_cycle_of_a_quarter_leaves_three_quarters_of_the_processor_to_others(tmp_path):
    path = filled(tmp_path / "app.db")
    given = {"registry": registry(Slow(30)), "settings": Settings(cpu_share_max=0.25, batch_rows=1)}
    with Engine.open(path, **given) as engine:
        began, cpu = time.monotonic(), time.thread_time()
        assert engine.migrate().success
        share = (time.thread_time() - cpu) / (time.monotonic() - began)
    # What comes before the first batch and after the last is not paced.
    assert share < 0.35


def test_a_listener_that_raises_and_is_slow_harms_nothing_and_slows_little(tmp_path):
    heard = []

    def listener(event):
        heard.append(event)
        if isinstance(event, MigrationProgressed):
            time.sleep(0.2)
        raise RuntimeError("a secret")

    walk = WalkThrough(2_000)
    given = {"registry": registry(walk), "settings": Settings(batch_rows=1), "listener": listener}
    with Engine.open(filled(tmp_path / "app.db"), **given) as engine:
        assert engine.migrate().success
    assert len(walk.looked) == 2_000
    # After a progress that took 0.2 s the next one comes 1.8 s later, not at once.
    assert len(of(heard, MigrationProgressed)) <= 4
    assert isinstance(heard[-1], MigrationEnded)


def test_analytics_hear_what_runs_cost_and_no_user_key_or_row(tmp_path):
    told = []
    steps = [WalkThrough(25, id="mine", scope="user"), column("c")]
    given = {"registry": registry(*steps), "user": "ann-the-user", "analytics": told.append}
    path = filled(tmp_path / "app.db", users=("ann-the-user",))
    with Engine.open(path, settings=Settings(silent_ms_max=0), **given) as engine:
        engine.migrate()
    [first, second] = of(told, RunMeasured)
    assert (first.migration, first.state, second.migration, second.rows) == ("c", "completed", "mine", 25)
    assert min(first.duration_ms, first.cpu_ms, first.memory_growth_bytes or 0) >= 0
    assert all(seen.visible_ms >= 0 for seen in of(told, ProgressSeen))
    assert "ann" not in repr(told)
    assert "n-1" not in repr(told)


def test_analytics_that_raise_harm_nothing(tmp_path, caplog):
    def analytics(event):
        raise RuntimeError("a secret")

    with Engine.open(filled(tmp_path / "app.db"), registry=registry(column("c")), analytics=analytics) as engine:
        assert engine.migrate().success
    assert "analytics callback failed" in caplog.text
    assert "secret" not in caplog.text


def test_two_users_have_their_own_progress_and_history(tmp_path):
    walk = WalkThrough(7, scope="user")
    path = filled(tmp_path / "app.db", users=("ann", "bob"))
    for user in ("ann", "bob"):
        heard = []
        with Engine.open(path, registry=registry(walk), user=user, listener=heard.append) as engine:
            assert engine.migrate().success
            lines = engine.migrations.history(user)
            assert {line.scope for line in lines} <= {"store", f"user:{user}"}
            assert [line.migration for line in lines if line.scope != "store"] == ["walk"]
        assert [event.migration for event in of(heard, MigrationStarted)] == ["walk"]
