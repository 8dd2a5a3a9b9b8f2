"""Version 2.0.0: the tables and row models, in the shapes of the app's own generation 1.

The app wrote these rows in several variants, so most columns may be NULL. Times are TEXT in whatever form the app
left them (ISO-8601, digits, the JSON of a Firestore timestamp); `migrations.instants` reads them all.

json_valid(NULL) is NULL in SQLite today and 0 in the 3.40 of many `sqlite3` command lines, so a column that may be
NULL says so in its CHECK: else no row with a NULL could be edited there.
"""

from pydantic import BaseModel, ConfigDict, JsonValue

Point = dict[str, int | float | None]
"""One fix of a route: latitude, longitude and, from generation 1b on, timestamp (ms); other numbers are kept."""

JOURNEYS_V2_SQL = """\
CREATE TABLE journeys (
  user_id                    TEXT NOT NULL,              -- whose walk it is
  id                         TEXT NOT NULL,              -- the app's id, or walk-<hash of the coordinates>
  name                       TEXT,                       -- as shown in the list
  start_time                 INTEGER,                    -- ms since 1970 UTC; NULL: not known
  end_time                   INTEGER,                    -- ms since 1970 UTC; NULL: not known
  date_known                 INTEGER NOT NULL DEFAULT 1, -- 0: the walk never had a date
  route                      TEXT NOT NULL DEFAULT '[]'  -- JSON: [{latitude, longitude, timestamp ms?}]
    CONSTRAINT route_is_json CHECK (json_valid(route)),
  distance                   REAL,                       -- metres; one build wrote kilometres; 0: not known
  duration                   REAL,                       -- milliseconds; some builds wrote seconds; 0: not known
  start_location             TEXT                        -- JSON: {latitude, longitude}
    CONSTRAINT start_location_is_json CHECK (start_location IS NULL OR json_valid(start_location)),
  end_location               TEXT                        -- JSON: {latitude, longitude}
    CONSTRAINT end_location_is_json CHECK (end_location IS NULL OR json_valid(end_location)),
  status                     TEXT,                       -- completed; NULL in the oldest rows
  is_completed               INTEGER,                    -- all its discoveries were reviewed
  reviewed_discoveries_count INTEGER,
  total_discoveries_count    INTEGER,
  completion_percentage      INTEGER,                    -- 0 to 100
  last_status_update         TEXT,                       -- a time in any form
  is_deleted                 INTEGER NOT NULL DEFAULT 0, -- deleted softly
  deleted_at                 TEXT,                       -- a time in any form
  created_at                 TEXT,                       -- a time in any form
  updated_at                 TEXT,                       -- a time in any form
  PRIMARY KEY (user_id, id)
) STRICT;
CREATE INDEX journeys_by_start ON journeys (user_id, start_time);
"""

PLACES_V2_SQL = """\
CREATE TABLE places (
  user_id       TEXT NOT NULL,              -- who discovered or saved it
  id            TEXT NOT NULL,              -- of the discovery: one place may have several
  journey_id    TEXT,                       -- the walk on which it was discovered
  place_id      TEXT NOT NULL,              -- Google's id of the place
  place_name    TEXT,
  place_type    TEXT,                       -- a Google type such as cafe
  location      TEXT                        -- JSON: {lat, lng}; 0, 0 where a ping wrote it without looking
    CONSTRAINT location_is_json CHECK (location IS NULL OR json_valid(location)),
  discovered_at TEXT,                       -- a time in any form
  saved         INTEGER NOT NULL DEFAULT 0,
  dismissed     INTEGER NOT NULL DEFAULT 0, -- both may be set: saving never cleared it
  place_data    TEXT NOT NULL DEFAULT '{}'  -- JSON: the whole place as the Places API described it
    CONSTRAINT place_data_is_json CHECK (json_valid(place_data)),
  source        TEXT,                       -- sar, ping or consolidated; NULL in the older form
  all_sources   TEXT                        -- JSON: [text], with repeats
    CONSTRAINT all_sources_is_json CHECK (all_sources IS NULL OR json_valid(all_sources)),
  ping_count    INTEGER,
  sar_count     INTEGER,
  created_at    TEXT,                       -- a time in any form
  updated_at    TEXT,                       -- a time in any form
  PRIMARY KEY (user_id, id)
) STRICT;
CREATE INDEX places_by_place ON places (user_id, place_id);
"""

DISMISSED_PLACES_V2_SQL = """\
CREATE TABLE dismissed_places (
  user_id           TEXT NOT NULL,              -- who does not want to see it
  id                TEXT NOT NULL,              -- the same as place_id
  place_id          TEXT NOT NULL,              -- Google's id of the place
  dismissed_at      TEXT,                       -- a time in any form; NULL: not known
  dismissed_until   TEXT,                       -- ISO-8601; NULL in rows of the app, which never looked at it
  dismissed_forever INTEGER NOT NULL DEFAULT 0,
  reason            TEXT,                       -- user_dismissed_forever, user_dismissed_temporary, …
  journey_id        TEXT,
  place_data        TEXT                        -- JSON: name, types, category
    CONSTRAINT place_data_is_json CHECK (place_data IS NULL OR json_valid(place_data)),
  PRIMARY KEY (user_id, id)
) STRICT;
"""

