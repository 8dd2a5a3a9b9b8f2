"""A parent is deleted on one device while another one, offline, has rows that refer to it; all come to agree.

Nothing is lost without a word: a row that goes with its parent is in quarantine, a deletion that is refused is a
conflict.
"""

import itertools
import json
from typing import Any

import pytest

from syncengine.vocabulary import UserId
from tests.integration.kin_world import Device, World

LISTS = """CREATE TABLE lists (
  user_id TEXT NOT NULL, id TEXT NOT NULL, name TEXT, code TEXT, PRIMARY KEY (user_id, id), UNIQUE (id), UNIQUE (code)
) STRICT"""
ITEMS = """CREATE TABLE items (
  user_id TEXT NOT NULL, id TEXT NOT NULL, list TEXT DEFAULT 'inbox', text TEXT, PRIMARY KEY (user_id, id),
  FOREIGN KEY ({columns}) REFERENCES lists ({targets}) {action}
) STRICT"""
PARTS = """CREATE TABLE parts (
  user_id TEXT NOT NULL, id TEXT NOT NULL, item TEXT, PRIMARY KEY (user_id, id),
  FOREIGN KEY (user_id, item) REFERENCES items (user_id, id) ON DELETE CASCADE
) STRICT"""


@pytest.fixture
def world_of(tmp_path):
    made: list[World] = []

    def make(action: str, columns: str = "user_id, list", targets: str = "user_id, id", **more: Any) -> World:
        schema = (LISTS, ITEMS.format(action=action, columns=columns, targets=targets), PARTS)
        made.append(World(tmp_path, schema, ("lists", "items", "parts"), **more))
        return made[-1]

    yield make
    for world in made:
        world.close()


LIST = "INSERT INTO lists VALUES ('ann', 'p', 'groceries', 'c-p')"
INBOX = "INSERT INTO lists VALUES ('ann', 'inbox', 'in', 'c-in')"
ITEM = "INSERT INTO items VALUES ('ann', 'c', 'p', 'my long text')"
DELETE = "DELETE FROM lists WHERE id = 'p'"
ORDERS = pytest.mark.parametrize("order", list(itertools.permutations((0, 1))), ids=["deleter", "writer"])
BY_ID = {"columns": "list", "targets": "id"}
BY_CODE = {"columns": "list", "targets": "code"}


def deleted_under_a_new_child(world: World, order: tuple[int, int]) -> None:
    world.one.write(LIST, INBOX)
    world.settle()
    world.one.write(DELETE)
    world.two.write(ITEM)
    world.settle(*(world.devices[place] for place in order))


@ORDERS
def test_a_child_that_goes_with_its_deleted_parent_is_in_quarantine(world_of, order):
    world = world_of("ON DELETE CASCADE")
    deleted_under_a_new_child(world, order)
    world.all_agree()
    assert world.one.rows("items") == {}
    assert world.one.rows("lists").keys() == {"inbox"}
    kept = [body for device in world.devices for body in device.bodies()]
    assert kept
    assert all("my long text" in body for body in kept)
    assert {item for device in world.devices for item in device.open_items()} == {("c", "parent_deleted")}


@ORDERS
def test_what_was_in_quarantine_comes_back_under_another_parent(world_of, order):
    world = world_of("ON DELETE CASCADE")
    deleted_under_a_new_child(world, order)
    (item, body) = next(
        found
        for device in world.devices
        for found in device.query("SELECT item_id, body FROM _sync_quarantine")
        if found
    )
    holder = next(device for device in world.devices if device.open_items())
    holder.engine.quarantine.edit(item, body.replace('"p"', '"inbox"'))
    assert holder.engine.quarantine.retry(item).resolved
    world.settle()
    world.all_agree()
    assert world.one.rows("items") == {"c": ("inbox", "my long text")}


@ORDERS
@pytest.mark.parametrize(("action", "expected"), [("SET NULL", None), ("SET DEFAULT", "inbox")])
def test_a_child_that_loses_its_parent_says_so_everywhere(world_of, order, action, expected):
    world = world_of(f"ON DELETE {action}", **BY_ID)
    deleted_under_a_new_child(world, order)
    world.all_agree()
    assert world.one.rows("items") == {"c": (expected, "my long text")}
    assert [device.open_items() for device in world.devices] == [[], []]
    world.two.write("UPDATE items SET text = 'of two'")
    world.settle()
    world.one.write("UPDATE items SET list = 'inbox'")
    world.settle()
    world.all_agree()
    assert world.two.rows("items") == {"c": ("inbox", "of two")}


@ORDERS
@pytest.mark.parametrize("action", ["", "ON DELETE RESTRICT", "ON DELETE SET NULL"])
def test_a_parent_that_may_not_go_stays_and_its_deletion_is_a_conflict(world_of, order, action):
    """SET NULL would leave the row without its owner, which is NOT NULL."""
    world = world_of(action)
    deleted_under_a_new_child(world, order)
    world.all_agree()
    assert world.one.rows("items") == {"c": ("p", "my long text")}
    assert world.one.rows("lists")["p"] == ("groceries", "c-p")
    assert world.two.conflicts() == [("p", "*", "local")]
    assert [device.open_items() for device in world.devices] == [[], []]
    world.one.write("UPDATE items SET text = 'of one'")
    world.settle()
    world.two.write("DELETE FROM items", DELETE)
    world.settle()
    world.all_agree()
    assert world.one.rows("lists").keys() == {"inbox"}


