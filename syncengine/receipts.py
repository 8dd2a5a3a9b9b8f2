"""Why is a row not at the cloud? What stands in the way, one sentence each, and what to do about it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from syncengine.arguments import milliseconds, name_text
from syncengine.clock import iso
from syncengine.outbox.receipts import (
    NEEDS_A_PERSON,
    Receipt,
    Rest,
    Where,
    live_row_select,
    receipt,
    receipt_of,
    rest_of,
)
from syncengine.sync.parking import Reason as Parked

if TYPE_CHECKING:
    from syncengine.local.store import Row, Store

LOOK_MS_MIN = 10
LOOK_MS_MAX = 200
"""Between two looks of `wait`; the wait doubles from the first to the second."""

_DECIDE = "Look at it: `syncengine quarantine show {item}`. Then retry, edit or discard it."
_OF_PARKED = {
    Parked.NEWER_SHAPE: "Update the app: it comes from a newer version.",
    Parked.UNKNOWN_COLLECTION: "Update the app: it knows no such collection.",
    Parked.NO_WAY_DOWN: "What an older app wrote there has no way into the newer shape. It is in _sync_parked.body: "
    "write the row whole with it or without it (INSERT OR REPLACE, not UPDATE), or delete it.",
    Parked.PARENT_MISSING: "Nothing: it is tried again when the row that it refers to has come.",
    Parked.CHILDREN_LEFT: "Nothing: its foreign keys decide when all that the cloud has was read.",
    Parked.CLASH: "Nothing: it is tried again when the row that is in its way has changed.",
}


class Moment(Protocol):
    """A store that can be asked: open for the app, or only looked at."""

    def rows(self, file: str, name: str, /, **values: Any) -> "list[Row]": ...


def wait(store: "Store", entry_id: int, *, user: str | None, timeout_ms: float) -> Receipt:
    """Look until it is final or a person has to act, or the time is over."""
    timeout_ms = milliseconds(timeout_ms, name="timeout_ms")
    until_ms, look_ms = store.clock.monotonic_ms() + timeout_ms, LOOK_MS_MIN
    while True:
        found = receipt_of(store, entry_id, user=user)
        left_ms = until_ms - store.clock.monotonic_ms()
        if found.is_final or found.state in NEEDS_A_PERSON or left_ms <= 0:
            return found
        store.clock.pause(int(min(look_ms, left_ms)))
        look_ms = min(2 * look_ms, LOOK_MS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """One thing in the way: what it is, and what to do."""

    what: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Where a row stands. `synced` is True where the cloud has it as it is here, as far as this device knows.

    `obstacles` are in the order in which to look at them; `notes` stand in no way. Holds nothing of the contents.
    """

    collection: str
    key: str
    user: str | None
    synced: bool
    obstacles: tuple[Obstacle, ...]
    entries: tuple[Receipt, ...]
    """What is queued of it, in order."""
    notes: tuple[str, ...] = ()
    deleted: bool = False
    """The cloud knows it as a deleted one; `synced` says whether it is gone here, too."""

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return asdict(self)

    def __repr__(self) -> str:
        told = f"synced={self.synced}, obstacles={len(self.obstacles)}, entries={len(self.entries)}"
        return f"Explanation(collection={self.collection!r}, key={self.key!r}, user={self.user!r}, {told})"

    def __str__(self) -> str:
        whose = f" of {self.user}" if self.user else ""
        lines = [f"{self.collection} {self.key}{whose}: {self._standing}"]
        for entry in self.entries:
            number = f", number {entry.sequence}" if entry.sequence is not None else ""
            lines.append(
                f"  entry {entry.entry_id} ({entry.kind}, {entry.state}{number}, {entry.since}): {entry.why}"
            )
        for obstacle in self.obstacles:
            lines += [f"  - {obstacle.what}", f"    fix: {obstacle.fix}"]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    @property
    def _standing(self) -> str:
        if not self.synced:
            return "not synced"
        return "deleted, here and at the cloud" if self.deleted else "at the cloud"


def explain(
    store: "Store", collection: str, key: str, *, user: str | None, signed_in: str | None, activity: str
) -> Explanation:
    """Of a store that is open here, where it is known who is signed in and what goes on.

    Raises TypeError and ValueError for what can name nothing.
    """
    collection, key = name_text(collection, of="a collection"), name_text(key, of="the key of a row")
    user = None if user is None else name_text(user, of="a user")
    whose = list(_of_the_host(store, user, signed_in=signed_in, activity=activity))
    return explained(
        store,
        collection,
        key,
        user=user,
        rows_of=store.query,
        now=iso(store.clock.now_ms()),
        of_the_host=whose,
    )


