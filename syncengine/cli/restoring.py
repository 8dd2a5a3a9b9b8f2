"""`restore-points`: list the sealed copies of a store, make one, go back to one."""

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from syncengine.cli.command import EngineCommand, EngineGroup, wants_json
from syncengine.cli.exit_codes import Exit
from syncengine.cli.options import Function, app_option, json_option, source_option, store_option, user_option
from syncengine.cli.showing import counted, printable, show_json, show_table

if TYPE_CHECKING:
    from syncengine.local.keys import KeyFile
    from syncengine.local.restore_points import RestorePoint
    from syncengine.local.restoring import RestoreReport
    from syncengine.migrate.registry import MigrationRegistry

RESCUE = "syncengine restore-points rescue FILE (the newest is the last of the list)."
COLUMNS = ("id", "state", "made_at", "version", "mb", "keep_until", "reason", "file")
CHANGES = ("collection", "owner", "lost", "returned")


def key_file_option() -> Callable[[Function], Function]:
    return click.option(
        "--key-file",
        metavar="PATH",
        envvar="SYNCENGINE_KEY_FILE",
        show_envvar=True,
        help="The key that seals them; without it the file beside the store that ends in .key.",
    )


@click.group("restore-points", cls=EngineGroup, invoke_without_command=True)
@store_option(required=False)
@json_option()
def restore_points(store: str | None, as_json: bool) -> Exit:
    """The sealed copies of the store that are kept, oldest first; each file is compared with its hash.

    Exit status 1 when a file is missing or altered, else 0.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return Exit.DONE
    from syncengine.cli.looking import looking_at
    from syncengine.errors import StoreDamaged
    from syncengine.local.restore_points import point_of

    path = os.path.realpath(given_store())
    try:
        with looking_at(path) as look:
            points = [point_of(row, store_path=path) for row in look.rows("restore_points", "kept")]
    except StoreDamaged as error:
        if not as_json:
            _show_files(path)
        error.fix = "Copy the file with its -wal, close the app, and put a sealed file in its place: " + RESCUE
        raise
    if as_json:
        show_json([asdict(point) for point in points])
    elif points:
        show_table(COLUMNS, [_line(point) for point in points])
    else:
        click.echo("There is no restore point.")
    return Exit.DONE if all(point.state == "good" for point in points) else Exit.ERROR


def _show_files(store: str) -> None:
    """What lies beside a store whose own list cannot be read; whether a file is good is seen when it is opened."""
    from syncengine.local.rescuing import sealed_files

    files = sealed_files(store)
    if files:
        show_table(("file", "mb"), [(printable(path), f"{size_bytes / 1_000_000:.1f}") for path, size_bytes in files])
    else:
        click.echo("There is no restore point.")


def given_store() -> str:
    """The store, said to `restore-points` or to a command of it."""
    ctx = click.get_current_context()
    store = ctx.params.get("store") or (ctx.parent and ctx.parent.params.get("store"))
    if not store:
        raise click.UsageError("Missing option '--store' (or SYNCENGINE_STORE).", ctx)
    return str(store)


def _line(point: "RestorePoint") -> tuple[Any, ...]:
    megabytes = f"{point.size_bytes / 1_000_000:.1f}"
    facts = (point.restore_point_id, point.state, point.made_at, point.schema_version, megabytes, point.keep_until)
    return (*facts, point.reason, os.path.basename(point.path))  # noqa: PTH119  (pathlib is slow to import)


def check_there(path: str) -> None:
    """Neither command makes a store. Raises StoreMissing, StoreForeign."""
    from syncengine.cli.looking import looking_at

    with looking_at(path):
        return


def key_file_of(store: str, key_file: str | None) -> "KeyFile":
    from syncengine.local.keys import KEY_FILE_ENDS, KeyFile

    return KeyFile(key_file or os.path.realpath(store) + KEY_FILE_ENDS)


@restore_points.command(cls=EngineCommand)
@store_option(required=False)
@key_file_option()
@click.option("--reason", default="made by hand", show_default=True, help="What the list will say of it.")
@json_option()
def make(store: str | None, key_file: str | None, reason: str, as_json: bool) -> Exit:
    """Seal a copy of the store as it is now. Apps may go on writing meanwhile."""
    from syncengine.clock import SystemClock
    from syncengine.local.restore_points import make_restore_point
    from syncengine.local.store import Store
    from syncengine.settings import Settings

    path = given_store()
    check_there(path)
    opened = Store(path, settings=Settings(), clock=SystemClock())
    try:
        point = make_restore_point(opened, keys=key_file_of(path, key_file), reason=reason)
    finally:
        opened.close()
    if wants_json(click.get_current_context()):
        show_json(asdict(point))
    else:
        show_table(COLUMNS, [_line(point)])
    return Exit.DONE


@restore_points.command(cls=EngineCommand)
@click.argument("restore_point", type=click.IntRange(1, 2**63 - 1))
@store_option(required=False)
@app_option(required=True)
@user_option()
@source_option()
@click.option("--consent", "consent", metavar="ID", multiple=True, help="Another user who has agreed. Repeatable.")
@click.option("--simulate", is_flag=True, help="Say what it would lose, and change nothing.")
@key_file_option()
@json_option()
def restore(
    restore_point: int,
    store: str | None,
    registry: "MigrationRegistry",
    user: str | None,
    sources: dict[str, str],
    consent: tuple[str, ...],
    simulate: bool,
    key_file: str | None,
    as_json: bool,
) -> Exit:
    """Take the whole store back to a restore point.

    The store as it is now is sealed first. What going back loses is in quarantine afterwards; exit status 4 then.
    """
    from syncengine.engine import Engine

    path = given_store()
    check_there(path)
    keys = key_file_of(path, key_file)
    with Engine.open(path, registry=registry, user=user, sources=sources, keys=keys) as engine:
        report = engine.restore(restore_point, simulate=simulate, consent=consent)
    if wants_json(click.get_current_context()):
        show_json({**asdict(report), "lost": report.lost})
    else:
        _show(report)
    return Exit.QUARANTINE if report.lost and not simulate else Exit.DONE


@restore_points.command(cls=EngineCommand)
@click.argument("sealed", metavar="FILE")
@store_option(required=False)
@key_file_option()
@click.option("--yes", is_flag=True, help="Also in the place of a store that can be read, without a question.")
@json_option()
def rescue(sealed: str, store: str | None, key_file: str | None, yes: bool, as_json: bool) -> Exit:
    """Put a sealed file in the place of a store that cannot be read any more.

    Close the app first. A store that can be read is replaced only if you say so: `restore` goes back in it. The
    damaged store is sealed as it is, beside the restore points. The store that comes back is a new device to the
    cloud; what waited in its queue is in quarantine, and exit status 4 says so.
    """
    from syncengine.clock import SystemClock
    from syncengine.local.rescuing import rescue as put_in_place
    from syncengine.settings import Settings

    path = given_store()
    if not yes and _can_be_read(path):
        click.confirm(
            f"{printable(path)} can be read. Put the sealed file in its place all the same?", abort=True, err=True
        )
    keys = key_file_of(path, key_file)
    report = put_in_place(path, sealed, keys=keys, settings=Settings(), clock=SystemClock())
    if wants_json(click.get_current_context()):
        show_json(asdict(report))
    else:
        click.echo(printable(f"The store is at version {report.schema_version or 'none'} again."))
        for file in report.damaged:
            click.echo(printable(f"The damaged file is in {file}"))
        if report.entries_set_aside:
            click.echo(f"{counted(report.entries_set_aside, 'entry', 'entries')} of the queue went to quarantine.")
    return Exit.QUARANTINE if report.entries_set_aside else Exit.DONE


def _can_be_read(path: str) -> bool:
    from syncengine.cli.checks import examined
    from syncengine.cli.finding import Verdict
    from syncengine.errors import SyncEngineError

    try:
        findings = examined(path)
    except SyncEngineError:
        return False
    return all(finding.verdict is not Verdict.BAD for finding in findings)


def _show(report: "RestoreReport") -> None:
    would = "would go" if report.simulated else "went"
    click.echo(
        f"The store {would} back to {report.made_at}, from version {report.from_version} to {report.to_version}."
    )
    if report.changes:
        rows = [(change.collection, change.owner or "", change.lost, change.returned) for change in report.changes]
        show_table(CHANGES, rows)
    for migration, scope in report.undone:
        click.echo(printable(f"not done any more: {migration} ({scope})"))
    if report.lost:
        set_aside = (
            counted(report.lost, "row goes", "rows go")
            if report.simulated
            else counted(report.lost, "row is", "rows are")
        )
        click.echo(f"{set_aside} to quarantine." if report.simulated else f"{set_aside} in quarantine.")
    if report.sealed_before is not None:
        click.echo(f"The store as it was just before is restore point {report.sealed_before}.")
