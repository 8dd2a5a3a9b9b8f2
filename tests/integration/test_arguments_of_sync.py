"""What a host says to the engine about syncing is what was asked for, or it is told what to say."""

from pathlib import Path

import pytest

from tests.integration.kin_world import World

CREATE = "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (user_id, id)) STRICT"


@pytest.fixture
def world(tmp_path: Path):
    made = World(tmp_path, (CREATE,), ("notes",))
    yield made
    made.close()


@pytest.mark.parametrize("said", [0, 1, "no", "", 1.0, []], ids=repr)
@pytest.mark.parametrize("name", ["online", "metered"])
def test_what_is_neither_true_nor_false_is_no_hint_of_the_network(world, name, said):
    world.one.engine.set_network(online=False, metered=True)
    before = world.one.engine.status()
    with pytest.raises(TypeError, match=f"{name} is True, False or None, and not a {type(said).__name__}; "):
        world.one.engine.set_network(**{name: said})
    assert world.one.engine.status() == before


@pytest.mark.parametrize(("timeout_ms", "error"), [("x", TypeError), (None, TypeError), (float("nan"), ValueError)])
@pytest.mark.parametrize("ask", ["sync_now", "flush"])
def test_a_time_to_wait_for_the_cloud_is_a_number(world, ask, timeout_ms, error):
    world.one.write("INSERT INTO notes VALUES ('ann', 'a')")
    with pytest.raises(error, match="timeout_ms is a number of milliseconds, and n"):
        getattr(world.one.engine, ask)(timeout_ms=timeout_ms)
    assert world.at_cloud("notes") == {}
