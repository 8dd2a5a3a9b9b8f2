"""What `doctor` looks at for the sake of migrations: versions, shapes, what runs left, and the ways back."""

import os
import shutil
import stat
from pathlib import Path

from syncengine.cli.finding import Finding, Verdict
from syncengine.cli.looking import Look
from syncengine.cli.showing import counted
from syncengine.clock import SystemClock, iso
from syncengine.local.process_life import has_ended
from syncengine.local.restore_points import RestorePoint, point_of
from syncengine.migrate.drift import drifts_in
from syncengine.migrate.erasing import read_erasures
from syncengine.settings import Settings

KEY_SUFFIX = ".key"
"""Where the engine keeps its key unless the app says otherwise: beside the store."""
COPIES_FOR_A_RESTORE_POINT = 2
"""A plain one while it is made, and the sealed one."""
OVERDUE_MS = 24 * 3600 * 1000


def versions(look: Look) -> Finding:
    """Can the version table be read?"""
    found = {scope: str(version) for scope, version in look.installed().versions.items()}
    store = found.pop("store", "not migrated yet")
    users = counted(len(found), "user", "users")
    return Finding(check="versions", verdict=Verdict.OK, found=f"the store: {store}; {users}")


def shapes(look: Look) -> Finding:
    """Are the tables as their migrations made them?"""
    drifts = drifts_in(look)
    wrong = [f"{drift.collection}: {', '.join(drift.differences)}" for drift in drifts if drift.differences]
    lost = [f"the {kind} {name} is gone" for drift in drifts for kind, name, _ in drift.lost]
    if wrong:
        return Finding(
            check="shapes",
            verdict=Verdict.BAD,
            found="; ".join(wrong + lost),
            fix="put the tables back as they were, or restore: see `syncengine restore-points`",
        )
    if lost:
        fix = "nothing: the app's next start makes them again"
        return Finding(check="shapes", verdict=Verdict.WARN, found="; ".join(lost), fix=fix)
    more = "; ".join(note for drift in drifts for note in drift.noted)
    return Finding(check="shapes", verdict=Verdict.OK, found=more or "all tables are as their migrations made them")


def unfinished(look: Look) -> Finding:
    """Large migrations that are under way, and tables that no run owns."""
    torn = [str(table) for table, _ in look.rows("opening", "torn")]
    if torn:
        return Finding(
            check="unfinished",
            verdict=Verdict.WARN,
            found=f"no migration owns {', '.join(torn)}",
            fix="the app's next start drops them if they are empty; else look at their rows, then drop them",
        )
    under_way = look.rows("looks", "under_way")
    if not under_way:
        return Finding(check="unfinished", verdict=Verdict.OK, found="no migration is under way")
    is_running = any(not has_ended(pid) for _, _, pid, _, _ in look.rows("opening", "leases"))
    return Finding(
        check="unfinished",
        verdict=Verdict.OK if is_running else Verdict.WARN,
        found="; ".join(f"{name}: {state}, {read} of {total} rows" for name, state, read, total in under_way),
        fix="" if is_running else "nobody works at it: the app's next migrate() goes on where it was",
    )


def kept_tables(look: Look) -> Finding:
    """Old tables that stay as a way back."""
    kept = look.rows("looks", "kept_tables")
    late = iso(SystemClock().now_ms() - OVERDUE_MS)
    overdue = [name for name, until in kept if until < late]
    if overdue:
        return Finding(
            check="kept tables",
            verdict=Verdict.WARN,
            found=f"{', '.join(overdue)}: their time is over",
            fix="the app's next migrate() deletes them",
        )
    found = "; ".join(f"{name} until {until}" for name, until in kept)
    return Finding(check="kept tables", verdict=Verdict.OK, found=found or "none")


def restore_points(look: Look) -> Finding:
    """Each sealed copy is read and compared with its hash."""
    points = [point_of(row, store_path=look.path) for row in look.rows("restore_points", "kept")]
    lost = [f"{point.restore_point_id} is {point.state}" for point in points if point.state != "good"]
    if lost:
        return Finding(
            check="restore points",
            verdict=Verdict.WARN,
            found=", ".join(lost),
            fix="they are no way back any more; make a new one: `syncengine restore-points make`",
        )
    old = [point for point in points if _is_overdue(point)]
    if old:
        found = f"{counted(len(old), 'is', 'are')} older than wanted"
        return Finding(
            check="restore points", verdict=Verdict.WARN, found=found, fix="the app's next migrate() deletes them"
        )
    newest = f", the newest of {points[-1].made_at}" if points else ""
    return Finding(check="restore points", verdict=Verdict.OK, found=f"{len(points)} good{newest}")


def _is_overdue(point: RestorePoint) -> bool:
    return point.keep_until < iso(SystemClock().now_ms() - OVERDUE_MS)


def erasures(look: Look) -> Finding:
    """What may still hold values that a migration has erased."""
    state = read_erasures(look)
    if not state.unfinished and not state.quarantined:
        return Finding(check="erasures", verdict=Verdict.OK, found="nothing that was erased is left")
    found, fix = [], []
    if state.unfinished:
        found.append(f"what {', '.join(state.unfinished)} erased may still be in a file")
        fix.append("the app's next start goes on, when nobody else has the store open and nothing waits to be sent")
    if state.quarantined:
        found.append(f"quarantine items hold old values: {', '.join(map(str, state.quarantined))}")
        fix.append("retry or discard each: see `syncengine quarantine`")
    return Finding(check="erasures", verdict=Verdict.WARN, found="; ".join(found), fix="; ".join(fix))


def leases(look: Look) -> Finding:
    """Who has the right to migrate."""
    held = look.rows("opening", "leases")
    dead = [str(pid) for _, _, pid, _, _ in held if has_ended(pid)]
    if dead:
        return Finding(
            check="leases",
            verdict=Verdict.WARN,
            found=f"held by process {', '.join(dead)}, which has ended",
            fix="nothing: the app's next start gives it back",
        )
    found = ", ".join(f"{name} is held by process {pid}" for name, _, pid, _, _ in held)
    return Finding(check="leases", verdict=Verdict.OK, found=found or "none is held")


def key_file(look: Look) -> Finding:
    """Who may read the key of the restore points, where it is a file beside the store."""
    path = Path(look.path + KEY_SUFFIX)
    if not path.exists():
        return Finding(check="key file", verdict=Verdict.OK, found="none beside the store")
    mode = stat.S_IMODE(path.lstat().st_mode)
    if os.name == "posix" and (mode & (stat.S_IRWXG | stat.S_IRWXO) or path.is_symlink()):
        return Finding(
            check="key file",
            verdict=Verdict.BAD,
            found=f"{path.name} is {'a link' if path.is_symlink() else f'{mode:04o}'}",
            fix="make it a plain file of its owner with mode 600; who could read it can read the restore points",
        )
    return Finding(check="key file", verdict=Verdict.OK, found=f"{path.name} is open to its owner alone")


def space(look: Look) -> Finding:
    """Is there room for what a migration makes?"""
    free = shutil.disk_usage(Path(look.path).resolve().parent).free
    needed = COPIES_FOR_A_RESTORE_POINT * Path(look.path).stat().st_size + Settings().restore_point_free_bytes_min
    found = f"{free // 1_000_000} MB free"
    if free < needed:
        fix = f"free some space: a migration needs {needed // 1_000_000} MB for its restore point"
        return Finding(check="disk space", verdict=Verdict.WARN, found=found, fix=fix)
    return Finding(check="disk space", verdict=Verdict.OK, found=found)
