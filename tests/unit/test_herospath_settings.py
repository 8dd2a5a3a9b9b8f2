"""Settings of generation 0, and the profile that follows from them."""

from typing import Any

import pytest

from migrations.device_settings import is_known, place_types, preferences_of, profile_of, rating, truth


def test_plain_text_settings_become_typed_ones() -> None:
    read = preferences_of(
        {
            "@user_language": "ja",
            "@show_saved_places": "false",
            "@discovery_min_rating": "3.0",
            "@dismissal_preference": "30days",
            "@map_tutorial_seen": "true",
            "@discovery_preferences": {"cafe": True, "bar": False, "art_gallery": True},
        },
        user="u",
    )
    row = read.row
    assert (row.language, row.show_saved_places, row.min_rating) == ("ja", False, 3.0)
    assert (row.dismissal_preference, row.map_tutorial_seen) == ("30days", True)
    assert (row.enabled_types, row.disabled_types) == (["art_gallery", "cafe"], ["bar"])
    assert read.notes == ()


def test_what_was_never_chosen_stays_open_so_that_defaults_can_change() -> None:
    row = preferences_of({}, user="u").row
    chosen = row.model_dump(exclude={"user_id", "id"})
    assert chosen.pop("enabled_types") == chosen.pop("disabled_types") == []
    assert set(chosen.values()) == {None}


def test_what_cannot_be_read_is_noted_by_key_and_never_by_value() -> None:
    read = preferences_of({"@discovery_min_rating": "lots", "@show_saved_places": "perhaps"}, user="u")
    assert (read.row.min_rating, read.row.show_saved_places) == (None, None)
    assert len(read.notes) == 2
    assert "lots" not in str(read.notes)
    assert "perhaps" not in str(read.notes)


@pytest.mark.parametrize(("text", "value"), [("0.0", 0.0), ("5", 5.0), ("5.1", None), ("-1", None), ("nan", None)])
def test_a_rating_of_zero_is_a_choice(text: str, value: float | None) -> None:
    assert rating(text) == value


@pytest.mark.parametrize(
    ("value", "on"),
    [(True, True), ("true", True), (1, True), ("0", False), (" FALSE ", False), (2, None), (None, None), ([], None)],
)
def test_a_choice_is_read_in_every_form_that_it_was_written_in(value: Any, on: bool | None) -> None:
    assert truth(value) is on


def test_place_types_are_also_read_from_the_list_of_those_switched_on() -> None:
    assert place_types(["cafe", "bar", "cafe"]) == (["bar", "cafe"], [])
    assert place_types({"cafe": "true", "gym": 1, "bar": 0, "zoo": "maybe"}) == (["cafe", "gym"], ["bar"])


def test_the_onboarding_mark_of_another_user_is_not_this_users() -> None:
    settings: dict[str, Any] = {"discoveries_onboarding_shown_other": "true"}
    assert preferences_of(settings, user="me").row.onboarding_shown is None
    assert preferences_of({"discoveries_onboarding_shown_me": "true"}, user="me").row.onboarding_shown is True
    assert preferences_of({"@discovery_onboarding_shown": "true"}, user="me").row.onboarding_shown is True


def test_a_new_profile_has_the_apps_defaults_and_the_devices_theme() -> None:
    row = profile_of({"@user_ui_theme": "dark", "@user_map_style": "night"}, user="u")
    assert (row.id, row.display_name) == ("u", "Hero Explorer")
    assert row.preferences == {
        "notifications": True, "privacy": "public", "units": "metric", "theme": "dark", "mapStyle": "night",
    }  # fmt: skip
    assert row.ping_data == {"creditsRemaining": 50, "totalPingsUsed": 0}


def test_only_keys_that_the_app_wrote_are_known() -> None:
    assert is_known("@saved_routes")
    assert is_known("discoveries_onboarding_shown_x")
    assert not is_known("savedRoutes")
