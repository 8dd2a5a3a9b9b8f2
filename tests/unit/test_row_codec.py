"""Rows to models and back: nothing is bent on the way, and what cannot be kept is said."""

import json
from enum import Enum
from typing import Annotated, Any, Literal, NewType

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from syncengine.migrate.row_codec import codec_of, encode_mapping, row_as_json, why_invalid

PlaceId = NewType("PlaceId", str)


class Colour(Enum):
    RED = "red"


class Point(BaseModel):
    latitude: float
    longitude: float


class Place(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    id: PlaceId
    title: Annotated[str, Field(max_length=20)] | None = None
    kind: Literal["home", "sea"] = "home"
    open: bool = False
    maybe: bool | None = None
    stars: float | None = None
    visits: int = 0
    picture: bytes | None = None
    tags: list[str] = []
    route: list[Point] | None = None
    extra: dict[str, Any] = {}


def test_every_kind_of_field_comes_back_as_it_went():
    place = Place(
        id=PlaceId("p"),
        title="123",
        kind="sea",
        open=True,
        maybe=False,
        stars=4.5,
        visits=-(2**63),
        picture=b"\0\xff",
        tags=["a", "🚶", "\0", ""],
        route=[Point(latitude=1.5, longitude=-0.0)],
        extra={"deep": {"er": [1, None, True]}},
    )
    codec = codec_of(Place)
    assert codec.decode([codec.encode(place)]) == [place]


def test_columns_hold_what_a_person_expects():
    codec = codec_of(Place)
    row = dict(zip(codec.columns, codec.encode(Place(id=PlaceId("p"), title="null", open=True)), strict=True))
    assert row["id"] == "p"
    assert row["title"] == "null"
    assert (row["open"], row["maybe"]) == (1, None)
    assert (row["tags"], row["route"], row["extra"]) == ("[]", None, "{}")


@pytest.mark.parametrize("text", ["null", "123", '"quoted"', "[1]", "", "true"])
def test_text_that_looks_like_json_stays_text_in_a_text_column(text):
    codec = codec_of(Place)
    place = Place(id=PlaceId(text), title=text)
    assert codec.decode([codec.encode(place)]) == [place]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["extra", "route"])
def test_a_number_that_json_has_no_word_for_is_an_error_and_not_null(number, where):
    value = {"extra": {"a": [{"b": number}]}, "route": [Point(latitude=number, longitude=1)]}[where]
    with pytest.raises(ValueError, match="not finite"):
        codec_of(Place).encode(Place(id=PlaceId("p"), **{where: value}))


@pytest.mark.parametrize("value", [2**70, "\ud83d"])
def test_what_json_cannot_hold_is_an_error(value):
    with pytest.raises((TypeError, ValueError)):
        codec_of(Place).encode(Place(id=PlaceId("p"), extra={"a": value}))


@pytest.mark.parametrize(
    ("column", "value", "field"),
    [
        ("tags", "no json", "0.tags"),
        ("tags", "[1]", "0.tags.0"),
        ("open", 2, "0.open"),
        ("open", "1", "0.open"),
        ("visits", "12", "0.visits"),
        ("kind", "moon", "0.kind"),
        ("route", '[{"latitude": 1}]', "0.route.0.longitude"),
    ],
)
def test_a_row_of_another_shape_is_refused_with_the_place_and_without_the_value(column, value, field):
    codec = codec_of(Place)
    row = dict(zip(codec.columns, codec.encode(Place(id=PlaceId("p"))), strict=True)) | {column: value}
    with pytest.raises(ValidationError) as refused:
        codec.decode([tuple(row.values())])
    text, found = why_invalid(refused.value)
    assert found == field
    assert "moon" not in text
    assert "no json" not in text


def test_a_whole_row_is_json_with_bytes_and_infinity_as_objects():
    row = ("a\0🚶", b"\xff", None, 1, 0.1, float("inf"))
    assert json.loads(row_as_json(tuple("abcdef"), row)) == {
        "a": "a\0🚶",
        "b": {"$blob": "/w=="},
        "c": None,
        "d": 1,
        "e": 0.1,
        "f": {"$real": "inf"},
    }


def test_a_plain_mapping_is_encoded_as_a_model_is():
    row = {"a": True, "b": [1], "c": {"d": 1}, "e": Point(latitude=1, longitude=2), "f": None, "g": Colour.RED}
    assert encode_mapping(row) == {
        "a": 1,
        "b": "[1]",
        "c": '{"d":1}',
        "e": '{"latitude":1.0,"longitude":2.0}',
        "f": None,
        "g": "red",
    }
    with pytest.raises(TypeError):
        encode_mapping({"a": object()})
    with pytest.raises(ValueError, match="not finite"):
        encode_mapping({"a": [float("nan")]})
