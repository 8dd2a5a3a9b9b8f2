"""Imported rows in the shape that their table has now.

Whoever signs in after the store has moved on imports into newer tables than those that the import was written for.
"""

from collections.abc import Callable
from typing import Any

from migrations import journeys_v3, places_v3, profiles_v3
from migrations.shapes_v2 import DismissedPlaceV2, JourneyV2, PlaceV2, PreferencesV2, ProfileV2, RowShape
from migrations.shapes_v3 import PreferencesV3
from syncengine import Put, Work


class CurrentShape:
    """The shapes of one run; they cannot change while it runs."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._columns: dict[str, frozenset[str]] = {}

    def put(self, collection: str, row: RowShape) -> Put:
        """A Put of this row, lifted shape by shape to the table's; one that is there already is kept."""
        while type(row).model_fields.keys() != self._columns_of(collection) and type(row) in NEWER:
            row = NEWER[type(row)](row)
        return Put(collection, row, if_exists="merge")

    def _columns_of(self, collection: str) -> frozenset[str]:
        if collection not in self._columns:
            self._columns[collection] = frozenset(self._work.columns(collection))
        return self._columns[collection]


def newer_preferences(old: PreferencesV2) -> PreferencesV3:
    """What the declared changes of 3.0.0 make of a row."""
    return PreferencesV3(
        user_id=old.user_id,
        id=old.id,
        language=old.language,
        show_saved_places=old.show_saved_places,
        place_types=old.enabled_types,
        place_types_off=old.disabled_types,
        min_rating=old.min_rating,
        dismissal_preference=old.dismissal_preference,
        onboarding_shown=old.onboarding_shown,
    )


NEWER: dict[type[RowShape], Callable[[Any], RowShape]] = {
    JourneyV2: lambda row: journeys_v3.newer(row).row,
    PlaceV2: lambda row: places_v3.merged([row]).row,
    DismissedPlaceV2: places_v3.newer_dismissal,
    ProfileV2: lambda row: profiles_v3.newer(row).row,
    PreferencesV2: newer_preferences,
}
"""From each shape to the next; a shape that is not here is the newest."""
