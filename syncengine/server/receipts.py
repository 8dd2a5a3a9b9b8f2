"""What became of the entries of a push: one receipt for a run of neighbours that fared alike. Pure."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from syncengine.remote.wire import Document

Outcome = Literal["applied", "merged", "conflict", "rejected", "lost"]


class Receipt(NamedTuple):
    """What became of `entries` sequences from `sequence` on. `lost`: a restored database has forgotten them.

    `version` is that of the first; each next one has one more. Only of entries that took effect more than one share
    a receipt.
    """

    sequence: int
    outcome: Outcome
    token: str | None = None
    version: int | None = None
    code: str | None = None
    message: str | None = None
    skipped: tuple[str, ...] | None = None
    entries: int = 1
    overwrote: Document | None = None

    def at(self, sequence: int) -> "Receipt":
        """The receipt of one of its sequences alone."""
        version = None if self.version is None else self.version + sequence - self.sequence
        return self._replace(sequence=sequence, version=version, entries=1)


class Receipts:
    """Gathers the receipts of consecutive sequences."""

    def __init__(self) -> None:
        self._closed: list[Receipt] = []
        self._first = self._count = 0
        self._outcome: Outcome = "applied"
        self._token: str | None = None
        self._next_version = 0

    def add(self, receipt: Receipt) -> None:
        """One more; with what it says beside its version it stands alone."""
        if receipt.version is None or receipt.code or receipt.skipped is not None or receipt.overwrote:
            self._close()
            self._closed.append(receipt)
        else:
            self.add_effect(receipt.sequence, receipt.outcome, token=receipt.token, version=receipt.version)

    def add_effect(self, sequence: int, outcome: Outcome, *, token: str | None, version: int) -> None:
        """One more that took effect and brought its row to `version`."""
        if version != self._next_version or token != self._token or outcome != self._outcome or not self._count:
            self._close()
            self._first, self._outcome, self._token = sequence, outcome, token
        self._count += 1
        self._next_version = version + 1

    def all(self) -> list[Receipt]:
        """In the order of their sequences."""
        self._close()
        return self._closed

    def _close(self) -> None:
        if self._count:
            version = self._next_version - self._count
            run = Receipt(self._first, self._outcome, self._token, version, entries=self._count)
            self._closed.append(run)
            self._count = 0


def told(results: Iterable[tuple[str, Receipt]]) -> list[dict[str, object]]:
    """Results as they travel, one for each sequence: what says nothing is left out."""
    found: list[dict[str, object]] = []
    for status, receipt in results:
        found += _told(status, receipt)
    return found


def _told(status: str, receipt: Receipt) -> list[dict[str, object]]:
    first, version = receipt.sequence, receipt.version
    if receipt.entries > 1 and version is not None:
        ahead = version - first
        return [
            {"sequence": n, "status": status, "version": n + ahead} for n in range(first, first + receipt.entries)
        ]
    one: dict[str, object] = {"status": status}
    if status == "duplicate":
        one["outcome"] = receipt.outcome
    for name, value in zip(_TOLD, receipt[3:7], strict=True):
        if value is not None:
            one[name] = value
    if receipt.overwrote:
        one["overwrote"] = receipt.overwrote
    return [{"sequence": n, **one} for n in range(first, first + receipt.entries)]


_TOLD = ("version", "code", "message", "skipped")
