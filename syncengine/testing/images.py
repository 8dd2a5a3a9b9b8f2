"""What a power cut could have left on the disk: worked out from a log of what was written and synced. No I/O.

The model is that of sqlite.org/atomiccommit.html: what was not synced may be there, not there, or there in part,
sector by sector and in any order; a new file's name is safe once its folder was synced.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

SECTOR_BYTES = 512
POLICIES = ("none", "all", "prefix", "subset", "torn", "garbage")
"""What became of the writes that were not synced: lost; all there; the first ones; some sectors; some sectors, a few
of them torn in the middle; some sectors, and the others beyond the old end of the file hold anything."""

TORN_SHARE = 0.1
KEPT_SHARE = 0.5

Files = dict[str, bytes]


class Operation(NamedTuple):
    """One thing done to one file. `kind`: create, write, truncate, sync, delete, or outside.

    `outside` is a file that was not written by SQLite: it is taken to be on the disk, whole, as soon as it is seen;
    `data` None says that it is gone.
    """

    kind: str
    name: str
    offset: int = 0
    data: bytes | None = None
    size_bytes: int = 0
    folder_synced: bool = False


@dataclass(slots=True)
class DiskLog:
    """What a folder held at first, and all that was done to it since, in order."""

    base: Files = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashImage:
    """The files of a folder after a power cut before operation number `before`, from 0; their count: after all."""

    before: int
    policy: str
    files: Files

    def __str__(self) -> str:
        return f"power cut before operation {self.before}, unsynced writes: {self.policy}"


def crash_images(
    log: DiskLog, *, policies: Sequence[str] = POLICIES, seed: int = 1, images_max: int | None = None
) -> Iterator[CrashImage]:
    """Images of a power cut before each operation and after the last, each different from the others of its point.

    Where there are more than `images_max`, that many are taken at even distances, the first and the last among them.
    The same seed gives the same images.
    """
    points = list(_points(log, policies))
    chosen = set(evenly(len(points), images_max))
    wanted: dict[int, list[str]] = {}
    for number, (before, policy) in enumerate(points):
        if number in chosen:
            wanted.setdefault(before, []).append(policy)
    disk = Disk(log.base)
    for before in range(len(log.operations) + 1):
        for policy in wanted.get(before, ()):
            chance = random.Random(f"{seed} {before} {policy}")
            yield CrashImage(before=before, policy=policy, files=disk.image(policy, chance=chance))
        if before < len(log.operations):
            disk.do(log.operations[before])


def evenly(count: int, wanted: int | None) -> list[int]:
    """At most `wanted` of the numbers from 0 to below `count`, at even distances, with both ends."""
    if wanted is None or count <= wanted:
        return list(range(count))
    if wanted < 2:
        return [count - 1][:wanted]
    return sorted({round(number * (count - 1) / (wanted - 1)) for number in range(wanted)})


def _points(log: DiskLog, policies: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Where nothing is unsynced all policies leave the same; what is surely lost changes only with a sync."""
    disk = Disk(log.base)
    settled = True
    for before in range(len(log.operations) + 1):
        for policy in policies if disk.is_unsettled else ("all",):
            if policy != "none" or settled:
                yield before, policy
        if before < len(log.operations):
            operation = log.operations[before]
            disk.do(operation)
            settled = operation.kind not in ("write", "truncate")


class _File:
    __slots__ = ("durable", "has_name", "pending")

    def __init__(self, data: bytes = b"", *, has_name: bool = False) -> None:
        self.durable = bytearray(data)
        self.pending: list[Operation] = []
        self.has_name = has_name
        """Its entry in the folder is on the disk."""


