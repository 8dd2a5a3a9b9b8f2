"""1.0.0 to 2.0.0: from the device's AsyncStorage, which had no tables, into tables of generation 1's shapes.

Nothing is ever taken away from the AsyncStorage store. What cannot be read is set aside whole, what is repaired is
said, and each user's rows are uploaded when the cloud can be reached.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import orjson
from pydantic import JsonValue

from migrations import device_settings as settings
from migrations.kept_places import PlaceIds, dismissed_place, read_place, saved_place
from migrations.shapes_v2 import (
    APP_STATE_V2_SQL,
    DISMISSED_PLACES_V2_SQL,
    JOURNEYS_V2_SQL,
    PLACES_V2_SQL,
    PREFERENCES_V2_SQL,
    PROFILE_V2_SQL,
    AppStateV2,
)
from migrations.walks import RepeatedIds, Walk, WalkIds, journey_of, read_walk
from syncengine import BaseMigrationExecutor, Item, MigrationDefinition, Put, Quarantine, Work, tables, upload

if TYPE_CHECKING:
    from syncengine import MigrationResult

SAVED_PLACES = "savedPlaces"
DISMISSED_PLACES = "dismissedPlaces"

IMPORT_AND_UPLOAD = {
    "journeys": ("journey-storage-v1-to-v2", "journeys-upload-v2"),
    "places": ("places-storage-v1-to-v2", "dismissed-places-storage-v1-to-v2", "places-upload-v2"),
    "profile": ("profile-storage-v1-to-v2", "profile-defaults-v2", "profile-upload-v2"),
}
"""By data type, the migrations that take it from the device to the cloud."""

tables_v2 = tables(
    id="herospath-tables-v2",
    name="Tables of version 2",
    description="Makes the tables for walks, places, profile, preferences and what the app keeps for itself.",
    from_version="1.0.0",
    to_version="2.0.0",
    create=(
        JOURNEYS_V2_SQL,
        PLACES_V2_SQL,
        DISMISSED_PLACES_V2_SQL,
        PROFILE_V2_SQL,
        PREFERENCES_V2_SQL,
        APP_STATE_V2_SQL,
    ),
    critical=True,
)


class JourneyMigrationExecutor(BaseMigrationExecutor):
    """Walks from `@saved_routes`, and the last one from `lastRoute` where it is not among them."""

    definition = MigrationDefinition(
        id="journey-storage-v1-to-v2",
        name="Journey Storage Migration V1 to V2",
        description="Moves walks from AsyncStorage into the journeys table, with their own dates and stable ids.",
        from_version="1.0.0",
        to_version="2.0.0",
        collections=("journeys",),
        after=("herospath-tables-v2",),
        critical=True,
        scope="user",
        source="asyncstorage",
        quarantine_ratio_max=0.05,  # of real stores one walk in fifty is empty
    )

    def migrate_journeys(self, user: str) -> "MigrationResult":
        """Run this migration for the user; see `execute`."""
        return self.execute(user, {})

    def items(self, work: Work) -> Iterator[Item]:
        last = list(work.json("lastRoute"))
        last_walk = _walk_in(last[0]) if last else None
        self._ids = WalkIds(repeated=_repeated_ids(work, last_walk))
        self._id_of_last: str | None = None
        for item in work.elements("@saved_routes"):
            if walk := _walk_in(item):
                self._ids.note(walk)
                if last_walk and walk.points == last_walk.points:
                    self._id_of_last = self._ids.id_of(walk)
            yield item
        yield from last

    def convert(self, item: Item, work: Work) -> Put:
        walk = read_walk(item.value)
        journey = journey_of(walk, user=str(work.user), id=self._id_of(walk, item=item))
        for note in journey.notes:
            work.warn(note, row_key=item.key)
        return Put("journeys", journey.row, if_exists="merge")

    def _id_of(self, walk: Walk, *, item: Item) -> str:
        # The oldest builds wrote lastRoute without an id: its coordinates tell which walk it repeats.
        if item.key == "lastRoute" and walk.id is None and self._id_of_last:
            return self._id_of_last
        return self._ids.id_of(walk)


def _repeated_ids(work: Work, last_walk: Walk | None) -> set[str]:
    """Ids of more than one walk: found by a pass of their own, since to remember every id would cost 20 MB."""
    repeated = RepeatedIds()
    for item in work.elements("@saved_routes"):
        if walk := _walk_in(item):
            repeated.note(walk)
    if last_walk:
        repeated.note(last_walk)
    return repeated.ids


class PlacesMigrationExecutor(BaseMigrationExecutor):
    """Saved places; and the seat of both ways in, since dismissed places are a migration of their own."""

    definition = MigrationDefinition(
        id="places-storage-v1-to-v2",
        name="Places Storage Migration V1 to V2",
        description="Moves saved places from AsyncStorage into the places table, without API keys.",
        from_version="1.0.0",
        to_version="2.0.0",
        collections=("places",),
        after=("herospath-tables-v2",),
        scope="user",
        source="asyncstorage",
        quarantine_ratio_max=0.05,
    )

    def migrate_saved_places(self, user: str) -> "MigrationResult":
        """Run this migration for the user; see `execute`."""
        return self.execute(user, {})

    def migrate_dismissed_places(self, user: str) -> "MigrationResult":
        """Run the migration of dismissed places for the user; see `execute`."""
        return self._bound().execute_migration(DismissedPlacesMigrationExecutor.definition.id, user)

    def items(self, work: Work) -> Iterator[Item]:
        self._ids = PlaceIds()
        for item in work.elements(SAVED_PLACES):
            self._ids.note(item.value)
            yield item

    def convert(self, item: Item, work: Work) -> Put:
        entry = read_place(item.value)
        row = saved_place(entry, user=str(work.user), id=self._ids.id_of(entry))
        return Put("places", row, if_exists="merge")


class DismissedPlacesMigrationExecutor(BaseMigrationExecutor):
    """Dismissed places, each with the end that the user's own setting gives it."""

    definition = MigrationDefinition(
        id="dismissed-places-storage-v1-to-v2",
        name="Dismissed Places Storage Migration V1 to V2",
        description="Moves dismissed places from AsyncStorage into a table; for ever only where the user chose that.",
        from_version="1.0.0",
        to_version="2.0.0",
        collections=("dismissed_places",),
        after=("herospath-tables-v2",),
        scope="user",
        source="asyncstorage",
        quarantine_ratio_max=0.05,
    )

    def items(self, work: Work) -> Iterator[Item]:
        self._preference = settings.dismissal_preference(_text_of(work, settings.DISMISSAL_PREFERENCE))
        yield from work.elements(DISMISSED_PLACES)

    def convert(self, item: Item, work: Work) -> Put:
        row = dismissed_place(item.value, user=str(work.user), preference=self._preference, now_ms=work.now_ms)
        return Put("dismissed_places", row, if_exists="merge")


