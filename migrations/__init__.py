"""Hero's Path: the shapes that its data had, and the ways between them. 1.0.0 is AsyncStorage alone.

This list is all that a start reads; the modules that it names are imported when one of theirs is pending.
"""

from syncengine import Collection, ListedMigration, MigrationRegistry

ONE_TO_TWO = "1.0.0 > 2.0.0"
TWO_TO_THREE = "2.0.0 > 3.0.0"

COLLECTIONS = (
    Collection(name="journeys", key="id", owner="user_id"),
    Collection(name="places", key="id", owner="user_id"),
    Collection(name="dismissed_places", key="id", owner="user_id"),
    # A new device begins with defaults; they must not take the place of what the user has chosen on another one.
    Collection(name="profile", key="id", owner="user_id", merge="server_wins"),
    Collection(name="preferences", key="id", owner="user_id", merge="server_wins"),
    Collection(name="app_state", key="id", owner="user_id"),
)

MIGRATIONS = (
    ListedMigration("herospath-tables-v2", ONE_TO_TWO, "migrations.v2_0_0:tables_v2"),
    ListedMigration(
        "journey-storage-v1-to-v2", ONE_TO_TWO, "migrations.v2_0_0:JourneyMigrationExecutor", scope="user"
    ),
    ListedMigration("places-storage-v1-to-v2", ONE_TO_TWO, "migrations.v2_0_0:PlacesMigrationExecutor", scope="user"),
    ListedMigration(
        "dismissed-places-storage-v1-to-v2",
        ONE_TO_TWO,
        "migrations.v2_0_0:DismissedPlacesMigrationExecutor",
        scope="user",
    ),
    ListedMigration(
        "profile-storage-v1-to-v2", ONE_TO_TWO, "migrations.v2_0_0:UserProfileMigrationExecutor", scope="user"
    ),
    ListedMigration(
        "profile-defaults-v2", ONE_TO_TWO, "migrations.v2_0_0:ProfileDefaultsMigrationExecutor", scope="user"
    ),
    ListedMigration(
        "app-state-storage-v1-to-v2", ONE_TO_TWO, "migrations.v2_0_0:StorageMigrationExecutor", scope="user"
    ),
    ListedMigration("journeys-upload-v2", ONE_TO_TWO, "migrations.v2_0_0:journeys_upload", scope="user", online=True),
    ListedMigration("places-upload-v2", ONE_TO_TWO, "migrations.v2_0_0:places_upload", scope="user", online=True),
    ListedMigration("profile-upload-v2", ONE_TO_TWO, "migrations.v2_0_0:profile_upload", scope="user", online=True),
    ListedMigration("journeys-schema-v2-to-v3", TWO_TO_THREE, "migrations.v3_0_0:journeys_v2_to_v3"),
    ListedMigration("places-schema-v2-to-v3", TWO_TO_THREE, "migrations.v3_0_0:places_v2_to_v3"),
    ListedMigration("dismissed-places-v2-to-v3", TWO_TO_THREE, "migrations.v3_0_0:dismissed_places_v2_to_v3"),
    ListedMigration("profile-schema-v2-to-v3", TWO_TO_THREE, "migrations.v3_0_0:profile_v2_to_v3"),
    ListedMigration("preferences-schema-v2-to-v3", TWO_TO_THREE, "migrations.v3_0_0:preferences_v2_to_v3"),
    ListedMigration(
        "journeys-upload-v3", TWO_TO_THREE, "migrations.v3_0_0:journeys_upload", scope="user", online=True
    ),
    ListedMigration("places-upload-v3", TWO_TO_THREE, "migrations.v3_0_0:places_upload", scope="user", online=True),
    ListedMigration("profile-upload-v3", TWO_TO_THREE, "migrations.v3_0_0:profile_upload", scope="user", online=True),
)


def registry(*, target: str = "3.0.0") -> MigrationRegistry:
    """The registry of the app at a version: 3.0.0 now, or 2.0.0 as it was before."""
    return MigrationRegistry(
        app="heros-path",
        baseline="1.0.0",
        target=target,
        collections=COLLECTIONS,
        profile=("profile", "migration_status"),
        migrations=MIGRATIONS,
    )


REGISTRY = registry()
