"""What a seed decides before anything happens: a frozen value that goes into JSON and comes back."""

import random
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Self

HEROS_PATH_SHARE = 0.01
"""Of all worlds. One takes as long as several others."""
KIN_SHARE = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that makes a world besides its seed. A test may fix some of it."""

    devices: int
    users: int
    edits_per_device: int
    records_disk: bool
    """A power cut takes what was not synced; else it takes the process alone."""
    durable: bool
    """Each commit is synced: `durability="full"`."""
    power_share: float
    partitions: bool
    upgrades: bool
    all_upgrade_at_end: bool
    restores_cloud: bool
    forgets_tombstones: bool
    clones: bool
    switches_users: bool
    clocks_jump: bool
    encodes: bool
    batch_entries: int
    has_weather: bool = True
    faults_ms: int = 8 * 60_000
    """How long the first phase lasts, in this world's time."""
    pattern: str = "random"
    """How lines are cut: random, long, late_start, flapping, toggle or dead_device."""
    weather: str = "mixed"
    """What becomes of single calls: mixed, slow, timeouts, portal, lost_answers or repeats."""
    upgrades_each: int = 2
    jumps_each: int = 1
    jump_ms_max: int = 24 * 60 * 60_000
    edits_while_reading: float = 0.1
    """So likely does a person write while a page is on its way."""
    few_keys: bool = False
    """All notes have one of a few keys, the same on every device."""
    disk_failures: int = 0
    """So often the disk of each device fails for a while."""
    disk_failure: str = ""
    """full, io or read_only; empty: one of them each time."""
    cloud_fails: bool = False
    """The cloud's machine loses power within a push, and its disk fails for a while."""
    damages: bool = False
    """Bytes flip in a store's file."""
    leaves: bool = False
    """People sign out and are wiped off a device."""
    downgrades: bool = False
    """An older app is started on a store for a moment."""
    stops_upgrades: bool = False
    """People cancel or pause a migration, and start it again."""
    imports: bool = False
    """The first device of Hero's Path begins with what the app of before has left in AsyncStorage."""
    room_rows: int = 0
    """From some moment on a user may have so many rows at the cloud; 0: as many as they like."""
    requests_per_minute: int = 0
    """Likewise, the requests that a user may make."""
    lane: str = "core"
    """core: calls are handed over as values; wire: over the HTTP adapter and the server's own handlers."""
    app: str = "notes"
    """notes; generated: one whose migrations are drawn from the seed; kin: one whose tables refer to each other; or
    heros_path."""

    def to_json(self) -> dict[str, Any]:
        """Numbers, texts and truths by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Self:
        """What is missing and has a usual value gets it. Raises ValueError for other names than a plan's."""
        known = {each.name for each in fields(cls)}
        needed = {each.name for each in fields(cls) if each.default is MISSING}
        if wrong := (told.keys() - known) | (needed - told.keys()):
            raise ValueError(f"a plan of another simulator: {sorted(wrong)}")
        return cls(**told)


def drawn_plan(seed: int) -> Plan:
    """A mix of faults: with all of them at once, some would hide others."""
    chance = random.Random(f"{seed}/plan")

    def on(share: float) -> bool:
        return chance.random() < share

    return Plan(
        devices=chance.choice((2, 2, 2, 3, 3, 4)),
        users=chance.choice((1, 1, 2)),
        edits_per_device=chance.randint(3, 9),
        records_disk=on(0.8),
        durable=on(0.7),
        power_share=chance.choice((0.0, 0.01, 0.04)),
        partitions=on(0.7),
        upgrades=on(0.7),
        all_upgrade_at_end=on(0.6),
        restores_cloud=on(0.12),
        forgets_tombstones=on(0.15),
        clones=on(0.1),
        switches_users=on(0.4),
        clocks_jump=on(0.3),
        encodes=on(0.5),
        batch_entries=chance.choice((1, 3, 10, 500)),
        disk_failures=1 if on(0.2) else 0,
        cloud_fails=on(0.15),
        damages=on(0.05),
        leaves=on(0.15),
        downgrades=on(0.1),
        lane="wire" if on(0.12) else "core",
        app="generated" if on(0.2) else "notes",
        stops_upgrades=on(0.15),
        room_rows=chance.choice((4, 8, 14)) if on(0.08) else 0,
        requests_per_minute=chance.choice((6, 20, 60)) if on(0.06) else 0,
        imports=on(0.5),
    )


def plan_of(seed: int, profile: str | None = None) -> Plan:
    """The same seed and profile, the same plan. Raises KeyError for a profile that is none."""
    from simulator.world.profiles import PROFILES

    profile = profile or _app_profile(random.Random(f"{seed}/app_share").random())
    drawn = drawn_plan(seed)
    return PROFILES[profile](drawn) if profile else drawn


def _app_profile(share: float) -> str:
    """A few worlds are of other apps, in their own ways."""
    if share < HEROS_PATH_SHARE:
        return "heros_path"
    return "kin" if share < HEROS_PATH_SHARE + KIN_SHARE else ""
