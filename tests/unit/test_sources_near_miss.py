"""A key that is not there is answered with the one that was probably meant."""

import pytest

from syncengine.sources import near_misses

KEYS = (
    "@background_location_data",
    "@discovery_preferences",
    "@saved_routes",
    "@show_saved_places",
    "@user_language",
    "dismissedPlaces",
    "lastRoute",
    "persist:app-settings",
    "savedPlaces",
)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("savedRoutes", ("@saved_routes",)),
        ("SAVED-ROUTES", ("@saved_routes",)),
        ("appSettings", ("persist:app-settings",)),
        ("@herospath:lastRoute", ("lastRoute",)),
        ("dismissed_place", ("dismissedPlaces",)),
        ("discoveryPreference", ("@discovery_preferences",)),
        ("savedPlaces", ()),
        ("entirely different", ()),
        ("", ()),
    ],
)
def test_a_key_that_is_written_a_little_differently_is_found(wanted: str, found: tuple[str, ...]) -> None:
    assert near_misses(wanted, KEYS) == found


def test_an_equal_key_goes_before_all_that_are_only_alike() -> None:
    assert near_misses("saved_places", ["savedPlace", "savedPlaces", "@saved_places"]) == (
        "@saved_places",
        "savedPlaces",
    )


def test_keys_of_other_alphabets_do_not_all_look_the_same() -> None:
    assert near_misses("散歩", ["場所", "@散歩"]) == ("@散歩",)
    assert near_misses("😀", ["🏯", "::"]) == ()