def explained(
    moment: Moment,
    collection: str,
    key: str,
    *,
    user: str | None,
    rows_of: "Ask",
    now: str,
    of_the_host: "list[Obstacle] | None" = None,
) -> Explanation:
    """What the rows of the engine's tables say, and what is known of the host besides."""
    facts = _Facts(moment, collection, key, user=user, rows_of=rows_of, now=now)
    obstacles = list(facts.obstacles())
    if facts.entries and of_the_host:
        obstacles += of_the_host
    return Explanation(
        collection=collection,
        key=key,
        user=user,
        synced=facts.is_known_there and not obstacles and not facts.entries,
        obstacles=tuple(obstacles),
        entries=facts.entries,
        notes=tuple(facts.notes()),
        deleted=facts.is_deleted_there,
    )


class Ask(Protocol):
    """Runs a statement that names come into."""

    def __call__(self, sql: str, values: "dict[str, Any]", /) -> "list[Row]": ...


def _of_the_host(store: "Store", user: str | None, *, signed_in: str | None, activity: str) -> Iterator[Obstacle]:
    if store.read_only is not None:
        yield Obstacle(what=f"the store is open for reading only: {store.read_only.what}", fix=store.read_only.fix)
    if signed_in is None:
        yield Obstacle(what="nobody is signed in", fix="Sign in: engine.switch_user(...).")
    elif user != signed_in:
        yield Obstacle(what="another user is signed in", fix="It is sent when its own user signs in again.")
    if activity == "no_backend":
        yield Obstacle(what="the engine was opened without a cloud", fix="Open it with cloud_url= or backend=.")
    elif activity == "paused":
        yield Obstacle(what="syncing is paused", fix="engine.resume()")
    elif activity == "stopped":
        yield Obstacle(what="nothing is sent in the background", fix="engine.start(), or engine.sync_now() once.")
    elif store.settings.on_metered == "wait" and store.value("state", "get", name="probe_verdict") == "metered":
        fix = "Nothing: it is sent when the host says that it is metered no more. engine.sync_now() sends now."
        yield Obstacle(what="the network is metered, and the app waits for another", fix=fix)


