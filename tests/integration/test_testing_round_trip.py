"""There and back: a `down` that loses something is found with the smallest row that shows it."""

import pytest
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from syncengine import Quarantine, migration
from syncengine.testing import round_trip, row_strategy


class Old(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    title: str | None
    minutes: int


class New(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str
    title: str
    seconds: int
    had_title: bool


def step(**facts):
    return migration(id="step", collection="notes", from_version="1.0.0", to_version="2.0.0", **facts)


def there(old: Old) -> New:
    if abs(old.minutes) > 2**40:
        raise Quarantine("too long", field="minutes")
    return New(
        user_id=old.user_id,
        id=old.id,
        title=old.title or "",
        seconds=old.minutes * 60,
        had_title=old.title is not None,
    )


def back(new: New) -> Old:
    title = new.title if new.had_title else None
    return Old(user_id=new.user_id, id=new.id, title=title, minutes=new.seconds // 60)


def test_a_true_inverse_brings_every_row_back_that_got_there():
    forward = step()(there)
    forward.down(back)
    report = round_trip(forward, examples_max=200)
    assert report.back + report.set_aside == report.rows >= 100
    assert report.back > 100


def test_an_empty_text_that_comes_back_as_none_is_found_and_its_column_named():
    def forgetful(new: New) -> Old:
        return back(new).model_copy(update={"title": new.title or None})

    forward = step()(there)
    forward.down(forgetful)
    with pytest.raises(AssertionError, match="step and its `down` change title"):
        round_trip(forward)


def test_a_migration_without_a_way_back_must_say_that_it_is_lossy():
    with pytest.raises(AssertionError, match="step has no way back"):
        round_trip(step()(there))
    assert round_trip(step(lossy=True)(there)).rows == 0


def test_a_migration_that_refuses_nearly_every_row_proves_nothing_and_says_so():
    forward = step()(there)
    forward.down(back)
    with pytest.raises(AssertionError, match="give `rows=` a strategy"):
        round_trip(forward, rows=row_strategy(Old, minutes=st.just(2**41)))


def test_a_way_back_that_gives_something_else_than_the_old_model_is_named():
    def nowhere(new: New) -> Old:
        return new

    forward = step()(there)
    forward.down(nowhere)
    with pytest.raises(AssertionError, match="`down` gave back a New"):
        round_trip(forward)