@ORDERS
def test_edits_that_wait_for_the_cloud_go_into_quarantine_with_their_row(world_of, order):
    world = world_of("ON DELETE CASCADE")
    world.one.write(LIST, INBOX, "INSERT INTO items VALUES ('ann', 'old', 'inbox', 'was elsewhere')")
    world.settle()
    world.one.write(DELETE)
    world.two.write("UPDATE items SET list = 'p', text = 'moved and edited' WHERE id = 'old'")
    world.settle(*(world.devices[place] for place in order))
    world.all_agree()
    assert world.one.rows("items") == {}
    assert any("moved and edited" in body for device in world.devices for body in device.bodies())


@ORDERS
def test_grandchildren_go_along_and_are_kept(world_of, order):
    world = world_of("ON DELETE CASCADE")
    world.one.write(LIST, INBOX)
    world.settle()
    world.one.write(DELETE)
    world.two.write(ITEM, "INSERT INTO parts VALUES ('ann', 'g', 'c')")
    world.settle(*(world.devices[place] for place in order))
    world.all_agree()
    assert world.one.rows("items") == world.one.rows("parts") == {}
    kept = {item for device in world.devices for item in device.open_items()}
    assert kept == {("c", "parent_deleted"), ("g", "parent_deleted")}


def test_children_that_the_deleting_device_knew_go_without_a_word(world_of):
    world = world_of("ON DELETE CASCADE", pull_items_max=1)
    world.one.write(LIST, INBOX, ITEM, "INSERT INTO parts VALUES ('ann', 'g', 'c')")
    world.settle()
    world.one.write(DELETE)
    world.settle()
    world.all_agree()
    assert world.two.rows("parts") == {}
    assert [device.open_items() for device in world.devices] == [[], []]


@pytest.mark.parametrize("action", ["", "ON DELETE CASCADE"])
def test_a_child_that_was_moved_on_a_later_page_is_no_child_any_more(world_of, action):
    world = world_of(action, pull_items_max=1)
    world.one.write(LIST, INBOX, ITEM)
    world.settle()
    world.one.write("UPDATE items SET list = 'inbox'")
    world.one.write(DELETE)
    world.one.write("UPDATE items SET text = 'moved'")
    world.settle()
    world.all_agree()
    assert world.two.rows("items") == {"c": ("inbox", "moved")}
    assert world.two.rows("lists").keys() == {"inbox"}
    assert [device.open_items() + device.conflicts() for device in world.devices] == [[], []]


@ORDERS
def test_what_refers_to_another_column_follows_when_that_changes_elsewhere(world_of, order):
    world = world_of("ON UPDATE CASCADE", **BY_CODE)
    world.one.write(LIST, INBOX)
    world.settle()
    world.one.write("UPDATE lists SET code = 'new' WHERE id = 'p'")
    world.two.write("INSERT INTO items VALUES ('ann', 'c', 'c-p', 'text')")
    world.settle(*(world.devices[place] for place in order))
    world.all_agree()
    assert world.one.rows("items") == {"c": ("new", "text")}
    assert world.two.rows("lists")["p"] == ("groceries", "new")


@ORDERS
def test_a_column_that_rows_refer_to_stays_where_it_may_not_change(world_of, order):
    world = world_of("", **BY_CODE)
    world.one.write(LIST, INBOX)
    world.settle()
    world.one.write("UPDATE lists SET code = 'new', name = 'renamed' WHERE id = 'p'")
    world.two.write("INSERT INTO items VALUES ('ann', 'c', 'c-p', 'text')")
    world.settle(*(world.devices[place] for place in order))
    world.all_agree()
    assert world.one.rows("items") == {"c": ("c-p", "text")}
    assert world.one.rows("lists")["p"] == ("renamed", "c-p")
    assert world.two.conflicts() == [("p", "code", "local")]


# Across users, whose rows are read at different times.


def as_user(device: Device, user: str) -> None:
    device.line.user = UserId(user)
    device.engine.switch_user(user)
    device.sync()
    device.sync()


@pytest.fixture
def of_two_users(world_of):
    """An item of bob's refers to a list of ann's; it is made on the first device."""
    world = world_of("ON UPDATE CASCADE ON DELETE CASCADE", columns="list", targets="id")
    world.cloud.accept_token(UserId("bob"), token="a token of bob")
    world.one.write(
        "INSERT INTO lists VALUES ('ann', 'l', '', 'c')", "INSERT INTO items VALUES ('bob', 'b', 'l', 'x')"
    )
    as_user(world.one, "ann")
    as_user(world.one, "bob")
    return world


def test_a_child_of_another_user_waits_until_the_user_of_its_parent_was_read(of_two_users):
    two = of_two_users.two
    as_user(two, "bob")
    assert (two.rows("items"), two.waits()) == ({}, [("b", "parent_missing")])
    as_user(two, "ann")
    as_user(two, "bob")
    assert (two.rows("items"), two.waits()) == ({"b": ("l", "x")}, [])


def test_a_child_of_another_user_whose_parent_got_another_key_is_set_aside_whole_where_the_old_one_goes(of_two_users):
    """A key that changes is a deletion and a new row; what it did to the child is the other user's to tell."""
    one, two = of_two_users.one, of_two_users.two
    for user in ("ann", "bob", "ann"):
        as_user(two, user)
    as_user(one, "ann")
    one.write("UPDATE lists SET id = 'm'")
    assert one.rows("items") == {"b": ("m", "x")}
    one.sync()
    two.sync()
    two.sync()
    assert two.rows("lists") == {"m": ("", "c")}
    assert (two.rows("items"), two.open_items()) == ({}, [("b", "parent_deleted")])
    assert [json.loads(body)["text"] for body in two.bodies()] == ["x"]