class UserProfileMigrationExecutor(BaseMigrationExecutor):
    """The settings of the device as one row of preferences, and a profile for a user who has none."""

    definition = MigrationDefinition(
        id="profile-storage-v1-to-v2",
        name="Profile Storage Migration V1 to V2",
        description="Moves the settings from AsyncStorage into profile and preferences; keeps explicit choices only.",
        from_version="1.0.0",
        to_version="2.0.0",
        collections=("profile", "preferences"),
        after=("herospath-tables-v2",),
        scope="user",
        source="asyncstorage",
    )

    def migrate_user_profile(self, user: str) -> "MigrationResult":
        """Run this migration for the user; see `execute`."""
        return self.execute(user, {})

    def items(self, work: Work) -> Iterator[Item]:
        found: dict[str, JsonValue] = {
            key: text for key in settings.text_keys_of(str(work.user)) if (text := _text_of(work, key)) is not None
        }
        for item in _json_of(work, settings.PLACE_TYPES):
            if item.broken is not None:
                yield item
            else:
                found[settings.PLACE_TYPES] = item.value
        raw = orjson.dumps(found)
        yield Item("profile", found, raw)
        yield Item("preferences", found, raw)

    def convert(self, item: Item, work: Work) -> Put:
        user = str(work.user)
        if item.key == "profile":
            return Put("profile", settings.profile_of(item.value, user=user), if_exists="merge")
        read = settings.preferences_of(item.value, user=user)
        for note in read.notes:
            work.warn(note)
        return Put("preferences", read.row, if_exists="merge")


