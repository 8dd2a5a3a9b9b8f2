"""What a seed decides before anything happens: a frozen value that goes into JSON and comes back."""

import random
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self


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

    def to_json(self) -> dict[str, Any]:
        """Numbers, texts and truths by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Self:
        """Raises ValueError for names that this simulator does not know, or that it misses."""
        known = {each.name for each in fields(cls)}
        if known != told.keys():
            raise ValueError(f"a plan of another simulator: {sorted(known ^ told.keys())}")
        return cls(**told)


def plan_of(seed: int, profile: str | None = None) -> Plan:
    """The same seed and profile, the same plan. Raises KeyError for a profile that is none."""
    drawn = _drawn(random.Random(f"{seed}/plan"))
    return PROFILES[profile](drawn) if profile is not None else drawn


def _drawn(chance: random.Random) -> Plan:
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
    )


def _swarm(plan: Plan) -> Plan:
    return plan


def _partitions(plan: Plan) -> Plan:
    """A small world of one user where lines are cut, both ways or one way, and nothing else goes wrong."""
    return replace(
        plan,
        devices=min(plan.devices, 3),
        users=1,
        edits_per_device=min(plan.edits_per_device, 6),
        records_disk=False,
        power_share=0.0,
        partitions=True,
        restores_cloud=False,
        forgets_tombstones=False,
        clones=False,
        clocks_jump=False,
        has_weather=False,
        faults_ms=6 * 60_000,
    )


PROFILES = {"swarm": _swarm, "partitions": _partitions}
"""Each is a way to make a plan of what was drawn."""
