"""Several processes that start at once: one run of each migration, and the data of a single start."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from syncengine.clock import SystemClock
from syncengine.local.store import Store
from syncengine.settings import Settings
from syncengine.testing.contents import LeftOut, contents_of

STARTER_WAIT_S_MAX = 100
"""A process that has not ended by then is killed, and the check fails."""


def two_starters(
    path: Path,
    *,
    registry: str,
    user: str | None = None,
    sources: Mapping[str, str] | None = None,
    starters: int = 2,
    leave_out: LeftOut | None = None,
) -> None:
    """Migrate the store at `path` from several processes at once, as when a person opens the app twice.

    `registry` says where to import it: "notes:REGISTRY", or "notes:registry" for a function without arguments. Nobody
    may fail, each migration must have run once, and the store must hold what a single start makes of a copy of it.
    Raises AssertionError.
    """
    alone = path.with_name("alone-" + path.name)
    for found in path.parent.glob(path.name + "*"):  # its -wal, its key, its restore points
        copy = found.with_name("alone-" + found.name)
        if found.is_dir():
            shutil.copytree(found, copy)
        elif not found.name.endswith("-shm"):
            shutil.copy(found, copy)
    order = json.dumps({"registry": registry, "user": user, "sources": dict(sources or {})})
    _start(alone, order, count=1)
    _start(path, order, count=starters)
    twice = _runs(path, "GROUP BY migration, scope, state HAVING count(*) > 1")
    assert not twice, f"{starters} starters ran more than once: {', '.join(twice)}"
    wanted = contents_of(alone, leave_out=leave_out)
    differences = wanted.differences(contents_of(path, leave_out=leave_out))
    assert not differences, f"{starters} starters made other data than one: {'; '.join(differences)}"


def _start(path: Path, order: str, *, count: int) -> None:
    """All begin when all are there."""
    command = [sys.executable, "-m", "syncengine.testing.starter", str(path), order]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with ExitStack() as stack:
        running = [stack.enter_context(_process(command, environment)) for _ in range(count)]
        for one in running:
            assert one.stdout is not None
            one.stdout.readline()  # it has imported everything
        for one in running:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        answers = [one.communicate(timeout=STARTER_WAIT_S_MAX) for one in running]
        failed = [said for one, (_, said) in zip(running, answers, strict=True) if one.returncode]
    assert not failed, f"{len(failed)} of {count} starters failed:\n{failed[0]}"


def _process(command: list[str], environment: Mapping[str, Any]) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603  (this Python, and a module of ours)
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _runs(path: Path, having: str) -> list[str]:
    store = Store(str(path), settings=Settings(), clock=SystemClock())
    try:
        return [str(name) for (name,) in store.query(f"SELECT migration FROM _sync_run {having}")]
    finally:
        store.close()
