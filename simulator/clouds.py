"""Where a play's rows go: the shipped server, or Google's Firestore emulator. Both are asked what they have.

What Firestore has is read as its owner, from its documents' own JSON, by no code of the engine's.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from simulator.emulator import FirestoreEmulator, lacking
from simulator.processes import ProcessFailed
from simulator.proof import CloudLedger, Rows, cloud_rows, read_ledger
from simulator.proof_in_postgresql import read_ledger_in
from simulator.stage import Stage, running_server
from syncengine.clock import Clock

HEROS_PATH_RULES = "match /journeys/{uid}/{rest=**} { allow read, write: if request.auth.uid == uid; }"
"""What the app's own rules say of where its generation 1 keeps documents."""


class Cloud(Protocol):
    """What a play asks of it. `url` is where a gate leads."""

    url: str
    sort: str
    """For the story: what it is."""
    writes_by: bytes
    """What the request has in its first line that brings rows."""

    def ledger(self, user: str) -> CloudLedger:
        """What it counts for one user."""
        ...

    def rows(self, user: str, *, collections: Iterable[str]) -> Rows:
        """The user's living rows."""
        ...


@contextmanager
def running_cloud(stage: Stage, *, clock: Clock) -> Iterator[Cloud]:
    """The one that the stage is set for, as a process. Raises ProcessFailed."""
    if stage.backend == "server":
        with running_server(stage) as url:
            yield ServerCloud(stage, url, clock=clock)
        return
    reason = lacking()
    if reason:
        raise ProcessFailed(reason)
    emulator = FirestoreEmulator(stage.folder / "firestore.log")
    emulator.set_shipped_rules(own=HEROS_PATH_RULES)
    try:
        yield FirestoreCloud(emulator)
    finally:
        emulator.stop()


class ServerCloud:
    """The shipped server on its own database."""

    writes_by = b"/push"

    def __init__(self, stage: Stage, url: str, *, clock: Clock) -> None:
        self.url = url
        self.sort = "a process of its own" + (" on PostgreSQL" if stage.database else "")
        self._stage = stage
        self._clock = clock

    def ledger(self, user: str) -> CloudLedger:
        if self._stage.database is not None:
            return read_ledger_in(self._stage.database, user=user)
        return read_ledger(self._stage.cloud_folder, user=user)

    def rows(self, user: str, *, collections: Iterable[str]) -> Rows:
        token = self._stage.token_of(user)
        return cloud_rows(self.url, user=user, token=token, clock=self._clock, collections=collections)


class FirestoreCloud:
    """The emulator, under the shipped security rules."""

    sort = "Google's Firestore emulator under the shipped security rules"
    writes_by = b":commit"

    def __init__(self, emulator: FirestoreEmulator) -> None:
        self.url = f"http://{emulator.host}"
        self._emulator = emulator

    def ledger(self, user: str) -> CloudLedger:
        """Each row counts once, and each version that no receipt answers for is an effect too many."""
        documents = self._of(user)
        lines = [
            line
            for path, fields in documents.items()
            if path[0] == "~receipts"
            for line in json.loads(fields["results"])
        ]
        head = next((fields["head"] for path, fields in documents.items() if path[0] == "~sync"), 0)
        versions = sum(line[7] for line in lines if line[3] is not None)
        return CloudLedger(
            effects={path: 1 for path in documents if path[0][0] != "~"}
            | {("~sync", "versions that no receipt has"): 1 + head - versions},
            receipts=sum(line[7] for line in lines),
            rejected=sum(line[1] == "rejected" for line in lines),
        )

    def rows(self, user: str, *, collections: Iterable[str]) -> Rows:
        names = set(collections)
        found: Rows = {}
        for path, fields in self._of(user).items():
            meta = fields.pop("_sync", {})
            if path[0] in names and not meta.get("deleted"):
                found[path] = json.loads(meta["json"]) if meta.get("form") == "json" else fields
        return found

    def _of(self, user: str) -> dict[tuple[str, str], dict[str, Any]]:
        root = f"{self._emulator.documents}/users/{user}/"
        return {
            _address(document["name"].removeprefix(root)): _plain({"mapValue": document})
            for document in self._emulator.all_documents()
            if document["name"].startswith(root)
        }


def _address(path: str) -> tuple[str, str]:
    collection, _, key = path.partition("/")
    return collection, key


def _plain(value: dict[str, Any]) -> Any:
    """A typed value of Firestore's as plain JSON."""
    ((kind, content),) = value.items()
    match kind:
        case "mapValue":
            return {name: _plain(each) for name, each in content.get("fields", {}).items()}
        case "arrayValue":
            return [_plain(each) for each in content.get("values", ())]
        case "integerValue":
            return int(content)
        case "doubleValue":
            return float(content)
        case "nullValue":
            return None
        case _:
            return content
