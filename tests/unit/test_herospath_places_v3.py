"""Discoveries of one place as one place; dismissals with an end."""

import itertools
from typing import Any

import pytest

from migrations.places_v3 import merged, newer_dismissal, older_dismissal
from migrations.shapes_v2 import DismissedPlaceV2, PlaceV2
from syncengine import Quarantine


def d1(id_: str, **changes: Any) -> PlaceV2:
    return PlaceV2(
        user_id="u", id=id_, journey_id=f"walk-of-{id_}", place_id="p", place_name="Fuglen", place_type="cafe",
        location={"lat": 35.6, "lng": 139.7}, discovered_at='{"seconds":1752304987,"nanoseconds":0}',
        place_data={"name": "Fuglen", "types": ["cafe"], "rating": 4.4},
    ).model_copy(update=changes)  # fmt: skip


def d2(id_: str, **changes: Any) -> PlaceV2:
    return PlaceV2(
        user_id="u", id=id_, place_id="p", place_name="Fuglen", location={"lat": 0, "lng": 0}, source="ping",
        all_sources=["ping", "sar", "ping"], ping_count=2, sar_count=1,
        place_data={"name": "Fuglen", "latitude": 35.61, "longitude": 139.71},
    ).model_copy(update=changes)  # fmt: skip


def test_discoveries_of_one_place_become_that_place_with_all_their_walks() -> None:
    row = merged([d1("a"), d1("b"), d2("c")]).row
    assert (row.id, row.discovery_count, row.journey_ids) == ("p", 3, ["walk-of-a", "walk-of-b"])
    assert (row.ping_count, row.sar_count, row.sources) == (2, 1, ["ping", "sar"])


def test_counts_of_several_discoveries_are_added() -> None:
    row = merged([d2("a"), d2("b", ping_count=None, sar_count=4)]).row
    assert (row.ping_count, row.sar_count) == (2, 5)


def test_saved_wins_over_dismissed_whatever_document_says_so() -> None:
    place = merged([d1("a", dismissed=True), d1("b", saved=True)])
    assert (place.row.saved, place.row.dismissed) == (True, False)
    assert "it was both saved and dismissed: saved wins" in place.notes
    assert merged([d1("a", dismissed=True), d1("b")]).row.dismissed


def test_the_earliest_discovery_is_the_discovery() -> None:
    place = merged(
        [d1("a"), d1("b", discovered_at="2025-07-01T00:00:00Z"), d2("c", created_at="2025-07-02T00:00:00Z")]
    )
    assert place.row.discovered_at_ms == 1_751_328_000_000


def test_a_place_at_null_island_is_found_again_in_its_data() -> None:
    place = merged([d2("a")])
    assert (place.row.latitude, place.row.longitude) == (35.61, 139.71)
    assert "its position 0, 0 was replaced by the one in its data" in place.notes


def test_a_place_that_is_only_at_null_island_has_no_position() -> None:
    place = merged([d2("a", place_data={"location": {"lat": 0, "lng": 0}})])
    assert (place.row.latitude, place.row.longitude) == (None, None)
    assert "its position 0, 0 was taken away: it is not known" in place.notes


def test_a_place_on_the_equator_stays_there() -> None:
    assert merged([d1("a", location={"lat": 0, "lng": 103.8})]).row.latitude == 0.0


def test_the_order_of_the_documents_does_not_matter() -> None:
    rows = [d1("a", dismissed=True), d1("b", saved=True, place_data={"rating": 3.0}), d2("c")]
    assert len({merged(order).row.model_dump_json() for order in itertools.permutations(rows)}) == 1


def test_a_detail_that_only_one_document_has_is_kept() -> None:
    row = merged([d1("a", place_data={"name": "Fuglen", "phone": None}), d2("b", place_data={"phone": "03-1"})]).row
    assert row.place_data["phone"] == "03-1"


def test_an_api_key_in_a_picture_is_not_carried_on() -> None:
    photos = [{"url": "https://maps.example/p?ref=1&key=FAKE"}]
    assert "FAKE" not in merged([d1("a", place_data={"photos": photos})]).row.model_dump_json()


def dismissal(**changes: Any) -> DismissedPlaceV2:
    return DismissedPlaceV2(
        user_id="u", id="p", place_id="p", dismissed_at='{"seconds":1752019200,"nanoseconds":0}',
        reason="user_dismissed_temporary",
    ).model_copy(update=changes)  # fmt: skip


def test_thirty_days_end_after_thirty_days() -> None:
    assert newer_dismissal(dismissal()).dismissed_until_ms == 1_752_019_200_000 + 30 * 86_400_000


@pytest.mark.parametrize("changes", [{"dismissed_forever": True}, {"reason": "user_dismissed_forever"}])
def test_for_ever_has_no_end(changes: dict[str, Any]) -> None:
    assert newer_dismissal(dismissal(**changes)).dismissed_until_ms is None


def test_an_end_that_the_import_gave_is_kept() -> None:
    new = newer_dismissal(dismissal(dismissed_at=None, dismissed_until="2025-11-08T08:53:20.000Z"))
    assert (new.dismissed_at_ms, new.dismissed_until_ms) == (None, 1_762_592_000_000)


def test_a_dismissal_whose_times_cannot_be_read_is_set_aside() -> None:
    with pytest.raises(Quarantine) as caught:
        newer_dismissal(dismissal(dismissed_at="recently"))
    assert caught.value.field == "dismissed_at"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dismissed_at": "2025-07-09T00:00:00.000Z"},
        {"dismissed_forever": True},
        {"reason": "user_dismissed_forever"},
        {"dismissed_until": "2025-11-08T08:53:20Z"},
        {"dismissed_at": "recently", "dismissed_forever": True},
    ],
)
def test_the_way_back_gives_exactly_the_dismissal_that_was_there(changes: dict[str, Any]) -> None:
    old = dismissal(**changes)
    assert older_dismissal(newer_dismissal(old)) == old
