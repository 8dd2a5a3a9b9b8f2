"""2.0.0 to 3.0.0: one shape for each kind of row, with known units, in place of generation 1's variants.

Rows may come from the import of 1.0.0 or from the app of generation 1 itself; each function looks at the row.
"""

from migrations import journeys_v3, places_v3, profiles_v3
from migrations.shapes_v2 import DismissedPlaceV2, JourneyV2, PlaceV2, ProfileV2
from migrations.shapes_v3 import (
    DISMISSED_PLACES_V3_SQL,
    JOURNEYS_V3_SQL,
    PLACES_V3_SQL,
    PROFILE_V3_SQL,
    DismissedPlaceV3,
    JourneyV3,
    PlaceV3,
    ProfileV3,
)
from syncengine import Work, add, archive, declared, migration, rename, upload


@migration(
    id="journeys-schema-v2-to-v3",
    name="Journeys Schema Migration V2 to V3",
    description="Durations in seconds, distances in metres, all times in one form; the older values are kept aside.",
    collection="journeys",
    from_version="2.0.0",
    to_version="3.0.0",
    table=JOURNEYS_V3_SQL,
    critical=True,
    quarantine_ratio_max=0.05,
)
def journeys_v2_to_v3(old: JourneyV2, work: Work) -> JourneyV3:
    new = journeys_v3.newer(old)
    for note in new.notes:
        work.warn(note, row_key=old.id)
    return new.row


@journeys_v2_to_v3.down
def journeys_v3_to_v2(new: JourneyV3) -> JourneyV2:
    return journeys_v3.older(new)


@migration(
    id="places-schema-v2-to-v3",
    name="Places Schema Migration V2 to V3",
    description="Each place once: its discoveries merged, saved before dismissed, positions of 0, 0 repaired.",
    collection="places",
    from_version="2.0.0",
    to_version="3.0.0",
    table=PLACES_V3_SQL,
    group_by="place_id",
    lossy=True,
)
def places_v2_to_v3(old: list[PlaceV2], work: Work) -> PlaceV3:
    place = places_v3.merged(old)
    for note in place.notes:
        work.warn(note, row_key=place.row.id)
    return place.row


@migration(
    id="dismissed-places-v2-to-v3",
    name="Dismissed Places Migration V2 to V3",
    description="A dismissal ends after 30 days unless the user said for ever.",
    collection="dismissed_places",
    from_version="2.0.0",
    to_version="3.0.0",
    table=DISMISSED_PLACES_V3_SQL,
)
def dismissed_places_v2_to_v3(old: DismissedPlaceV2) -> DismissedPlaceV3:
    return places_v3.newer_dismissal(old)


@dismissed_places_v2_to_v3.down
def dismissed_places_v3_to_v2(new: DismissedPlaceV3) -> DismissedPlaceV2:
    return places_v3.older_dismissal(new)


@migration(
    id="profile-schema-v2-to-v3",
    name="Profile Schema Migration V2 to V3",
    description="Nothing is null that the app reads; ping credits repaired; theme and map style narrowed.",
    collection="profile",
    from_version="2.0.0",
    to_version="3.0.0",
    table=PROFILE_V3_SQL,
)
def profile_v2_to_v3(old: ProfileV2, work: Work) -> ProfileV3:
    new = profiles_v3.newer(old)
    for note in new.notes:
        work.warn(note)
    return new.row


@profile_v2_to_v3.down
def profile_v3_to_v2(new: ProfileV3) -> ProfileV2:
    return profiles_v3.older(new)


preferences_v2_to_v3 = declared(
    id="preferences-schema-v2-to-v3",
    name="Preferences Schema Migration V2 to V3",
    description="Place types under their new names, a limit on discoveries, and the tutorial's mark archived.",
    collection="preferences",
    from_version="2.0.0",
    to_version="3.0.0",
    changes=(
        rename("enabled_types", "place_types"),
        rename("disabled_types", "place_types_off"),
        add("max_discoveries", "INTEGER", default=20),
        archive("map_tutorial_seen"),
    ),
)

journeys_upload = upload(
    id="journeys-upload-v3",
    name="Upload of walks in their new shape",
    description="Sends the user's walks to the cloud as version 3.0.0 has them.",
    from_version="2.0.0",
    to_version="3.0.0",
    collections=("journeys",),
    after=("journeys-schema-v2-to-v3",),
)

places_upload = upload(
    id="places-upload-v3",
    name="Upload of places in their new shape",
    description="Sends the user's places and dismissed places to the cloud as version 3.0.0 has them.",
    from_version="2.0.0",
    to_version="3.0.0",
    collections=("places", "dismissed_places"),
    after=("places-schema-v2-to-v3", "dismissed-places-v2-to-v3"),
)

profile_upload = upload(
    id="profile-upload-v3",
    name="Upload of profile and preferences in their new shape",
    description="Sends the user's profile and preferences to the cloud as version 3.0.0 has them.",
    from_version="2.0.0",
    to_version="3.0.0",
    collections=("profile", "preferences"),
    after=("profile-schema-v2-to-v3", "preferences-schema-v2-to-v3"),
)
