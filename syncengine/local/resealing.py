"""Sealing the restore points anew for another key, so that who has the old one opens nothing that is kept here.

For each: opened with the old key, checked, sealed for the new one to a new file, that file opened once, the line of
the table changed, and only then the old file deleted. Whenever it breaks off, each restore point opens with one of
the two keys, and the next call goes on.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncengine.clock import fresh_id, iso, system_random
from syncengine.errors import RestorePointUnusable, StoreDamaged
from syncengine.local.keys import sync_folder
from syncengine.local.private_place import make_restore_folder, plain_place
from syncengine.local.regular_file import open_regular
from syncengine.local.restore_folder import restore_folder
from syncengine.local.restore_points import (
    DAMAGED_ENDS,
    SEALED_ENDS,
    SEALED_NAME,
    RestorePoint,
    check_room,
    no_disk,
    opened_restore_point,
    private_file,
    restore_points,
    seal_copy,
)
from syncengine.local.sealing import unseal

if TYPE_CHECKING:
    from syncengine.local.keys import KeyFile, KeyProvider, SealingKey
    from syncengine.local.store import Store

_Keys = Mapping[str, "SealingKey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftSealed:
    """What is not sealed for the new key, and was left as it is."""

    name: str
    """The sealed file, without its folder."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResealReport:
    """What became of each sealed file of a store."""

    resealed: tuple[str, ...]
    """The new names of those that were sealed for the new key now."""
    already: tuple[str, ...]
    """Those that were sealed for it before."""
    left: tuple[LeftSealed, ...]

    @property
    def complete(self) -> bool:
        """Is everything sealed for the new key? Then the old one opens nothing here."""
        return not self.left


@dataclass(frozen=True, slots=True, kw_only=True)
class _OneKey:
    """A key that is known already, where a provider is asked for."""

    key: "SealingKey"

    def identity(self) -> "SealingKey":
        return self.key


def reseal(store: "Store", *, old_keys: "Iterable[KeyProvider]", keys: "KeyProvider") -> ResealReport:
    """Seal every restore point for the key of `keys`, and the damaged stores that a rescue kept, too.

    What cannot be opened, because it was altered, is missing, or is sealed for a key that was not given, is named in
    `left` and stays. Copies that lie elsewhere stay as they are. Repeating it is safe, also after a crash.
    Raises KeyUnavailable, RestorePointImpossible, DiskFull; what was done before stays done.
    """
    new = keys.identity()
    known = {key.recipient: key for key in (provider.identity() for provider in old_keys)}
    resealed, already, left = [], [], []
    for outcome in (*_points(store, known, new=new), *_damaged(store, known, new=new)):
        match outcome:
            case LeftSealed():
                left.append(outcome)
            case (name, True):
                resealed.append(name)
            case (name, False):
                already.append(name)
    return ResealReport(resealed=tuple(resealed), already=tuple(already), left=tuple(left))


_Outcome = tuple[str, bool] | LeftSealed


def _points(store: "Store", known: _Keys, *, new: "SealingKey") -> Iterator[_Outcome]:
    for point in restore_points(store):
        name = os.path.basename(point.path)
        key = new if point.recipient == new.recipient else known.get(point.recipient)
        if key is None:
            yield LeftSealed(name=name, why="it is sealed for a key that was not given")
            continue
        if key is new and point.state == "good":
            _remove_others(store, point)
            yield name, False
            continue
        try:
            yield _resealed(store, point, key=key, new=new), True
        except (RestorePointUnusable, StoreDamaged) as error:
            yield LeftSealed(name=name, why=error.why)