PROFILE_V2_SQL = """\
CREATE TABLE profile (
  user_id          TEXT NOT NULL,
  id               TEXT NOT NULL, -- the same as user_id
  email            TEXT,
  display_name     TEXT,          -- NULL after the app's own clean-up
  photo_url        TEXT,
  email_verified   INTEGER,
  last_sign_in_at  TEXT,          -- a time in any form
  is_new_user      INTEGER,
  bio              TEXT,
  location         TEXT,
  preferences      TEXT           -- JSON: notifications, privacy, units, theme, mapStyle; NULL after the clean-up
    CONSTRAINT preferences_is_json CHECK (preferences IS NULL OR json_valid(preferences)),
  stats            TEXT           -- JSON: totalWalks, totalDistance, totalTime, discoveries
    CONSTRAINT stats_is_json CHECK (stats IS NULL OR json_valid(stats)),
  friends          TEXT           -- JSON: [user id]
    CONSTRAINT friends_is_json CHECK (friends IS NULL OR json_valid(friends)),
  ping_data        TEXT           -- JSON: creditsRemaining, lastPingTime, lastCreditReset, totalPingsUsed
    CONSTRAINT ping_data_is_json CHECK (ping_data IS NULL OR json_valid(ping_data)),
  migration_status TEXT           -- JSON: what the engine has done for this user
    CONSTRAINT migration_status_is_json CHECK (migration_status IS NULL OR json_valid(migration_status)),
  created_at       TEXT,          -- a time in any form
  updated_at       TEXT,          -- a time in any form
  PRIMARY KEY (user_id, id)
) STRICT;
"""

PREFERENCES_V2_SQL = """\
CREATE TABLE preferences (
  user_id              TEXT NOT NULL,
  id                   TEXT NOT NULL, -- preferences: one row per user
  language             TEXT,          -- NULL, here and below: never chosen, so the app's default holds
  show_saved_places    INTEGER,
  enabled_types        TEXT NOT NULL DEFAULT '[]' -- JSON: place types that the user switched on
    CONSTRAINT enabled_types_is_json CHECK (json_valid(enabled_types)),
  disabled_types       TEXT NOT NULL DEFAULT '[]' -- JSON: place types that the user switched off
    CONSTRAINT disabled_types_is_json CHECK (json_valid(disabled_types)),
  min_rating           REAL,          -- 0.0 to 5.0
  dismissal_preference TEXT,          -- forever, 30days or ask
  onboarding_shown     INTEGER,
  map_tutorial_seen    INTEGER,
  PRIMARY KEY (user_id, id)
) STRICT;
"""

APP_STATE_V2_SQL = """\
CREATE TABLE app_state (
  user_id TEXT NOT NULL,
  id      TEXT NOT NULL, -- the key under which the app kept it
  value   TEXT NOT NULL  -- JSON: an array, as the app wrote it
    CONSTRAINT value_is_json CHECK (json_valid(value)),
  PRIMARY KEY (user_id, id)
) STRICT;
"""


class RowShape(BaseModel):
    """A row that has exactly these columns with exactly these types; it cannot be changed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class JourneyV2(RowShape):
    """A walk as generation 1 kept it, in any of its variants; see JOURNEYS_V2_SQL."""

    user_id: str
    id: str
    name: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    date_known: bool = True
    route: list[Point] = []
    distance: float | None = None
    duration: float | None = None
    start_location: Point | None = None
    end_location: Point | None = None
    status: str | None = None
    is_completed: bool | None = None
    reviewed_discoveries_count: int | None = None
    total_discoveries_count: int | None = None
    completion_percentage: int | None = None
    last_status_update: str | None = None
    is_deleted: bool = False
    deleted_at: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class PlaceV2(RowShape):
    """One discovery, or one saving, of a place; see PLACES_V2_SQL."""

    user_id: str
    id: str
    journey_id: str | None = None
    place_id: str
    place_name: str | None = None
    place_type: str | None = None
    location: Point | None = None
    discovered_at: str | None = None
    saved: bool = False
    dismissed: bool = False
    place_data: dict[str, JsonValue] = {}
    source: str | None = None
    all_sources: list[str] | None = None
    ping_count: int | None = None
    sar_count: int | None = None
    created_at: str | None = None
    updated_at: str | None = None


class DismissedPlaceV2(RowShape):
    """A place that the user does not want to see; see DISMISSED_PLACES_V2_SQL."""

    user_id: str
    id: str
    place_id: str
    dismissed_at: str | None = None
    dismissed_until: str | None = None
    dismissed_forever: bool = False
    reason: str | None = None
    journey_id: str | None = None
    place_data: dict[str, JsonValue] | None = None


class ProfileV2(RowShape):
    """A user's profile with the ping credits beside it; see PROFILE_V2_SQL."""

    user_id: str
    id: str
    email: str | None = None
    display_name: str | None = None
    photo_url: str | None = None
    email_verified: bool | None = None
    last_sign_in_at: str | None = None
    is_new_user: bool | None = None
    bio: str | None = None
    location: str | None = None
    preferences: dict[str, JsonValue] | None = None
    stats: dict[str, JsonValue] | None = None
    friends: list[str] | None = None
    ping_data: dict[str, JsonValue] | None = None
    migration_status: dict[str, JsonValue] | None = None
    created_at: str | None = None
    updated_at: str | None = None


class PreferencesV2(RowShape):
    """What the user chose in the settings; see PREFERENCES_V2_SQL."""

    user_id: str
    id: str
    language: str | None = None
    show_saved_places: bool | None = None
    enabled_types: list[str] = []
    disabled_types: list[str] = []
    min_rating: float | None = None
    dismissal_preference: str | None = None
    onboarding_shown: bool | None = None
    map_tutorial_seen: bool | None = None


class AppStateV2(RowShape):
    """An array that the app kept for itself on the device, whole; see APP_STATE_V2_SQL."""

    user_id: str
    id: str
    value: list[JsonValue]
