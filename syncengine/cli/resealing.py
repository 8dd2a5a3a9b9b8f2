"""`restore-points new-key` and `restore-points reseal`: after others may have seen the key."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from syncengine.cli.command import EngineCommand, wants_json
from syncengine.cli.exit_codes import Exit
from syncengine.cli.options import json_option, store_option
from syncengine.cli.restoring import check_there, given_store, key_file_of, key_file_option
from syncengine.cli.showing import counted, printable, show_json

if TYPE_CHECKING:
    from syncengine.local.resealing import ResealReport
    from syncengine.local.store import Store


@click.command("new-key", cls=EngineCommand)
@store_option(required=False)
@key_file_option()
def new_key(store: str | None, key_file: str | None) -> Exit:
    """Put a new key into the key file. The old one stays beside it until `reseal` needs it no more."""
    from syncengine.clock import SystemClock

    path = given_store()
    check_there(path)
    keys = key_file_of(path, key_file)
    kept = keys.renew(SystemClock())
    click.echo(printable(f"{keys.path} is a new key. The old one is in {kept}"))
    click.echo("Next: syncengine restore-points reseal")
    return Exit.DONE


@click.command(cls=EngineCommand)
@store_option(required=False)
@key_file_option()
@click.option(
    "--old-key",
    "old_key",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    multiple=True,
    help="A key that opens some of them; it is never deleted. Repeatable. Those of `new-key` need not be named.",
)
@json_option()
def reseal(store: str | None, key_file: str | None, old_key: tuple[str, ...], as_json: bool) -> Exit:
    """Seal every restore point for the present key. Old keys that `new-key` kept are deleted when none needs them.

    Exit status 1 when one could not be opened: it is named, and stays as it is.
    """
    from syncengine.local.keys import KeyFile
    from syncengine.local.resealing import remove_old_keys
    from syncengine.local.resealing import reseal as seal_anew

    path = given_store()
    check_there(path)
    keys = key_file_of(path, key_file)
    kept = keys.old_keys()
    with _opened(path) as opened:
        report = seal_anew(opened, old_keys=(*kept, *map(KeyFile, old_key)), keys=keys)
        gone = remove_old_keys(opened, kept, report=report)
    if wants_json(click.get_current_context()):
        show_json({**asdict(report), "keys_deleted": gone})
    else:
        _show(report, gone)
    return Exit.DONE if report.complete else Exit.ERROR


@contextmanager
def _opened(path: str) -> "Iterator[Store]":
    from syncengine.clock import SystemClock
    from syncengine.local.store import Store
    from syncengine.settings import Settings

    opened = Store(path, settings=Settings(), clock=SystemClock())
    try:
        yield opened
    finally:
        opened.close()


def _show(report: "ResealReport", gone: tuple[str, ...]) -> None:
    click.echo(f"{counted(len(report.resealed), 'file', 'files')} sealed anew, {len(report.already)} were already.")
    for left in report.left:
        click.echo(printable(f"{left.name} was left: {left.why}"))
    for path in gone:
        click.echo(printable(f"The old key {path} was deleted."))