def _resealed(store: "Store", point: RestorePoint, *, key: "SealingKey", new: "SealingKey") -> str:
    folder = make_restore_folder(store.path)
    check_room(store, folder)
    name = f"{_base(os.path.basename(point.path))}.{fresh_id(system_random())[:12]}{SEALED_ENDS}"
    try:
        with opened_restore_point(store, point.restore_point_id, keys=_OneKey(key=key)) as plain:
            sealed = seal_copy(store.path, str(plain), key=new)
            # Inside, so that whoever removes files that no line names finds this one named.
            with store.transaction(durable=True):
                os.rename(plain.with_name(SEALED_NAME), os.path.join(folder, name))
                sync_folder(folder)
                store.run(
                    "restore_points",
                    "resealed",
                    restore_point_id=point.restore_point_id,
                    path=os.path.join(os.path.basename(folder), name),
                    sha256=sealed.sealed_sha256,
                    size_bytes=sealed.size_bytes,
                    recipient=new.recipient,
                    verified_at=iso(store.clock.now_ms()),
                )
    except OSError as error:
        raise no_disk(error) from error
    _remove_others(store, point)
    return name


def _base(name: str) -> str:
    """What all files of one restore point begin with: its first name, up to the first point."""
    return name.partition(".")[0]


def _remove_others(store: "Store", point: RestorePoint) -> None:
    """Delete the files of a restore point that its line does not name: sealed before, or by a killed process.

    In a transaction of its own, because whoever seals it anew gives the file its name inside of one.
    """
    folder, base = restore_folder(store.path), _base(os.path.basename(point.path))
    try:
        with store.transaction():
            named = store.value("restore_points", "path", restore_point_id=point.restore_point_id)
            for name in os.listdir(folder) if named is not None else ():
                if _base(name) == base and name.endswith(SEALED_ENDS) and name != os.path.basename(str(named)):
                    os.unlink(os.path.join(folder, name))
        sync_folder(folder)
    except OSError as error:
        raise no_disk(error) from error


# Damaged stores that a rescue kept: no line of the table names them.


def _damaged(store: "Store", known: _Keys, *, new: "SealingKey") -> Iterator[_Outcome]:
    folder = restore_folder(store.path)
    names: list[str] = []
    with suppress(FileNotFoundError):
        names = sorted(name for name in os.listdir(folder) if name.endswith(DAMAGED_ENDS))
    for name in names:
        path = os.path.join(folder, name)
        try:
            if _opens(path, key=new):
                yield name, False
            else:
                yield _resealed_damaged(store, path, tuple(known.values()), new=new)
        except OSError as error:
            raise no_disk(error) from error


def _opens(path: str, *, key: "SealingKey") -> bool:
    with open_regular(path) as sealed, suppress(RestorePointUnusable):
        unseal(sealed, None, key=key)
        return True
    return False


def _resealed_damaged(store: "Store", path: str, known: "tuple[SealingKey, ...]", *, new: "SealingKey") -> _Outcome:
    folder, name = os.path.split(path)
    check_room(store, folder)
    key = next((key for key in known if _opens(path, key=key)), None)
    if key is None:
        return LeftSealed(name=name, why="it was altered, or it is sealed for a key that was not given")
    with plain_place(folder) as place:
        plain = os.path.join(place, "opened.db")
        with open_regular(path) as sealed, open(plain, "xb", opener=private_file) as target:
            unseal(sealed, target, key=key)
        seal_copy(store.path, plain, key=new)
        os.replace(os.path.join(place, SEALED_NAME), path)
        sync_folder(folder)
    return name, True


# Old keys that nothing needs any more.


def remove_old_keys(store: "Store", old_keys: "Iterable[KeyFile]", *, report: ResealReport) -> tuple[str, ...]:
    """Delete the key files that no restore point needs any more; their paths. None while something was left sealed.

    Raises KeyUnavailable.
    """
    if not report.complete:
        return ()
    gone = []
    # Inside, so that nobody records a restore point for one of them meanwhile.
    with store.transaction():
        needed = {row[0] for row in store.rows("restore_points", "recipients")}
        for old in old_keys:
            if old.identity().recipient not in needed:
                old.remove()
                gone.append(old.path)
    return tuple(gone)
