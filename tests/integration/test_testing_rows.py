"""Rows drawn from row models: within every bound, storable, and the same for the same seed."""

import json
from enum import Enum
from typing import Annotated, Any, Literal

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, field_validator

from syncengine.migrate.row_codec import codec_of
from syncengine.testing import drawn, row_strategy


class Colour(Enum):
    GREY = "grey"
    RED = "red"


class Point(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    latitude: float = Field(ge=-90, le=90)
    label: str | None


class Bounded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=3, lt=9)
    share: float = Field(gt=0, le=1)
    code: Annotated[str, StringConstraints(pattern=r"^[a-z]{3}[0-9]?$")]
    word: Literal["x", "y"]
    colour: Colour
    few: list[int] = Field(min_length=2, max_length=3)
    short: str | None = Field(max_length=4)
    pair: tuple[int, str]
    many: tuple[float, ...]
    names: set[str]
    blob: bytes = Field(max_length=8)
    sevens: int = Field(multiple_of=7)
    place: Point
    places: list[Point]
    anything: JsonValue
    extra: dict[str, Any]
    flag: bool | None
    even: int = Field(alias="evenNumber")

    @field_validator("even")
    @classmethod
    def is_even(cls, number: int) -> int:
        if number % 2:
            raise ValueError("odd")
        return number


@settings(max_examples=150, deadline=None)
@given(row_strategy(Bounded))
def test_every_bound_of_a_model_holds_in_every_row(row):
    assert 3 <= row.number < 9
    assert 0 < row.share <= 1
    assert row.code[:3].islower()
    assert len(row.code) in (3, 4)
    assert len(row.few) in (2, 3)
    assert row.short is None or len(row.short) <= 4
    assert row.sevens % 7 == 0
    assert -90 <= row.place.latitude <= 90
    assert row.even % 2 == 0


class Stored(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    id: str
    number: int
    real: float
    flag: bool | None
    blob: bytes
    inside: dict[str, JsonValue]


@settings(max_examples=150, deadline=None)
@given(row_strategy(Stored))
def test_every_row_can_be_stored_and_comes_back_as_it_was(row):
    codec = codec_of(Stored)
    connection = apsw.Connection(":memory:")
    back = connection.execute("SELECT ?, ?, ?, ?, ?, ?", codec.encode(row)).fetchall()
    connection.close()
    assert codec.decode(back) == [row]
    assert "\0" not in row.id
    assert json.loads(json.dumps(row.inside, allow_nan=False)) == row.inside


def test_the_same_seed_draws_the_same_rows_and_another_one_others():
    first, again, other = (drawn(row_strategy(Stored), count=20, seed_number=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert len(first) == 20


def test_a_field_may_be_drawn_from_a_strategy_of_the_authors_own():
    rows = drawn(row_strategy(Stored, number=st.just(7)), count=10)
    assert {row.number for row in rows} == {7}
    assert len({row.real for row in rows}) > 1


def test_a_strategy_for_a_field_that_is_not_there_is_a_slip_that_is_named():
    with pytest.raises(TypeError, match="Stored has no field nummer"):
        row_strategy(Stored, nummer=st.integers())
