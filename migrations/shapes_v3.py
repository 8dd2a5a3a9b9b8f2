"""Version 3.0.0: the tables and row models, in the shapes of the app's own generation 2; units are in the names.

`legacy` keeps what version 2.0.0 held where it cannot be computed again, so that the way back is exact.
"""

from pydantic import Field, JsonValue

from migrations.shapes_v2 import Point, RowShape

Legacy = dict[str, JsonValue]
"""By column of the older shape: {"was": its value there, "became": what it was turned into}."""

JOURNEYS_V3_SQL = """\
CREATE TABLE journeys (
  user_id                    TEXT NOT NULL,                   -- whose walk it is
  id                         TEXT NOT NULL,
  name                       TEXT NOT NULL,
  start_time_ms              INTEGER,                         -- since 1970 UTC; NULL: not known
  end_time_ms                INTEGER,                         -- since 1970 UTC; NULL: not known
  date_known                 INTEGER NOT NULL DEFAULT 1,      -- 0: the walk never had a date
  route                      TEXT NOT NULL DEFAULT '[]'       -- JSON: [{latitude, longitude, timestamp ms?}]
    CONSTRAINT route_is_json CHECK (json_valid(route)),
  distance_m                 REAL                             -- NULL: not known
    CONSTRAINT distance_is_not_negative CHECK (distance_m >= 0),
  duration_s                 REAL                             -- NULL: not known
    CONSTRAINT duration_is_not_negative CHECK (duration_s >= 0),
  status                     TEXT NOT NULL DEFAULT 'completed'
    CONSTRAINT status_is_known CHECK (status IN ('completed', 'in_progress')),
  is_completed               INTEGER NOT NULL DEFAULT 0,      -- all its discoveries were reviewed
  reviewed_discoveries_count INTEGER NOT NULL DEFAULT 0,
  total_discoveries_count    INTEGER NOT NULL DEFAULT 0,
  completion_percentage      INTEGER NOT NULL DEFAULT 0,      -- 0 to 100
  last_status_update_ms      INTEGER,                         -- since 1970 UTC
  is_deleted                 INTEGER NOT NULL DEFAULT 0,      -- deleted softly
  deleted_at_ms              INTEGER,                         -- since 1970 UTC
  created_at_ms              INTEGER,                         -- since 1970 UTC
  updated_at_ms              INTEGER,                         -- since 1970 UTC
  legacy                     TEXT NOT NULL DEFAULT '{}'       -- JSON: older values that cannot be computed again
    CONSTRAINT legacy_is_json CHECK (json_valid(legacy)),
  PRIMARY KEY (user_id, id)
) STRICT;
CREATE INDEX journeys_by_start ON journeys (user_id, start_time_ms);
"""

PLACES_V3_SQL = """\
CREATE TABLE places (
  user_id            TEXT NOT NULL,              -- who discovered or saved it
  id                 TEXT NOT NULL,              -- the same as place_id: a place is here once
  place_id           TEXT NOT NULL,              -- Google's id of the place
  name               TEXT,
  category           TEXT,                       -- a Google type such as cafe
  latitude           REAL                        -- NULL: not known
    CONSTRAINT latitude_is_on_earth CHECK (latitude BETWEEN -90 AND 90),
  longitude          REAL                        -- NULL: not known
    CONSTRAINT longitude_is_on_earth CHECK (longitude BETWEEN -180 AND 180),
  types              TEXT NOT NULL DEFAULT '[]'  -- JSON: [Google type]
    CONSTRAINT types_is_json CHECK (json_valid(types)),
  address            TEXT,
  rating             REAL,                       -- 1.0 to 5.0
  user_ratings_total INTEGER,
  price_level        INTEGER                     -- 0 free to 4 very expensive
    CONSTRAINT price_level_is_known CHECK (price_level BETWEEN 0 AND 4),
  saved              INTEGER NOT NULL DEFAULT 0,
  dismissed          INTEGER NOT NULL DEFAULT 0
    CONSTRAINT saved_or_dismissed CHECK (NOT (saved AND dismissed)),
  discovered_at_ms   INTEGER,                    -- first time, since 1970 UTC
  discovery_count    INTEGER NOT NULL DEFAULT 1, -- how often it was discovered or saved
  ping_count         INTEGER NOT NULL DEFAULT 0,
  sar_count          INTEGER NOT NULL DEFAULT 0,
  sources            TEXT NOT NULL DEFAULT '[]'  -- JSON: [sar, ping, …] sorted, each once
    CONSTRAINT sources_is_json CHECK (json_valid(sources)),
  journey_ids        TEXT NOT NULL DEFAULT '[]'  -- JSON: the walks on which it was discovered, sorted
    CONSTRAINT journey_ids_is_json CHECK (json_valid(journey_ids)),
  place_data         TEXT NOT NULL DEFAULT '{}'  -- JSON: the whole place as the Places API described it
    CONSTRAINT place_data_is_json CHECK (json_valid(place_data)),
  created_at_ms      INTEGER,                    -- since 1970 UTC
  updated_at_ms      INTEGER,                    -- since 1970 UTC
  PRIMARY KEY (user_id, id)
) STRICT;
"""

