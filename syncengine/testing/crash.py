"""A power cut everywhere: after each, the store is old and whole, new and whole, or goes on to become new."""

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from syncengine.testing.contents import Contents, LeftOut, contents_of
from syncengine.testing.disk import PowerIsGone, power_cut, recording_disk
from syncengine.testing.images import POLICIES, CrashImage, crash_images, evenly

EVERY_CRASH = "SYNCENGINE_EVERY_CRASH"
"""Set this environment variable to 1 and no image and no statement is left out."""

STORE_NAME = "app.db"


class CrashFound(AssertionError):
    """After a power cut the store was neither old nor new, and running again did not make it new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashReport:
    """How often the power was cut, and what was found then."""

    operations: int
    """What one undisturbed run does to the disk: each was a place for a cut."""
    images: int
    statements: int
    old: int
    """Images that held what was there before the run."""
    between: int
    """Images of a run of several transactions, of which some were done; running again finished it."""
    new: int


def crash_everywhere(
    *,
    folder: Path,
    build: Callable[[Path], object],
    run: Callable[[Path], object],
    check: Callable[[Path], object] | None = None,
    images_max: int = 200,
    statements_max: int = 40,
    policies: Sequence[str] = POLICIES,
    seed: int = 1,
    leave_out: LeftOut | None = None,
) -> CrashReport:
    """Cut the power before each disk operation and before each SQL statement of `run`, and look what is left.

    `build(path)` makes the store as it was before; `run(path)` opens it, does the work and closes it, and may be
    called any number of times; `check(path)` looks at a store as a cut left it, before `run` goes on, and raises when
    something is wrong. Each time the file must be sound and hold exactly the old or the new contents, or, where the
    work takes several transactions, something between; and `run` must bring it to the new contents. Times are not
    compared, nor the columns in `leave_out`; where rows hold times, give the engine of `run` a `StoppedClock()`.

    More than `images_max` disk images, or `statements_max` statements, are sampled evenly; the environment variable
    SYNCENGINE_EVERY_CRASH=1 does them all. Raises CrashFound, which says where the image was left to look at.
    """
    every = os.environ.get(EVERY_CRASH) == "1"
    sweep = _Sweep(folder, build=build, run=run, check=check, leave_out=leave_out)
    for image in crash_images(sweep.log, policies=policies, seed=seed, images_max=None if every else images_max):
        sweep.look_at(image)
    numbers = evenly(sweep.statements, None if every else statements_max)
    for number in numbers:
        sweep.cut_before(number)
    return CrashReport(
        operations=len(sweep.log.operations),
        images=sweep.images,
        statements=len(numbers),
        old=sweep.found["old"],
        between=sweep.found["between"],
        new=sweep.found["new"],
    )


class _Sweep:
    def __init__(
        self,
        folder: Path,
        *,
        build: Callable[[Path], object],
        run: Callable[[Path], object],
        check: Callable[[Path], object] | None,
        leave_out: LeftOut | None,
    ) -> None:
        self.run = run
        self.check = check
        self.leave_out = leave_out
        self.images = 0
        self.found = {"old": 0, "between": 0, "new": 0}
        self._seen: set[bytes] = set()
        self._built, self._folder = folder / "built", folder / "store"
        self._path = self._folder / STORE_NAME
        # Always at this one place: a store may know by their paths the files that lie beside it.
        self._folder.mkdir(mode=0o700, parents=True)
        build(self._path)
        shutil.copytree(self._folder, self._built)
        self.old = self._contents()
        self._begin_again()
        with recording_disk(self._folder) as self.log:
            run(self._path)
        self.new = self._contents()
        if self.old.differences(self.new) == ():
            raise CrashFound("`run` changed nothing, so there is nothing that a power cut could spoil.")
        self._begin_again()
        with power_cut(self._folder) as counted:
            run(self._path)
        self.statements = counted.begun

    def _begin_again(self) -> None:
        shutil.rmtree(self._folder)
        shutil.copytree(self._built, self._folder)

    def _contents(self) -> Contents:
        return contents_of(self._path, leave_out=self.leave_out)

    def look_at(self, image: CrashImage) -> None:
        """One image, unless the same bytes were looked at before."""
        digest = hashlib.sha256(
            repr(sorted((n, hashlib.sha256(d).digest()) for n, d in image.files.items())).encode()
        )
        is_last = image.before == len(self.log.operations)
        if digest.digest() in self._seen and not is_last:
            return
        self._seen.add(digest.digest())
        self.images += 1
        shutil.rmtree(self._folder)
        self._folder.mkdir(mode=0o700)
        for name, data in image.files.items():
            _write_private(self._folder, name, data)
        state = self._goes_on(str(image))
        self.found[state] += 1
        if is_last and state != "new":
            raise CrashFound(f"What `run` had finished was lost: {image}.")

    def cut_before(self, statement: int) -> None:
        """The process ends before this statement; the disk keeps what was written."""
        self._begin_again()
        with power_cut(self._folder, before_statement=statement), suppress(PowerIsGone):
            self.run(self._path)
        self._goes_on(f"power cut before statement {statement}")

    def _goes_on(self, where: str) -> str:
        """old, new or between; then new, or an error that says where and what."""
        try:
            state, wrong = self._look_and_run()
        except Exception as error:
            raise CrashFound(f"{where}: {type(error).__name__}: {error}\nThe store is at {self._path}.") from error
        if wrong:
            raise CrashFound(f"{where}: {wrong}\nThe store is at {self._path}.")
        return state

    def _look_and_run(self) -> tuple[str, str]:
        """What was found, and what is wrong with it or with what running again made of it."""
        found = self._contents()
        state = self._state_of(found)
        if not found.sound:
            return state, "the file is damaged"
        if self.check is not None:
            self.check(self._path)
        self.run(self._path)
        differences = self.new.differences(self._contents())
        return state, "running again gave something else: " + "; ".join(differences) if differences else ""

    def _state_of(self, found: Contents) -> str:
        if found == self.old:
            return "old"
        return "new" if found == self.new else "between"


def _write_private(folder: Path, name: str, data: bytes) -> None:
    """As the engine makes all of its files and folders: for their owner alone."""
    *folders, last = name.split("/")
    for inner in folders:
        folder = folder / inner
        folder.mkdir(mode=0o700, exist_ok=True)
    (folder / last).touch(mode=0o600)
    (folder / last).write_bytes(data)
