"""`pause`, `resume` and `cancel` a migration that another process runs, `skip` one, and `verify` the rows."""

from typing import TYPE_CHECKING

import click

from syncengine.cli.command import EngineCommand
from syncengine.cli.exit_codes import Exit
from syncengine.cli.options import app_option, json_option, store_option, user_option
from syncengine.cli.showing import counted, printable, show_json, show_table

if TYPE_CHECKING:
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.results import MigrationResult

VERIFIED = ("collection", "rows", "right", "wrong")


@click.command(cls=EngineCommand)
@store_option()
@app_option(required=True)
def pause(store: str, registry: "MigrationRegistry") -> Exit:
    """Ask the process that rewrites a large collection to stop after its present batch. What it has done is kept.

    The pause lasts until the next migrate, of the app or of the command line. Where no process is at it, the next
    migrate hears it and stops at once. Exit status 3 when something was paused, 0 when nothing runs.
    """
    return _told(store, registry, "pause")


@click.command(cls=EngineCommand)
@store_option()
@app_option(required=True)
def resume(store: str, registry: "MigrationRegistry") -> Exit:
    """Take back a pause that no process has heard yet, and say how to go on after one.

    Runs nothing itself: the next migrate, of the app or of the command line, goes on at the last batch.
    Exit status 3 when something is left to migrate, else 0.
    """
    return _told(store, registry, "resume")


@click.command(cls=EngineCommand)
@store_option()
@app_option(required=True)
def cancel(store: str, registry: "MigrationRegistry") -> Exit:
    """Give up the rewriting of a large collection: the store stays as it was before it.

    A process that runs it undoes it after its present batch; where none does, it is undone here. Exit status 3
    when something was cancelled, 0 when nothing runs.
    """
    return _told(store, registry, "cancel")


def _told(store: str, registry: "MigrationRegistry", what: str) -> Exit:
    from syncengine.engine import Engine

    _refuse_missing(store)
    with Engine.open(store, registry=registry) as engine:
        migrations = engine.migrations
        running = migrations.rewriting()
        {"pause": migrations.pause, "resume": migrations.resume, "cancel": migrations.cancel}[what]()
        for collection, migration in sorted(running.items()):
            click.echo(printable(f"{what}: {migration}, which rewrites {collection}"))
        if what == "resume" and running:
            click.echo("now: syncengine migrate")
    if not running:
        click.echo("No large collection is being rewritten. A migration in one transaction is stopped by Ctrl-C.")
    return Exit.WAITING if running else Exit.DONE


def _refuse_missing(store: str) -> None:
    from syncengine.cli.looking import opened

    with opened(store):
        pass


@click.command(cls=EngineCommand)
@store_option()
@app_option(required=True)
@user_option()
@click.argument("migration")
@click.option("--reason", default="left out by hand", show_default=True, help="For the history.")
def skip(store: str, registry: "MigrationRegistry", user: str | None, migration: str, reason: str) -> Exit:
    """Leave out a migration that is not critical, and what waits for it. `migrate --only ID` does it all the same."""
    from syncengine.engine import Engine

    _refuse_missing(store)
    with Engine.open(store, registry=registry, user=user) as engine:
        engine.migrations.skip(migration, user, reason)
    click.echo(printable(f"skipped: {migration}"))
    return Exit.DONE


@click.command(cls=EngineCommand)
@store_option()
@app_option(required=True)
@user_option()
@click.option("--collection", "names", multiple=True, metavar="NAME", help="Only this one. Repeatable.")
@json_option()
def verify(
    store: str, registry: "MigrationRegistry", user: str | None, names: tuple[str, ...], as_json: bool
) -> Exit:
    """Check every stored row against the shape that its last migration gave it. Changes nothing.

    Says key and field of what is wrong, never the value. Exit status 1 when a row is wrong, else 0.
    """
    from syncengine.engine import Engine

    _refuse_missing(store)
    unknown = sorted(set(names) - set(registry.collections))
    if unknown:
        raise click.UsageError(f"The app has no collection {', '.join(unknown)}.")
    with Engine.open(store, registry=registry, user=user) as engine:
        looked_at = {
            name: engine.migrations.validate_migrated_data(user, name)
            for name in names or tuple(registry.collections)
        }
    # A collection of a later version has no table yet; one that was asked for by name should have.
    found = {name: result for name, result in looked_at.items() if name in names or not _has_no_table(result)}
    _show_verified(found, as_json=as_json)
    return Exit.DONE if all(result.success for result in found.values()) else Exit.ERROR


def _has_no_table(result: "MigrationResult") -> bool:
    return result.counts.read == 0 and any("no such table" in error for error in result.errors)


def _show_verified(found: "dict[str, MigrationResult]", *, as_json: bool) -> None:
    if as_json:
        show_json({name: result.to_json() for name, result in found.items()})
        return
    rows = [
        (name, result.counts.read, result.counts.written, result.counts.quarantined) for name, result in found.items()
    ]
    show_table(VERIFIED, rows)
    for result in found.values():
        for error in result.errors:
            click.echo(printable(f"wrong: {error}"), err=True)
    wrong = sum(result.counts.quarantined for result in found.values())
    click.echo(f"{counted(wrong, 'row is', 'rows are')} not of the shape that they should have.")
