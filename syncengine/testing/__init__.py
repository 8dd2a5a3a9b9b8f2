"""The test kit for an app's own migrations, and the crash-simulating disk that this project tests itself with.

The names below are loaded when they are first used: a test run that uses none of them pays for none.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from syncengine.testing.contents import contents_of
    from syncengine.testing.crash import CrashFound, CrashReport, crash_everywhere
    from syncengine.testing.disk import FailingDisk, PowerIsGone, failing_disk, power_cut, recording_disk
    from syncengine.testing.going_back import check_rollback
    from syncengine.testing.images import CrashImage, DiskLog, crash_images
    from syncengine.testing.lock import freeze, frozen
    from syncengine.testing.offline import OfflineReport, offline_midway
    from syncengine.testing.row_strategies import drawn, row_strategy
    from syncengine.testing.starters import two_starters
    from syncengine.testing.stores import StoppedClock, bring, fill, model_at, numbered, store_at
    from syncengine.testing.there_and_back import TripReport, round_trip
    from syncengine.testing.ways import Ways, all_paths, check_paths

_HOME = {
    "CrashFound": "crash",
    "CrashImage": "images",
    "CrashReport": "crash",
    "DiskLog": "images",
    "FailingDisk": "disk",
    "OfflineReport": "offline",
    "PowerIsGone": "disk",
    "StoppedClock": "stores",
    "TripReport": "there_and_back",
    "Ways": "ways",
    "all_paths": "ways",
    "bring": "stores",
    "check_paths": "ways",
    "check_rollback": "going_back",
    "contents_of": "contents",
    "crash_everywhere": "crash",
    "crash_images": "images",
    "drawn": "row_strategies",
    "failing_disk": "disk",
    "fill": "stores",
    "freeze": "lock",
    "frozen": "lock",
    "model_at": "stores",
    "numbered": "stores",
    "offline_midway": "offline",
    "power_cut": "disk",
    "recording_disk": "disk",
    "round_trip": "there_and_back",
    "row_strategy": "row_strategies",
    "store_at": "stores",
    "two_starters": "starters",
}

__all__ = [
    "CrashFound",
    "CrashImage",
    "CrashReport",
    "DiskLog",
    "FailingDisk",
    "OfflineReport",
    "PowerIsGone",
    "StoppedClock",
    "TripReport",
    "Ways",
    "all_paths",
    "bring",
    "check_paths",
    "check_rollback",
    "contents_of",
    "crash_everywhere",
    "crash_images",
    "drawn",
    "failing_disk",
    "fill",
    "freeze",
    "frozen",
    "model_at",
    "numbered",
    "offline_midway",
    "power_cut",
    "recording_disk",
    "round_trip",
    "row_strategy",
    "store_at",
    "two_starters",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'syncengine.testing' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"syncengine.testing.{home}"), name)
    globals()[name] = found
    return found
