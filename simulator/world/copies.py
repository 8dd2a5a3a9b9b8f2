"""Before a migration that makes all rows anew there is a sealed copy, which opens and holds them."""

from typing import TYPE_CHECKING

import pyrage  # type: ignore[import-untyped]  # no stubs exist

from simulator.world.disk import damage_in, rows_in
from simulator.world.ground import PromiseBroken
from simulator.world.store_checks import RowsThere
from simulator.world.words import words_in
from syncengine.local.keys import KEY_BEGINS, KEY_FILE_ENDS

if TYPE_CHECKING:
    from simulator.world.device import Device

_COPIES = (
    "SELECT run.migration, copy.path FROM _sync_run AS run"
    " LEFT JOIN _sync_restore_point AS copy USING (restore_point_id)"
    " WHERE run.run_id > ? AND run.state = 'completed' AND run.scope = 'store'"
)


def check_copies(device: "Device", before: RowsThere, *, shown: frozenset[str]) -> None:
    """P7, P12: each step that made rows anew has its sealed copy; a person opens it, and nobody else reads it.

    `shown`: the values that all rows had before the first of them.
    """
    if not device.app.keeps_copies or not any(before.counts.values()):
        return
    paths: set[str] = set()
    for migration, path in device.store.query(_COPIES, (before.last_run,)):
        if not device.app.rewritten_by(migration):
            continue
        if path is None:
            raise PromiseBroken(f"P7: {migration} made rows of {device.name} anew, and no copy was made before")
        paths.add(path)
    for path in sorted(paths)[:1]:
        check_copy_opens(device, path, shown=shown)


def check_copy_opens(device: "Device", path: str, *, shown: frozenset[str]) -> None:
    """P7: whoever has the key gets a whole store with all values; P12: whoever has it not gets none."""
    file = device.path.parent / path
    if not file.exists():
        raise PromiseBroken(f"P7: the copy of {device.name} is not there")
    sealed = file.read_bytes()
    if any(word.encode() in sealed for word in shown):
        raise PromiseBroken(f"P12: the copy of {device.name} can be read without its key")
    try:
        plain = pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(_key_of(device))])
    except pyrage.DecryptError as error:
        raise PromiseBroken(f"P7: the copy of {device.name} cannot be opened: {error}") from error
    if damage := damage_in(plain):
        raise PromiseBroken(f"P7: the copy of {device.name} is no whole store: {damage}")
    held = words_in(str(rows_in(plain, device.app.shapes)))
    if lost := shown - held:
        raise PromiseBroken(f"P7: the copy of {device.name} has no {min(lost)}")


def _key_of(device: "Device") -> str:
    lines = device.path.with_name(device.path.name + KEY_FILE_ENDS).read_text(encoding="ascii").splitlines()
    return next(line for line in lines if line.startswith(KEY_BEGINS))
