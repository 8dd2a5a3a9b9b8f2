"""A cursor is its writer's, its user's, and worth what the database says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncengine.server.cursor import Position, Standing, life_told_by, read_cursor, standing, written_cursor
from syncengine.vocabulary import UserId

ANN, BOB = UserId("ann"), UserId("bob")
KEY = b"k" * 32
NUMBERS = st.integers(0, 2**63 - 1)
HERE = Position(epoch=7, group_version=50, version=50, mark=123)


@given(st.builds(Position, epoch=NUMBERS, group_version=NUMBERS, version=NUMBERS, mark=NUMBERS, floor=NUMBERS))
def test_what_is_written_is_read_by_its_user_with_its_key_and_by_nobody_else(position: Position) -> None:
    text = written_cursor(position, user=ANN, key=KEY)
    assert read_cursor(text, user=ANN, key=KEY) == position
    assert read_cursor(text, user=BOB, key=KEY) is None
    assert read_cursor(text, user=ANN, key=b"another") is None
    assert len(text) <= 64


@given(st.builds(Position, epoch=NUMBERS, group_version=NUMBERS, version=NUMBERS, mark=NUMBERS, head=NUMBERS))
def test_where_the_head_was_between_two_pages_is_read_again(position: Position) -> None:
    text = written_cursor(position, user=ANN, key=KEY)
    assert read_cursor(text, user=ANN, key=KEY) == position
    assert read_cursor(text, user=BOB, key=KEY) is None
    assert life_told_by(text) in (position.epoch, None)
    assert len(text) <= 75


def test_of_a_cursor_that_cannot_be_read_the_life_that_it_names_is_known() -> None:
    assert life_told_by(written_cursor(HERE, user=ANN, key=b"another")) == HERE.epoch
    assert [life_told_by(text) for text in ("", "AAAA", "not base64 é", "A" * 200)] == [None] * 4


@given(st.data())
def test_a_cursor_with_any_letter_changed_is_nobodys(data: st.DataObject) -> None:
    text = written_cursor(HERE, user=ANN, key=KEY)
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABCabc019-_+/=é "))
    changed = text[:place] + letter + text[place + 1 :]
    assert (read_cursor(changed, user=ANN, key=KEY) is not None) == (changed == text)
    assert read_cursor(text + letter, user=ANN, key=KEY) is None


@pytest.mark.parametrize(
    ("position", "mark", "floor", "found"),
    [
        (HERE, 123, 0, Standing.GOOD),
        (HERE, 123, 50, Standing.GOOD),
        (HERE, 123, 51, Standing.BELOW_FLOOR),
        (None, 123, 0, Standing.OTHER_EPOCH),
        (Position(epoch=6, group_version=50, version=50, mark=123), 123, 0, Standing.OTHER_EPOCH),
        (HERE, 124, 0, Standing.CONTRADICTED),
        (Position(epoch=7, group_version=61, version=61, mark=123), 123, 0, Standing.CONTRADICTED),
        # Between two pages, while the head was elsewhere.
        (Position(epoch=7, group_version=50, version=50, mark=123, head=60), 123, 0, Standing.GOOD),
        (Position(epoch=7, group_version=50, version=50, mark=123, head=60), 124, 0, Standing.CONTRADICTED),
        (Position(epoch=7, group_version=50, version=50, mark=123, head=61), 123, 0, Standing.CONTRADICTED),
        # Within a large group, some of whose tombstones are behind it and are forgotten.
        (Position(epoch=7, group_version=50, version=40, mark=123), 123, 50, Standing.BELOW_FLOOR),
        (Position(epoch=7, group_version=50, version=40, mark=123), 123, 40, Standing.GOOD),
        (Position(epoch=7, group_version=0, version=0, mark=0), 0, 0, Standing.GOOD),
        # A reading that began at the start needs no tombstone that was forgotten before.
        (Position(epoch=7, group_version=3, version=3, mark=123, floor=50), 123, 50, Standing.GOOD),
        (Position(epoch=7, group_version=3, version=3, mark=123, floor=50), 123, 51, Standing.BELOW_FLOOR),
    ],
)
def test_what_a_cursor_is_worth(position: Position | None, mark: int, floor: int, found: Standing) -> None:
    assert standing(position, epoch=7, head=60, floor=floor, mark=mark) is found
