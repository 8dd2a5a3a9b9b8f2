"""How the cloud looks to the background, told when it changes and kept where status() finds it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from syncengine.clock import iso
from syncengine.events import ProbeChanged
from syncengine.remote.connectivity_probe import Finding, Verdict

if TYPE_CHECKING:
    from syncengine.local.store import Store

NO_USE_TRYING = frozenset({Verdict.OFFLINE, Verdict.CAPTIVE_PORTAL, Verdict.TLS_REFUSED, Verdict.SERVER_DOWN})
"""Verdicts that a background round waits out; for the others only a real call can tell."""


class Outlook:
    """The last verdict. `came_back`: the one before was no use trying, and no round has begun since."""

    def __init__(self, store: "Store", *, tell: Callable[[object], None]) -> None:
        self.verdict = Verdict.UNKNOWN
        self.came_back = False
        self._reason = ""
        self._store = store
        self._tell = tell

    def learn(self, finding: Finding) -> Verdict:
        """Tell of another verdict, and of another reason for one that keeps us waiting."""
        learnt = (finding.verdict, finding.reason if finding.verdict in NO_USE_TRYING else "")
        if learnt == (self.verdict, self._reason):
            return finding.verdict
        before = self.verdict
        self.verdict, self._reason = learnt
        self.came_back = before in NO_USE_TRYING and finding.verdict not in NO_USE_TRYING
        with self._store.transaction():
            for name, value in (
                ("probe_verdict", finding.verdict.value),
                ("probe_reason", finding.reason),
                ("probe_at", iso(finding.at_ms)),
            ):
                self._store.run("state", "set", name=name, value=value)
        self._tell(ProbeChanged(verdict=finding.verdict.value, verdict_before=before.value, reason=finding.reason))
        return finding.verdict
