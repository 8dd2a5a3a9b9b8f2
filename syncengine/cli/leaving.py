"""`logout` and `wipe`: what becomes of a user's unsent changes, and taking a user off this device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from syncengine.cli.command import EngineCommand
from syncengine.cli.exit_codes import Exit
from syncengine.cli.options import app_option, json_option, store_option, user_option
from syncengine.cli.showing import counted, show_json

if TYPE_CHECKING:
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.users import WipeReport


@click.command(cls=EngineCommand)
@store_option()
@app_option(required=True)
@user_option(required=True)
@click.option(
    "--unsent",
    type=click.Choice(["refuse", "keep", "export", "destroy"]),
    default="refuse",
    show_default=True,
    help="What becomes of changes that are on this device alone.",
)
@click.option("--export-to", type=click.Path(dir_okay=False), help="The new file for --unsent export (0600).")
@json_option()
def logout(
    store: str, registry: "MigrationRegistry", user: str, unsent: str, export_to: str | None, as_json: bool
) -> Exit:
    """Settle what a user has not sent, as the app does when they sign out. End the app first.

    After `export` and `destroy` none of the user's rows is left; the next sign-in reads the cloud from the start.
    """
    from syncengine.cli.looking import looking_at
    from syncengine.engine import Engine

    _check_file(unsent, export_to)
    with looking_at(store):
        pass  # a wrong path must not become a new store
    with Engine.open(store, registry=registry, user=user) as engine, _fixes_name_options("keep, export or destroy"):
        report = engine.logout(unsent=unsent, export_to=export_to)
    if as_json:
        show_json({"unsent": report.unsent.count, "became": report.became, "exported_to": report.exported_to})
    else:
        was = counted(report.unsent.count, "change was", "changes were")
        click.echo(f"{was} on this device alone: {report.became}")
    return Exit.DONE


@click.command(cls=EngineCommand)
@click.argument("user")
@store_option()
@app_option(required=True)
@click.option(
    "--unsent",
    type=click.Choice(["refuse", "export", "destroy"]),
    default="refuse",
    show_default=True,
    help="What becomes of changes that are on this device alone.",
)
@click.option("--export-to", type=click.Path(dir_okay=False), help="The new file for --unsent export (0600).")
@click.option("--delete-restore-points", is_flag=True, help="Also the sealed copies that hold rows of the user.")
@json_option()
def wipe(
    user: str,
    store: str,
    registry: "MigrationRegistry",
    unsent: str,
    export_to: str | None,
    delete_restore_points: bool,
    as_json: bool,
) -> Exit:
    """Take a user off this device: rows, queue, quarantine, history, and their bytes in the store's files.

    Other users' rows stay as they are. End the app first. Exit status 3 when another process still reads what was;
    the next start of the app goes on.
    """
    from syncengine.cli.looking import looking_at
    from syncengine.engine import Engine

    _check_file(unsent, export_to)
    with looking_at(store):
        pass  # a wrong path must not become a new store
    with Engine.open(store, registry=registry) as engine, _fixes_name_options("export or destroy"):
        report = engine.wipe(
            user,
            unsent=unsent,
            export_to=export_to,
            restore_points="delete" if delete_restore_points else "refuse",
        )
    _show(report, as_json=as_json)
    return Exit.DONE if report.finished else Exit.WAITING


def _show(report: "WipeReport", *, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "rows": report.rows,
                "unsent": report.unsent.count,
                "exported_to": report.exported_to,
                "restore_points": report.restore_points,
                "finished": report.finished,
            }
        )
        return
    click.echo(f"{counted(sum(report.rows.values()), 'row was', 'rows were')} taken off this device")
    if report.restore_points:
        click.echo(f"restore points deleted: {', '.join(map(str, report.restore_points))}")
    if not report.finished:
        click.echo("Their bytes may still lie in a file that another process reads; the next start goes on.")


@contextmanager
def _fixes_name_options(unsent: str) -> Iterator[None]:
    """What the API says of its arguments, for who calls the command."""
    from syncengine.errors import UnsentChanges, WipeRefused

    try:
        yield
    except UnsentChanges as error:
        error.fix = f"Sync first, or say what becomes of them: --unsent {unsent}. Nothing was changed."
        raise
    except WipeRefused as error:
        named = "--delete-restore-points deletes them:"
        error.fix = (error.fix or "").replace('Say restore_points="delete":', named)
        raise


def _check_file(unsent: str, export_to: str | None) -> None:
    if unsent == "export" and export_to is None:
        raise click.UsageError("--unsent export needs a new file: give --export-to FILE.")
    if unsent != "export" and export_to is not None:
        raise click.UsageError("--export-to names the file of --unsent export, and of nothing else.")
