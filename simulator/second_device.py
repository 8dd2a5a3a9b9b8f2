"""The story's second part: a tablet of the same user, upgraded while edits wait, and a conflict between the two."""

from collections import Counter
from pathlib import Path
from typing import Any

from migrations import REGISTRY
from simulator.gate import Gate
from simulator.processes import ProcessFailed
from simulator.proof import Address, local_rows, uploaded_collections
from simulator.sqlite_shell import show
from simulator.stage import AppProcess, Stage
from simulator.store_sight import see_queue
from simulator.storyteller import tell
from syncengine.clock import Clock

DEVICE = "tablet"
WALKS = ("Harbour", "Old town", "Along the canal")
BATCH_ENTRIES = 25
WAIT_MS_MAX = 30_000
LOOK_MS = 50
"""How often it is looked whether both devices have the same."""

SETTINGS = ("preferences", "preferences")
CONFLICT_SQL = (
    "SELECT collection, field, local_json, server_json, winner, policy FROM _sync_conflict "
    "ORDER BY conflict_id DESC LIMIT 1"
)


class SecondDevice:
    """Plays after the phone has sent everything. `edits` are those of rows that the cloud had already."""

    def __init__(self, stage: Stage, *, user: str, phone: AppProcess, phone_gate: Gate, clock: Clock) -> None:
        self.store: Path = stage.store_of(user, device=DEVICE)
        self.edits: Counter[Address] = Counter()
        self._stage = stage
        self._user = user
        self._phone = phone
        self._phone_gate = phone_gate
        self._clock = clock

    def play(self, gate: Gate) -> None:
        """From its first start at 2.0.0 to the moment when both devices have the same rows."""
        self._record_offline(gate)
        with self._started(gate, target="3.0.0") as tablet:
            self._upgrade(tablet)
            self._meet(tablet, gate)
            self._disagree(tablet, gate)
            self._agree(tablet)
            tablet.stop()
        self._phone.stop()

    def _started(self, gate: Gate, *, target: str) -> AppProcess:
        return AppProcess(
            self._stage,
            user=self._user,
            cloud_url=gate.url,
            clock=self._clock,
            batch=BATCH_ENTRIES,
            device=DEVICE,
            target=target,
        )

    def _record_offline(self, gate: Gate) -> None:
        with self._started(gate, target="2.0.0") as tablet:
            tablet.wait_for("migrated", wait_ms_max=WAIT_MS_MAX)
            for number, name in enumerate(WALKS):
                tablet.edit("record", "journeys", f"tablet-{number}", name=name, route="[]", distance=700.0 + number)
            waiting = see_queue(self.store).waiting
            tell(
                DEVICE,
                f"the same user's second device, still at 2.0.0 and never online: {len(WALKS)} walks recorded, "
                f"{waiting} entries waiting",
            )
            tablet.stop()

    def _upgrade(self, tablet: AppProcess) -> None:
        migrated = tablet.wait_for("migrated", wait_ms_max=WAIT_MS_MAX)
        read, converted, quarantined = (
            sum(run[name] for run in migrated["runs"])
            for name in ("entries_read", "entries_converted", "entries_quarantined")
        )
        tell(
            "upgrade",
            f"the tablet comes to {migrated['version']} with its edits queued: "
            f"{read} entries read = {converted} converted + {quarantined} in quarantine",
        )

    def _meet(self, tablet: AppProcess, gate: Gate) -> None:
        gate.open()
        tablet.wait_for("RoundEnded", lambda fact: fact["ended"] == "drained", wait_ms_max=WAIT_MS_MAX)
        rows = self._wait_until_equal()
        pulled = sum(fact["rows"] for fact in tablet.facts if fact["said"] == "PagePulled")
        tell("together", f"the tablet goes online and reads {pulled} rows; now both devices have the same {rows}")

    def _disagree(self, tablet: AppProcess, gate: Gate) -> None:
        """Two fields of one walk, and twice the same field of the settings."""
        for device, its_gate in ((self._phone, self._phone_gate), (tablet, gate)):
            its_gate.shut()
            device.wait_for_verdict("offline", wait_ms_max=WAIT_MS_MAX)
        walk = ("journeys", "tablet-0")
        self._change(self._phone, walk, name="Harbour at night")
        self._change(self._phone, SETTINGS, language="de")
        self._change(tablet, walk, distance_m=710.5)
        self._change(tablet, SETTINGS, language="fr", min_rating=4.0)
        tell(
            "offline",
            "the phone renames a walk and sets the language to de; the tablet corrects the walk's length, and sets "
            "the language to fr and the least rating to 4",
        )
        self._phone_gate.open()
        self._phone.wait_until_drained(wait_ms_max=WAIT_MS_MAX)
        gate.open()
        tablet.wait_for("PagePulled", lambda fact: fact["conflicts"] > 0, wait_ms_max=WAIT_MS_MAX)
        self._wait_until_equal()
        tell("conflict", "the language: the phone's was first and stays; name, length and rating are all kept")
        for line in show(self.store, CONFLICT_SQL):
            print(line)

    def _agree(self, tablet: AppProcess) -> None:
        self._change(tablet, SETTINGS, language="fr")
        self._wait_until_equal()
        tell("resolved", "the tablet's user has seen it, and sets fr again: an edit like any other; both have fr")

    def _change(self, device: AppProcess, row: Address, **fields: Any) -> None:
        device.edit("change", *row, **fields)
        self.edits[row] += 1

    def _wait_until_equal(self) -> int:
        """Until nothing waits on either device and both have the same rows; how many. Raises ProcessFailed."""
        phone = self._stage.store_of(self._user)
        names = uploaded_collections(REGISTRY)
        deadline_ms = self._clock.monotonic_ms() + WAIT_MS_MAX
        while True:
            queues = see_queue(phone), see_queue(self.store)
            first, second = (
                local_rows(store, registry=REGISTRY, user=self._user, collections=names)
                for store in (phone, self.store)
            )
            if first == second and not any(queue.waiting + queue.claimed for queue in queues):
                return len(first)
            if self._clock.monotonic_ms() > deadline_ms:
                raise ProcessFailed(f"After {WAIT_MS_MAX} ms the devices still differ, or have not sent everything.")
            self._clock.pause(LOOK_MS)
