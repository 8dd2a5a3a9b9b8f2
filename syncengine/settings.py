"""What the host may set. Frozen; the unit is the end of each name; what happens at a limit stands beside it."""

from __future__ import annotations


class Settings:
    """All settings with their defaults. Change some with `Settings(batch_rows=500)`.

    Raises TypeError for an unknown name or another type than the default's, ValueError for a negative number.
    """

    # The store.
    durability: str = "normal"
    """"normal": power loss may take the last local transactions, whole. "full": each commit is synced."""
    busy_wait_ms_max: int = 5_000
    """How long one statement waits for another process's write lock; then `StoreBusy`."""
    starter_wait_ms_max: int = 120_000
    """How long migrate() waits for another process that is migrating; then `StoreBusy`."""

    group_entries_max: int = 5_000
    """More changes of one engine.write() do not arrive at the cloud as one: `GroupTooLarge`, or `atomic=False`."""

    group_bytes_max: int = 12_000_000
    """The same for the bytes of their JSON: a request holds a group whole, and the cloud takes 16 MiB in one."""

    # Migrations.
    batch_rows: int = 100
    """Rows of one SAVEPOINT."""
    sql_batch_rows: int = 10_000
    """The same where SQL converts the rows by itself."""
    batch_ms_target: int = 50
    """A large collection is rewritten in transactions of about this length; their size adapts to it."""
    shadow_rows_min: int = 50_000
    shadow_bytes_min: int = 64 * 1024 * 1024
    """A collection of so many rows or bytes is rewritten beside the live table, so that nobody waits for it."""
    cpu_share_max: float = 1.0
    """A migration rests between batches so that it uses no more of one processor than this, from 0.01 to 1."""
    silent_ms_max: int = 2_000
    """A migrate() that is forecast to be over sooner shows no progress and tells of no success."""
    quarantine_rows_max: int = 10
    quarantine_ratio_max: float = 0.01
    """More rows in quarantine than the larger of the two: the run stops and rolls back."""

    transient_retries_max: int = 3
    """So often a migration that something busy stopped is begun again; then it counts as failed."""
    transient_wait_ms_min: int = 200
    transient_wait_ms_max: int = 10_000
    """The ceiling of the wait before it; it doubles from the first to the second."""
    retry_quarantined: bool = True
    """migrate() tries what a migration set aside again, once, when its code is another."""
    quarantine_retries_max: int = 500
    """So many items at one start, at some milliseconds each; the rest at the next."""
    quarantine_keep_days: int = 30
    """What a person has resolved stays in quarantine with its body for so long."""

    developer_mode: bool = False
    """True where a person may roll back in an emergency: at once, without a list of what collides."""

    # Restore points.
    restore_point_keep_days: int = 7
    """So long a restore point lives; 0: until the migration that it was made for has succeeded."""
    restore_points_max: int = 5
    """Of more than so many the oldest go, however young; the newest stays."""
    restore_point_free_bytes_min: int = 16 * 1024 * 1024
    """So much of the disk stays free beside a restore point; else `RestorePointImpossible`."""

    # Sources.
    source_element_bytes_max: int = 64 * 1024 * 1024
    """One walk, one place; a larger one goes to quarantine by its first bytes, and the rest is read."""

    # Sending.
    push_entries_first: int = 500
    """What the first push holds; later ones grow up to the next where the line and the cloud are quick."""
    push_entries_max: int = 5_000
    push_bytes_max: int = 4_000_000
    """One push holds at most so much; a single larger entry is sent alone."""
    push_ms_target: int = 2_000
    """Pushes that take longer get smaller."""
    compress: str = "auto"
    """"auto": the bodies of pushes are compressed where the line is slow or metered; "always"; "never"."""
    attempts_before_halving: int = 2
    """A batch refused so often is cut in half, down to the one entry that is at fault."""
    attempts_of_one_entry_max: int = 5
    """A lone entry that the backend cannot take this often goes to quarantine."""
    retry_wait_ms_min: int = 1_000
    retry_wait_ms_max: int = 300_000
    retry_after_ms_max: int = 3_600_000
    """A server may ask for no longer wait than this."""
    refused_token_wait_ms: int = 900_000
    """The background tries a token that the cloud has refused again after so long; another one at once."""
    round_pushes_max: int = 1_000
    """Pushes of one round; the rest waits for the next."""

    # Reading.
    pull_items_max: int = 5_000
    """Rows of one page, unless one transaction of the cloud holds more; a page of large rows ends sooner."""
    round_pulls_max: int = 1_000
    """Pages of one round; the rest waits for the next."""
    pull_interval_ms: int = 60_000
    """So often the cloud is asked for changes while nothing is sent."""
    conflict_keep_days: int = 90
    """So long it is remembered which field was changed on both sides, and what the other value was."""

    # HTTP.
    connect_wait_ms_max: int = 5_000
    request_wait_ms_max: int = 30_000
    """Total deadline of one request, however slowly bytes drip."""
    answer_bytes_max: int = 16 * 1024 * 1024
    answer_depth_max: int = 64
    proxy: str = "none"
    """"none": straight to the backend; "environment": by the proxy that the environment or the system names."""
    upload_bytes_per_s_max: int = 0
    download_bytes_per_s_max: int = 0
    """So fast at most, of all calls together; 0: as fast as it goes. Waiting for it counts for no deadline."""
    on_metered: str = "sync"
    """Where the host says that the network is metered, the background does "sync": all; "send": it hands over what
    waits, and reads nothing; "wait": nothing. Who asks for a round gets a whole one."""

    # Connectivity probe.
    probe_connect_wait_ms_max: int = 2_000
    probe_wait_ms_max: int = 5_000
    probe_fresh_ms: int = 60_000
    """A real answer from the backend this recent makes a probe needless."""
    probe_interval_ms_min: int = 1_000
    probe_interval_ms_max: int = 60_000
    probe_failures_to_offline: int = 2

    # The runner.
    idle_wait_ms_max: int = 60_000
    close_wait_ms_max: int = 5_000

    def __init__(self, **changes: float | str) -> None:
        for name, value in changes.items():
            default = getattr(type(self), name, None)
            if name.startswith("_") or default is None:
                raise TypeError(f"there is no setting {name!r}")
            wanted = (int, float) if isinstance(default, float) else type(default)
            if isinstance(value, bool) is not isinstance(default, bool) or not isinstance(value, wanted):
                raise TypeError(f"setting {name} is a {type(default).__name__}, not a {type(value).__name__}")
            _check_value(name, value)
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("settings are frozen; make new ones")

    def __repr__(self) -> str:
        changed = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self).items()))
        return f"Settings({changed})"


def _check_value(name: str, value: float | str) -> None:
    if isinstance(value, str):
        if value not in _WORDS[name]:
            raise ValueError(f"setting {name} is {' or '.join(_WORDS[name])}, not {value!r}")
    elif name == "cpu_share_max" and not 0.01 <= value <= 1:
        raise ValueError(f"setting {name} is a share from 0.01 to 1, not {value}")
    elif value < (1 if name in _ONE_AT_LEAST else 0):
        raise ValueError(f"setting {name} is too small: {value}")


_WORDS = {
    "durability": ("normal", "full"),
    "compress": ("auto", "always", "never"),
    "proxy": ("none", "environment"),
    "on_metered": ("sync", "send", "wait"),
}
_ONE_AT_LEAST = (
    "group_entries_max",
    "group_bytes_max",
    "batch_rows",
    "sql_batch_rows",
    "batch_ms_target",
    "push_entries_first",
    "push_entries_max",
    "push_bytes_max",
    "round_pushes_max",
    "pull_items_max",
    "round_pulls_max",
    "attempts_of_one_entry_max",
    "restore_points_max",
)