class _Facts:
    """What the store knows of one row."""

    def __init__(
        self, moment: Moment, collection: str, key: str, *, user: str | None, rows_of: Ask, now: str
    ) -> None:
        self._moment = moment
        self._collection = collection
        self._key = key
        self._user = user
        self._ask = rows_of
        self._now = now
        self._row = {"collection": collection, "owner": user or "", "row_key": key}
        self.entries = tuple(
            receipt(moment, entry_id, now=now)
            for (entry_id,) in moment.rows("receipts", "entries_of_row", **self._row)
        )
        at_cloud = moment.rows("receipts", "at_cloud", **self._row)
        self.version = int(at_cloud[0][0]) if at_cloud else None
        self.is_known_there = bool(at_cloud)
        self.is_deleted_there = bool(at_cloud and at_cloud[0][1])
        recorded = moment.rows("receipts", "collection", collection=collection)
        self._columns = recorded[0] if recorded else None

    def obstacles(self) -> Iterator[Obstacle]:
        if self._columns is None or self._columns[1] is None:
            yield self._not_synced()
            return
        if self._user is None:
            yield Obstacle(what="nobody is signed in, so whose row is it?", fix="Name the user.")
            return
        set_aside = [*self._of_quarantine(), *self._of_parked()]
        yield from set_aside
        yield from self._of_entries()
        is_at_cloud = self.is_known_there and not self.is_deleted_there
        if not (set_aside or self.entries or is_at_cloud):
            yield from self._never_queued()

    def _not_synced(self) -> Obstacle:
        if self._columns is None:
            return Obstacle(
                what=f"the store has no collection {self._collection}",
                fix="Check the name; else the migration that makes it has not run yet: engine.migrate().",
            )
        return Obstacle(
            what=f"{self._collection} is not synced: its rows have no owner",
            fix="Give the collection an owner column: Collection(owner=...), by a migration.",
        )

    def _of_quarantine(self) -> Iterator[Obstacle]:
        for item, origin, code, reason in self._moment.rows("receipts", "items_of_row", **self._row):
            what = f"quarantine item {item} ({origin}, {code}): {reason}"
            yield Obstacle(what=what, fix=_DECIDE.format(item=item))

    def _of_parked(self) -> Iterator[Obstacle]:
        for reason, shape, since in self._moment.rows("receipts", "parked_of_row", **self._row):
            what = f"what the cloud has of it is parked since {since}: {reason}, in shape {shape}"
            yield Obstacle(what=what, fix=_OF_PARKED[Parked(reason)])

    def _of_entries(self) -> Iterator[Obstacle]:
        """What holds the queue; the entries say the rest themselves."""
        if not self.entries:
            return
        for entry in self.entries:
            if entry.state is Where.HELD:
                fix = _DECIDE.format(item=entry.item_id)
                yield Obstacle(what=f"entry {entry.entry_id} is held by item {entry.item_id}", fix=fix)
        rest = rest_of(self._moment, self._user, now=self._now)
        if not rest.is_reachable:
            fix = _OF_VERDICT.get(rest.verdict, _WAIT)
            if rest.verdict == "offline":
                fix = _OF_REASON.get(rest.reason, fix)
            yield Obstacle(what=_unreachable(rest), fix=fix)
        if rest.until is not None:
            what = f"after {rest.attempts} failures ({rest.error}) the queue rests until {rest.until}"
            yield Obstacle(what=what, fix=_OF_ERROR.get(rest.error or "", "engine.sync_now() tries at once."))

    def _never_queued(self) -> Iterator[Obstacle]:
        if self._is_live():
            yield Obstacle(
                what="the row is here, and was never queued",
                fix="engine.reconcile() queues it; a migration that uploads its collection does, too.",
            )
        elif self._is_live(nobodys=True):
            yield Obstacle(
                what="the row has no owner, so it is nobody's to send",
                fix="Write the owner into it.",
            )
        elif not self.is_deleted_there:
            yield Obstacle(
                what="there is no such row of this user here, and nothing of it is queued",
                fix="Check key and user.",
            )

    def _is_live(self, *, nobodys: bool = False) -> bool:
        assert self._columns is not None
        key_column, owner_column, _ = self._columns
        select = live_row_select(self._collection, key_column=key_column, owner_column=owner_column, nobodys=nobodys)
        values = {"key": self._key} if nobodys else {"key": self._key, "owner": self._user}
        return bool(self._ask(select, values))

    def notes(self) -> Iterator[str]:
        if self.is_deleted_there:
            yield f"the cloud knows it as deleted, at version {self.version}"
        elif self.version is not None:
            yield f"the cloud has version {self.version} of it"
        if rest_of(self._moment, self._user, now=self._now).only_sends:
            yield "this app is too old for the cloud: what waits is sent, nothing is read; update the app"
        for field, winner, policy, since in self._moment.rows("receipts", "conflicts_of_row", **self._row):
            yield f"{field} was changed on both sides ({since}): {winner} won, by {policy}"


def _unreachable(rest: Rest) -> str:
    if rest.verdict == "auth_required":
        return "the cloud refuses the token: auth_required"
    reason = f" ({rest.reason})" if rest.verdict == "offline" else ""
    return f"the cloud cannot be reached: {rest.verdict}{reason}"


_WAIT = "Nothing: it is tried again by itself."
_OF_REASON = {
    "refused": "Nothing, if the server is down: it is tried again by itself. Else check cloud_url.",
    "name_not_found": "Nothing, without a network: it is sent when there is one. With one, check cloud_url.",
    "no_answer": "Nothing: the server or a network between did not answer; it is tried again by itself.",
    "cut": "Nothing: the server or a network between broke the connection; it is tried again by itself.",
}
"""Of the reasons of the verdict offline those that need not mean that there is no network."""
_OF_ERROR = {
    "quota_exceeded": "Delete rows, on this device or another, or ask who runs the cloud for more room; then "
    "engine.sync_now() tries at once.",
}
_OF_VERDICT = {
    "offline": "Nothing: it is sent when there is a network again.",
    "captive_portal": "Sign in to the network.",
    "tls_refused": "Check the clock of the device, then what stands between it and the cloud: a login page, a proxy.",
    "auth_required": "Sign in again, so that the token callback has a new token.",
    "schema_blocked": "Update the app.",
}

__all__ = ["Explanation", "Obstacle", "explain", "explained", "wait"]
