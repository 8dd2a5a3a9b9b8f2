"""The `sqlite3` command line as an independent witness: what anybody would see, and whether a file is whole."""

import shutil
import subprocess
from pathlib import Path

from simulator.store_sight import BUSY_WAIT_MS_MAX, sight

SHELL_SECONDS_MAX = 30.0


def is_installed() -> bool:
    """Whether this machine has the command line."""
    return shutil.which("sqlite3") is not None


def show(store: Path, sql: str) -> list[str]:
    """The lines of a boxed answer, under the command that gives them; without the command line, by the engine."""
    if not is_installed():
        return [f"(no sqlite3 command line here; read by the engine) {sql}", *_plain(store, sql)]
    command = f'$ sqlite3 -readonly -box {store.name} "{sql}"'
    return [command, *_shell(store, sql, "-box").splitlines()]


def damage(store: Path) -> str:
    """What `PRAGMA integrity_check` finds wrong; empty for a file that is whole. Written by nobody meanwhile."""
    sql = "PRAGMA integrity_check"
    found = _shell(store, sql).splitlines() if is_installed() else _plain(store, sql)
    return "" if found == ["ok"] else "; ".join(found)


def _shell(store: Path, sql: str, *options: str) -> str:
    command = ["sqlite3", "-readonly", "-bail", "-cmd", f".timeout {BUSY_WAIT_MS_MAX}", *options, str(store), sql]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SHELL_SECONDS_MAX, check=False)
    return done.stdout if done.returncode == 0 else f"sqlite3 failed: {done.stderr.strip()}"


def _plain(store: Path, sql: str) -> list[str]:
    with sight(store) as seen:
        return ["  ".join(str(value) for value in row) for row in seen.rows(sql)]