class Disk:
    """The state of the disk while the log is walked through."""

    def __init__(self, base: Mapping[str, bytes]) -> None:
        self._files = {name: _File(data, has_name=True) for name, data in base.items()}
        self._unlinked: dict[str, _File] = {}
        """Deleted, but the folder was not synced since: a power cut may bring them back."""

    @property
    def is_unsettled(self) -> bool:
        """Is there anything that a power cut could take, or bring back?"""
        unsynced = any(file.pending or not file.has_name for file in self._files.values())
        return unsynced or bool(self._unlinked)

    def do(self, operation: Operation) -> None:
        """Take in the next operation of the log."""
        name = operation.name
        if operation.kind == "create":
            self._files[name] = _File()
        elif operation.kind in ("write", "truncate"):
            self._files.setdefault(name, _File()).pending.append(operation)
        elif operation.kind == "sync":
            self._sync(name)
        elif operation.kind == "delete":
            self._delete(name, folder_synced=operation.folder_synced)
        elif operation.data is None:
            self._files.pop(name, None)
        else:
            self._files[name] = _File(operation.data, has_name=True)

    def _sync(self, name: str) -> None:
        file = self._files.get(name)
        if file is None:
            return
        for operation in file.pending:
            _apply(file.durable, operation)
        file.pending = []
        if not file.has_name and name.endswith(("-wal", "-journal")):
            # SQLite's unix VFS syncs the folder with the first sync of a new journal or -wal.
            self._sync_folder()
        file.has_name = True
        self._unlinked.pop(name, None)

    def _sync_folder(self) -> None:
        self._unlinked.clear()
        for file in self._files.values():
            file.has_name = True

    def _delete(self, name: str, *, folder_synced: bool) -> None:
        file = self._files.pop(name, None)
        if folder_synced:
            self._unlinked.clear()
        elif file is not None and file.has_name:
            self._unlinked[name] = file

    def image(self, policy: str, *, chance: random.Random) -> Files:
        """The files as a power cut now could leave them."""
        found: Files = {}
        for name, file in sorted(self._files.items()):
            if file.has_name or policy == "all" or (policy != "none" and chance.random() < KEPT_SHARE):
                found[name] = _after_cut(file, policy, chance)
        for name, file in sorted(self._unlinked.items()):
            back = policy == "none" or (policy != "all" and chance.random() < KEPT_SHARE)
            if name not in found and back:
                found[name] = bytes(file.durable)
        return found


def _after_cut(file: _File, policy: str, chance: random.Random) -> bytes:
    image = bytearray(file.durable)
    if policy == "none":
        return bytes(image)
    if policy in ("all", "prefix"):
        count = len(file.pending) if policy == "all" else chance.randrange(len(file.pending) + 1)
        for operation in file.pending[:count]:
            _apply(image, operation)
        return bytes(image)
    for operation in file.pending:
        if operation.kind == "truncate":
            if chance.random() < KEPT_SHARE:
                _apply(image, operation)
        else:
            _apply_sectors(image, operation, policy, chance, end_bytes=len(file.durable))
    return bytes(image)


def _apply_sectors(image: bytearray, write: Operation, policy: str, chance: random.Random, *, end_bytes: int) -> None:
    data = write.data or b""
    at = 0
    while at < len(data):
        place = write.offset + at
        sector = data[at : at + SECTOR_BYTES - place % SECTOR_BYTES]
        if chance.random() < KEPT_SHARE:
            torn = policy == "torn" and chance.random() < TORN_SHARE
            _put(image, place, sector[: chance.randrange(len(sector) + 1)] if torn else sector)
        elif policy == "garbage" and place + len(sector) > end_bytes:
            _put(image, place, chance.randbytes(len(sector)))
        at += len(sector)


def _apply(image: bytearray, operation: Operation) -> None:
    if operation.kind == "write":
        _put(image, operation.offset, operation.data or b"")
    elif len(image) > operation.size_bytes:
        del image[operation.size_bytes :]
    else:
        image.extend(bytes(operation.size_bytes - len(image)))


def _put(image: bytearray, place: int, data: bytes) -> None:
    if len(image) < place:
        image.extend(bytes(place - len(image)))
    image[place : place + len(data)] = data