DISMISSED_PLACES_V3_SQL = """\
CREATE TABLE dismissed_places (
  user_id            TEXT NOT NULL, -- who does not want to see it
  id                 TEXT NOT NULL, -- the same as place_id
  place_id           TEXT NOT NULL, -- Google's id of the place
  dismissed_at_ms    INTEGER,       -- since 1970 UTC; NULL: not known
  dismissed_until_ms INTEGER,       -- since 1970 UTC; NULL: for ever
  reason             TEXT,
  journey_id         TEXT,
  place_data         TEXT           -- JSON: name, types, category
    CONSTRAINT place_data_is_json CHECK (place_data IS NULL OR json_valid(place_data)),
  legacy             TEXT NOT NULL DEFAULT '{}' -- JSON: older values that cannot be computed again
    CONSTRAINT legacy_is_json CHECK (json_valid(legacy)),
  PRIMARY KEY (user_id, id)
) STRICT;
"""

PROFILE_V3_SQL = """\
CREATE TABLE profile (
  user_id                 TEXT NOT NULL,
  id                      TEXT NOT NULL,              -- the same as user_id
  email                   TEXT,
  display_name            TEXT NOT NULL,
  photo_url               TEXT,
  email_verified          INTEGER NOT NULL DEFAULT 0,
  last_sign_in_at_ms      INTEGER,                    -- since 1970 UTC
  is_new_user             INTEGER NOT NULL DEFAULT 0,
  bio                     TEXT NOT NULL DEFAULT '',
  location                TEXT NOT NULL DEFAULT '',
  preferences             TEXT NOT NULL               -- JSON: notifications, privacy, units, theme, mapStyle
    CONSTRAINT preferences_is_json CHECK (json_valid(preferences)),
  stats                   TEXT NOT NULL               -- JSON: totalWalks, totalDistance, totalTime, discoveries
    CONSTRAINT stats_is_json CHECK (json_valid(stats)),
  friends                 TEXT NOT NULL DEFAULT '[]'  -- JSON: [user id]
    CONSTRAINT friends_is_json CHECK (json_valid(friends)),
  credits_remaining       INTEGER NOT NULL DEFAULT 50,
  total_pings_used        INTEGER NOT NULL DEFAULT 0,
  last_ping_at_ms         INTEGER,                    -- since 1970 UTC
  last_credit_reset_at_ms INTEGER,                    -- since 1970 UTC
  migration_status        TEXT                        -- JSON: what the engine has done for this user
    CONSTRAINT migration_status_is_json CHECK (migration_status IS NULL OR json_valid(migration_status)),
  created_at_ms           INTEGER,                    -- since 1970 UTC
  updated_at_ms           INTEGER,                    -- since 1970 UTC
  legacy                  TEXT NOT NULL DEFAULT '{}'  -- JSON: older values that cannot be computed again
    CONSTRAINT legacy_is_json CHECK (json_valid(legacy)),
  PRIMARY KEY (user_id, id)
) STRICT;
"""


class JourneyV3(RowShape):
    """A walk with known units; see JOURNEYS_V3_SQL."""

    user_id: str
    id: str
    name: str
    start_time_ms: int | None
    end_time_ms: int | None
    date_known: bool
    route: list[Point]
    distance_m: float | None
    duration_s: float | None
    status: str
    is_completed: bool
    reviewed_discoveries_count: int
    total_discoveries_count: int
    completion_percentage: int
    last_status_update_ms: int | None
    is_deleted: bool
    deleted_at_ms: int | None
    created_at_ms: int | None
    updated_at_ms: int | None
    legacy: Legacy = Field(default_factory=dict)


class PlaceV3(RowShape):
    """A place, once per user, with everything that its discoveries said of it; see PLACES_V3_SQL."""

    user_id: str
    id: str
    place_id: str
    name: str | None
    category: str | None
    latitude: float | None
    longitude: float | None
    types: list[str]
    address: str | None
    rating: float | None
    user_ratings_total: int | None
    price_level: int | None
    saved: bool
    dismissed: bool
    discovered_at_ms: int | None
    discovery_count: int
    ping_count: int
    sar_count: int
    sources: list[str]
    journey_ids: list[str]
    place_data: dict[str, JsonValue]
    created_at_ms: int | None
    updated_at_ms: int | None


class DismissedPlaceV3(RowShape):
    """A place that the user does not want to see, until when; see DISMISSED_PLACES_V3_SQL."""

    user_id: str
    id: str
    place_id: str
    dismissed_at_ms: int | None
    dismissed_until_ms: int | None
    reason: str | None
    journey_id: str | None
    place_data: dict[str, JsonValue] | None
    legacy: Legacy = Field(default_factory=dict)


class ProfileV3(RowShape):
    """A user's profile in which nothing that the app reads is missing; see PROFILE_V3_SQL."""

    user_id: str
    id: str
    email: str | None
    display_name: str
    photo_url: str | None
    email_verified: bool
    last_sign_in_at_ms: int | None
    is_new_user: bool
    bio: str
    location: str
    preferences: dict[str, JsonValue]
    stats: dict[str, JsonValue]
    friends: list[str]
    credits_remaining: int
    total_pings_used: int
    last_ping_at_ms: int | None
    last_credit_reset_at_ms: int | None
    migration_status: dict[str, JsonValue] | None
    created_at_ms: int | None
    updated_at_ms: int | None
    legacy: Legacy = Field(default_factory=dict)
