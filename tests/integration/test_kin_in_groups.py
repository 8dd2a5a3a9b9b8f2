"""A person deletes a row, its foreign key changes rows that refer to it, and another device has deleted those.

All of it is one transaction, and so one group, which the cloud takes whole or not at all.
"""

import pytest

from tests.integration.kin_world import World

LISTS = """CREATE TABLE lists (
  user_id TEXT NOT NULL, id TEXT NOT NULL, name TEXT, code TEXT, PRIMARY KEY (user_id, id), UNIQUE (id), UNIQUE (code)
) STRICT"""
ITEMS = """CREATE TABLE items (
  user_id TEXT NOT NULL, id TEXT NOT NULL, list TEXT DEFAULT 'inbox' REFERENCES lists ({target}) ON DELETE {action},
  other TEXT REFERENCES lists (id) ON DELETE SET NULL, text TEXT, PRIMARY KEY (user_id, id)
) STRICT"""
BLOCK = (
    "INSERT INTO lists VALUES ('ann', 'p', 'groceries', 'p'), ('ann', 'inbox', 'in', 'inbox')",
    "INSERT INTO items (user_id, id, list, text) VALUES ('ann', 'c', 'p', 'a'), ('ann', 'd', 'p', 'b')",
)
DELETE = "DELETE FROM lists WHERE id = 'p'"
DELETE_C = "DELETE FROM items WHERE id = 'c'"


@pytest.fixture
def world_of(tmp_path):
    made: list[World] = []

    def make(action: str = "SET NULL", target: str = "id") -> World:
        made.append(World(tmp_path, (LISTS, ITEMS.format(action=action, target=target)), ("lists", "items")))
        world = made[-1]
        world.one.write(*BLOCK)
        world.settle()
        return world

    yield make
    for world in made:
        world.close()


def everybody_is_without_the_list(world: World) -> None:
    world.all_agree()
    assert world.one.rows("lists").keys() == {"inbox"}
    assert [device.open_items() for device in world.devices] == [[], []]


@pytest.mark.parametrize(("action", "expected"), [("SET NULL", None), ("SET DEFAULT", "inbox")])
def test_a_deletion_arrives_although_a_row_that_it_changed_is_gone_at_the_cloud(world_of, action, expected):
    world = world_of(action)
    world.two.write(DELETE_C)
    world.one.write(DELETE)
    world.settle(world.two, world.one)
    everybody_is_without_the_list(world)
    assert world.one.rows("items") == {"d": (expected, None, "b")}
    assert world.one.query(
        "SELECT row_key, field, local_json ->> '$.text', server_json, winner FROM _sync_conflict"
    ) == [("c", "*", "a", "null", "server")]


def test_many_such_rows_fall_away_in_one_round(world_of):
    world = world_of()
    world.one.write(
        *(f"INSERT INTO items (user_id, id, list, other) VALUES ('ann', 'i{n}', 'p', 'p')" for n in range(9))
    )
    world.settle()
    world.two.write("DELETE FROM items")
    world.one.write(DELETE)
    world.two.sync()
    pushes = len(world.one.line.pushed)
    world.one.sync()
    assert len(world.one.line.pushed) - pushes == 2
    world.settle()
    everybody_is_without_the_list(world)
    assert len(world.one.conflicts()) == 11


def test_a_row_whose_parent_is_named_by_another_column_than_its_key_falls_away_too(world_of):
    world = world_of("SET NULL", "code")
    world.two.write(DELETE_C)
    world.one.write(DELETE)
    world.settle(world.two, world.one)
    everybody_is_without_the_list(world)


def test_it_falls_away_also_where_its_deletion_is_read_before_the_block_is_sent(world_of):
    world = world_of()
    world.two.write(DELETE_C)
    world.two.sync()
    world.one.line.meanwhile = lambda: world.one.write(DELETE)
    world.one.sync()
    world.settle()
    everybody_is_without_the_list(world)
    assert world.one.conflicts() == [("c", "*", "server")]


def test_the_receipt_of_what_fell_away_says_so(world_of):
    world = world_of()
    world.two.write(DELETE_C)
    world.one.write(DELETE)
    [(entry,)] = world.one.query("SELECT entry_id FROM _sync_outbox WHERE row_key = 'c'")
    world.settle(world.two, world.one)
    assert world.one.engine.receipt(entry).state == "merged_away"


def test_an_earlier_edit_of_the_row_is_set_aside_and_the_deletion_arrives(world_of):
    world = world_of()
    world.two.write(DELETE_C)
    world.one.write("UPDATE items SET text = 'mine' WHERE id = 'c'")
    world.one.write(DELETE)
    world.settle(world.two, world.one)
    world.all_agree()
    assert world.one.rows("lists").keys() == {"inbox"}
    assert world.one.open_items() == [("c", "deleted_at_cloud")]


@pytest.mark.parametrize(
    "own",
    [
        "UPDATE items SET text = 'mine' WHERE id = 'c'",
        "UPDATE items SET list = 'inbox' WHERE id = 'c'",
        "UPDATE items SET list = NULL, other = 'inbox' WHERE id = 'c'",
    ],
    ids=["another field", "another parent", "both"],
)
def test_what_a_person_did_to_a_row_that_is_gone_holds_up_its_block(world_of, own):
    world = world_of()
    world.two.write(DELETE_C)
    world.one.write(own, DELETE)
    world.settle(world.two, world.one)
    assert "p" in world.at_cloud("lists")
    assert world.one.open_items() != []
    assert world.one.rows("lists").keys() == {"inbox"}


@pytest.mark.parametrize(
    "beside", ["UPDATE lists SET name = 'x' WHERE id = 'inbox'", "DELETE FROM lists WHERE id = 'inbox'"]
)
def test_an_edit_that_looks_the_same_holds_up_its_block_where_its_parent_was_not_deleted_with_it(world_of, beside):
    world = world_of()
    world.two.write(DELETE_C)
    world.one.write("UPDATE items SET list = NULL WHERE id = 'c'", beside)
    world.settle(world.two, world.one)
    assert world.at_cloud("lists")["inbox"] == ("in", "inbox")
    assert world.one.open_items() != []


def test_what_a_person_did_to_another_row_that_is_gone_is_set_aside_as_if_its_deletion_had_been_read_first(world_of):
    world = world_of()
    world.two.write("DELETE FROM items")
    world.one.write(DELETE, "UPDATE items SET text = 'mine' WHERE id = 'd'")
    world.settle(world.two, world.one)
    world.all_agree()
    assert world.one.open_items() == [("d", "deleted_at_cloud")]
    assert any("mine" in body for body in world.one.bodies())
