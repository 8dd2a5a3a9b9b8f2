"""Saved and dismissed places of generation 0, and what the Places API said of them."""

from typing import Any

import pytest

from migrations.kept_places import DISMISSAL_MS, PlaceIds, dismissed_place, saved_place
from migrations.place_data import price_level, real_position, without_secret_parameters, without_secrets
from syncengine import Quarantine

NOW_MS = 1_760_000_000_000

P1: dict[str, Any] = {
    "placeId": "ChIJ-1",
    "name": "Fuglen",
    "category": "cafe",
    "description": "1-16-11 Tomigaya",
    "thumbnail": "https://maps.example/photo?maxwidth=400&photoreference=abc&key=FAKE",
    "rating": 4.4,
    "userRatingsTotal": 1893,
}
P2 = P1 | {"latitude": 35.6622, "longitude": 139.7171}
P3 = P2 | {
    "category": {"text": "Museum", "languageCode": "en"},
    "types": ["museum", "point_of_interest"],
    "priceLevel": "PRICE_LEVEL_MODERATE",
    "formatted_address": "6-5-1 Minamiaoyama",
}


def saved(entry: dict[str, Any]) -> Any:
    return saved_place(entry, user="u", id=entry["placeId"])


def dismissed(value: object, preference: str | None = "30days") -> Any:
    return dismissed_place(value, user="u", preference=preference, now_ms=NOW_MS)


def test_a_place_without_coordinates_is_kept_and_not_put_at_zero() -> None:
    row = saved(P1)
    assert (row.saved, row.location, row.place_name) == (True, None, "Fuglen")


def test_a_place_with_coordinates_keeps_them() -> None:
    assert saved(P2).location == {"lat": 35.6622, "lng": 139.7171}


def test_a_place_on_the_equator_keeps_its_zero() -> None:
    assert saved(P2 | {"latitude": 0.0}).location == {"lat": 0.0, "lng": 139.7171}


def test_the_new_api_category_and_price_become_the_old_ones() -> None:
    row = saved(P3)
    assert (row.place_type, row.place_data["category"], row.place_data["priceLevel"]) == ("Museum", "Museum", 2)


@pytest.mark.parametrize(
    ("given", "level"), [(0, 0), (4, 4), ("PRICE_LEVEL_FREE", 0), (5, None), ("?", None), (None, None), (True, None)]
)
def test_a_price_level_is_zero_to_four_or_not_known(given: object, level: int | None) -> None:
    assert price_level(given) == level


def test_no_api_key_is_carried_on() -> None:
    assert "FAKE" not in saved(P1).model_dump_json()
    assert saved(P1).place_data["thumbnail"] == "https://maps.example/photo?maxwidth=400&photoreference=abc"


def test_an_api_key_is_found_however_deep_it_lies() -> None:
    place: Any = {
        "photos": [{"url": "https://maps.example/p?KEY=FAKE&w=1"}],
        "links": [["http://x.example/?key=FAKE"]],
    }
    assert without_secrets(place) == {
        "photos": [{"url": "https://maps.example/p?w=1"}],
        "links": [["http://x.example/"]],
    }


@pytest.mark.parametrize(
    "address", ["https://maps.example/p?monkey=1&keys=2#key=3", "is this the key=value?", "https://maps.example/key"]
)
def test_what_is_no_secret_stays_letter_by_letter(address: str) -> None:
    assert without_secret_parameters(address) == address


def test_the_same_place_saved_twice_has_one_id_and_other_content_a_second() -> None:
    ids = PlaceIds()
    for entry in (P1, dict(P1), P3):
        ids.note(entry)
    assert ids.id_of(P1) == ids.id_of(dict(P1)) == "ChIJ-1"
    assert ids.id_of(P3).startswith("ChIJ-1-")


@pytest.mark.parametrize("entry", [{}, {"placeId": ""}, {"placeId": 7}])
def test_a_place_without_an_id_is_set_aside(entry: dict[str, Any]) -> None:
    with pytest.raises(Quarantine) as caught:
        saved_place(entry, user="u", id="x")
    assert caught.value.field == "placeId"


def test_a_dismissal_ends_thirty_days_after_it_was_made() -> None:
    row = dismissed({"placeId": "p", "name": "Bar", "dismissedAt": "2025-07-09T00:00:00.000Z"})
    assert (row.dismissed_until, row.dismissed_forever) == ("2025-08-08T00:00:00.000Z", False)
    assert row.place_data == {"name": "Bar"}


def test_a_dismissal_without_a_time_ends_thirty_days_from_now_and_has_no_invented_beginning() -> None:
    row = dismissed("ChIJ-9")
    assert (row.id, row.dismissed_at, row.dismissed_until) == ("ChIJ-9", None, "2025-11-08T08:53:20.000Z")
    assert NOW_MS + DISMISSAL_MS == 1_762_592_000_000  # that moment


@pytest.mark.parametrize("preference", ["ask", "30days", None])
def test_only_the_choice_of_for_ever_is_for_ever(preference: str | None) -> None:
    assert dismissed("ChIJ-9", preference).dismissed_forever is False
    forever = dismissed("ChIJ-9", "forever")
    assert (forever.dismissed_forever, forever.dismissed_until) == (True, None)


def test_what_is_no_place_is_set_aside() -> None:
    with pytest.raises(Quarantine):
        dismissed(7)


def test_null_island_is_no_position_but_its_parallels_are() -> None:
    assert real_position([{"lat": 0, "lng": 0}, {"latitude": 0, "longitude": 103.8}]) == (0.0, 103.8)
    assert real_position([{"lat": 0, "lng": 0}, None, {"lat": None, "lng": 1}]) is None