class ProfileDefaultsMigrationExecutor(BaseMigrationExecutor):
    """A profile and preferences for a user to whom the device's settings do not belong, or who has no device's."""

    definition = MigrationDefinition(
        id="profile-defaults-v2",
        name="Profile Defaults V2",
        description="Gives a user who has no profile and no preferences the app's defaults.",
        from_version="1.0.0",
        to_version="2.0.0",
        collections=("profile", "preferences"),
        after=("profile-storage-v1-to-v2",),
        scope="user",
    )

    def items(self, work: Work) -> Iterator[Item]:
        yield Item("profile", {}, b"{}")
        yield Item("preferences", {}, b"{}")

    def convert(self, item: Item, work: Work) -> Put:
        user = str(work.user)
        if item.key == "profile":
            return Put("profile", settings.profile_of({}, user=user), if_exists="merge")
        return Put("preferences", settings.preferences_of({}, user=user).row, if_exists="merge")


class StorageMigrationExecutor(BaseMigrationExecutor):
    """What the app kept for itself under keys of its own; and the way to the cloud, data type by data type."""

    definition = MigrationDefinition(
        id="app-state-storage-v1-to-v2",
        name="Storage Migration V1 to V2",
        description="Moves the app's own arrays from AsyncStorage into app_state; names each key that nobody knows.",
        from_version="1.0.0",
        to_version="2.0.0",
        collections=("app_state",),
        after=("herospath-tables-v2",),
        scope="user",
        source="asyncstorage",
    )

    def migrate_from_async_storage_to_firestore(self, user: str, data_type: str) -> tuple["MigrationResult", ...]:
        """Import one data type (journeys, places or profile), then queue its upload; the result of each.

        Raises KeyError for another data type.
        """
        service = self._bound()
        return tuple(service.execute_migration(id_, user) for id_ in IMPORT_AND_UPLOAD[data_type])

    def items(self, work: Work) -> Iterator[Item]:
        source = work.source
        for key in source.keys() if source else ():
            if not settings.is_known(key):
                work.warn(f"`{key}` is no key that the app is known to have written; it was left where it is")
        for key in settings.ARRAYS_OF_THE_APP:
            yield from _json_of(work, key)

    def convert(self, item: Item, work: Work) -> Put:
        if not isinstance(item.value, list):
            raise Quarantine("the value is no array")
        return Put("app_state", AppStateV2(user_id=str(work.user), id=item.key, value=item.value), if_exists="merge")


journeys_upload = upload(
    id="journeys-upload-v2",
    name="Upload of walks",
    description="Sends the user's walks to the cloud.",
    from_version="1.0.0",
    to_version="2.0.0",
    collections=("journeys",),
    after=("journey-storage-v1-to-v2",),
)

places_upload = upload(
    id="places-upload-v2",
    name="Upload of places",
    description="Sends the user's saved and dismissed places to the cloud.",
    from_version="1.0.0",
    to_version="2.0.0",
    collections=("places", "dismissed_places"),
    after=("places-storage-v1-to-v2", "dismissed-places-storage-v1-to-v2"),
)

profile_upload = upload(
    id="profile-upload-v2",
    name="Upload of profile and preferences",
    description="Sends the user's profile and preferences to the cloud.",
    from_version="1.0.0",
    to_version="2.0.0",
    collections=("profile", "preferences"),
    after=("profile-storage-v1-to-v2", "profile-defaults-v2"),
)


def _walk_in(item: Item) -> Walk | None:
    """The walk, if the item is one; what is wrong with it is said when it is converted."""
    try:
        return None if item.broken is not None else read_walk(item.value)
    except Quarantine:
        return None


def _text_of(work: Work, key: str) -> str | None:
    """A setting. That one was never chosen is ordinary, so a missing key is not questioned."""
    return work.source.text(key) if work.source else None


def _json_of(work: Work, key: str) -> Iterator[Item]:
    """A JSON value, of which the same holds."""
    return work.json(key) if work.source and work.source.size(key) is not None else iter(())
