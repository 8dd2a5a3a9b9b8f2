"""Notes in two generations with a way back, and small tools to look at a store before and after."""

from imports import V2, V3, ImportExecutor, JourneyV2, JourneyV3, make_v2, to_seconds, upload_walks, walk, write_phone
from migrate_world import StoppedClock, dump, registry_of

from syncengine import Engine, migration


def seconds_v3(function=to_seconds, down=None, **facts):
    """Minutes to seconds, and back; a walk of 13 seconds has no way back."""
    facts = {"id": "seconds-v3", "table": V3, "critical": True, "quarantine_rows_max": 99, **facts}
    step = migration(collection="journeys", from_version="2.0.0", to_version="3.0.0", **facts)(function)
    return step.down(down or to_minutes)


def to_minutes(new: JourneyV3) -> JourneyV2:
    if new.seconds == 13:
        raise ValueError("no minutes")
    return JourneyV2(user_id=new.user_id, id=new.id, minutes=new.seconds / 60, title=new.title)


def steps():
    return make_v2(), ImportExecutor(), upload_walks(), seconds_v3()


def open_at(path, *executors, target="3.0.0", user="ann", profile=None, **options):
    registry = registry_of(*executors, target=target, profile=profile)
    return Engine.open(path, registry=registry, user=user, clock=StoppedClock(), **options)


def add_walks(engine, *rows):
    """Rows as the app would write them."""
    with engine._store.transaction():
        for row in rows:
            marks = ", ".join("?" * len(row))
            engine._store.query(f"INSERT INTO journeys VALUES ({marks})", row)


def walks_of(engine):
    return engine._store.query("SELECT * FROM journeys ORDER BY 1, 2")


def contents(engine):
    """Everything but the history, the lease and the list of sealed copies."""
    return dump(engine._store, without=("_sync_run", "_sync_lease", "_sync_restore_point"))


__all__ = [
    "V2",
    "V3",
    "ImportExecutor",
    "JourneyV2",
    "JourneyV3",
    "StoppedClock",
    "add_walks",
    "contents",
    "dump",
    "make_v2",
    "open_at",
    "registry_of",
    "seconds_v3",
    "steps",
    "to_minutes",
    "to_seconds",
    "upload_walks",
    "walk",
    "walks_of",
    "write_phone",
]
