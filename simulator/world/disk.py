"""The disks of all devices: what a power cut within a step would have left of one device's files.

All of them lie in one folder under a recording disk. After a cut a device goes on in a new folder that holds the
image, so that nothing of what was written after the cut can come back.
"""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syncengine.testing.disk import recording_disk
from syncengine.testing.images import POLICIES, Disk, DiskLog, Files, Operation


class Disks:
    """`records`: power cuts leave what was synced, and any part of the rest. Else all that was written stays, as when
    a process is killed."""

    def __init__(self, folder: Path, *, log: DiskLog | None) -> None:
        self.folder = folder
        self._log = log
        self._disk = Disk({})
        self._done = 0
        self._lives = 0

    @property
    def records(self) -> bool:
        return self._log is not None

    def new_folder(self, device: str) -> Path:
        """Where a device keeps its files until the next power cut."""
        self._lives += 1
        folder = self.folder / f"{device}-{self._lives}"
        folder.mkdir(mode=0o700)
        return folder

    def mark(self) -> int:
        """A moment, for `after_cut`."""
        return len(self._log.operations) if self._log is not None else 0

    def after_cut(self, device: str, folder: Path, *, between: tuple[int, int], chance: random.Random) -> Path:
        """A power cut at some moment between two marks; where the device goes on. Its store is closed by now."""
        if self._log is None:
            return folder
        at = chance.randint(*between)
        while self._done < at:
            self._disk.do(self._log.operations[self._done])
            self._done += 1
        image = self._disk.image(chance.choice(POLICIES), chance=chance)
        prefix = f"{folder.name}/"
        after = self._placed(device, {n: d for n, d in image.items() if n.startswith(prefix)})
        shutil.rmtree(folder)
        return after

    def copied(self, device: str, folder: Path) -> Path:
        """Another device with the same files. The store is closed."""
        files = {
            path.relative_to(self.folder).as_posix(): path.read_bytes() for path in sorted(folder.glob("app.db*"))
        }
        return self._placed(device, {name: data for name, data in files.items() if not name.endswith("-shm")})

    def _placed(self, device: str, files: Files) -> Path:
        folder = self.new_folder(device)
        for name, data in files.items():
            path = folder / Path(name).name
            path.touch(mode=0o600)
            path.write_bytes(data)
            if self._log is not None:
                placed = f"{folder.name}/{path.name}"
                self._log.operations.append(Operation(kind="outside", name=placed, data=data))
        return folder


@contextmanager
def disks(folder: Path, *, records: bool) -> Iterator[Disks]:
    """All stores must be closed when the block ends."""
    folder.mkdir(mode=0o700)
    if not records:
        yield Disks(folder, log=None)
        return
    with recording_disk(folder) as log:
        yield Disks(folder, log=log)
