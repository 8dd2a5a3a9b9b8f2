"""Profiles of 2.0.0, repaired, as profiles of 3.0.0; and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.profile_defaults import credits_left, map_style, theme
from migrations.profiles_v3 import newer, older
from migrations.shapes_v2 import ProfileV2
from migrations.shapes_v3 import ProfileV3


def profile(**changes: Any) -> ProfileV2:
    return ProfileV2(
        user_id="u", id="u", display_name="Aoi", preferences={"units": "imperial", "theme": "dark"},
        ping_data={"creditsRemaining": 12, "totalPingsUsed": 3, "lastPingTime": 1_752_304_987_123},
    ).model_copy(update=changes)  # fmt: skip


def test_null_preferences_become_the_defaults_that_the_app_reads() -> None:
    new = newer(profile(preferences=None, display_name=None, bio=None))
    assert new.row.preferences["units"] == "metric"
    assert (new.row.display_name, new.row.bio) == ("Hero Explorer", "")
    assert "its preferences were null and are the defaults now" in new.notes


def test_a_choice_is_never_overwritten_by_a_default() -> None:
    chosen = newer(profile()).row.preferences
    assert (chosen["units"], chosen["theme"], chosen["privacy"]) == ("imperial", "dark", "public")


def test_a_null_within_the_preferences_is_a_missing_choice() -> None:
    assert newer(profile(preferences={"units": None})).row.preferences["units"] == "metric"


@pytest.mark.parametrize(
    ("written", "left"),
    [
        (0, 0),
        (12, 12),
        (12.0, 12),
        (1_000_000, 1_000_000),
        (1_000_001, 50),
        (1_752_304_987_123, 50),
        ({"seconds": 1_752_304_987, "nanoseconds": 0}, 50),
        (-1, 50),
        (None, 50),
        ("12", 50),
        (True, 50),
        (1.5, 50),
    ],
)
def test_corrupt_ping_credits_are_full_again(written: Any, left: int) -> None:
    assert credits_left(written) == left
    assert newer(profile(ping_data={"creditsRemaining": written})).row.credits_remaining == left


@pytest.mark.parametrize(
    ("old", "new"), [("light", "light"), ("dark", "dark"), ("auto", "auto"), ("adventure", "auto"), (None, "auto")]
)
def test_a_theme_without_counterpart_follows_the_device(old: str | None, new: str) -> None:
    assert theme(old) == new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("satellite", "satellite"),
        ("terrain", "terrain"),
        ("standard", "default"),
        ("night", "default"),
        ("adventure", "terrain"),
        (7, "default"),
    ],
)
def test_a_map_style_without_counterpart_gets_the_nearest(old: object, new: str) -> None:
    assert map_style(old) == new


def test_a_narrowed_choice_is_said_and_comes_back_on_the_way_back() -> None:
    old = profile(preferences={"theme": "adventure", "mapStyle": "night"})
    new = newer(old)
    assert len(new.notes) == 2
    assert older(new.row).preferences == {"theme": "adventure", "mapStyle": "night"}


times = st.none() | st.sampled_from(["2025-07-12T07:23:07.123Z", "soon", '{"seconds":1,"nanoseconds":5}'])
credits_written: st.SearchStrategy[Any] = st.none() | st.integers() | st.just({"seconds": 1}) | st.text(max_size=3)
profiles = st.builds(
    ProfileV2,
    user_id=st.just("u"),
    id=st.just("u"),
    display_name=st.none() | st.text(max_size=5),
    email_verified=st.none() | st.booleans(),
    last_sign_in_at=times,
    is_new_user=st.none() | st.booleans(),
    bio=st.none() | st.text(max_size=5),
    location=st.none() | st.text(max_size=5),
    preferences=st.none()
    | st.dictionaries(st.sampled_from(["units", "theme", "mapStyle", "x"]), st.text(max_size=9)),
    stats=st.none() | st.just({"totalWalks": 3}),
    friends=st.none() | st.just(["v"]),
    ping_data=st.none() | st.fixed_dictionaries({"creditsRemaining": credits_written}),
    created_at=times,
    updated_at=times,
)


@given(profiles)
def test_the_way_back_gives_exactly_the_profile_that_was_there(old: ProfileV2) -> None:
    stored = ProfileV3.model_validate_json(newer(old).row.model_dump_json())
    assert older(stored) == old


def test_what_was_changed_since_is_carried_back_and_not_undone() -> None:
    new = newer(profile(ping_data={"creditsRemaining": 10**9})).row
    back = older(new.model_copy(update={"credits_remaining": 49}))
    assert back.ping_data is not None
    assert back.ping_data["creditsRemaining"] == 49
