"""`rollback`: say what goes back, ask, and take it back in one transaction."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from syncengine.cli.command import EngineCommand, is_terminal
from syncengine.cli.exit_codes import Exit
from syncengine.cli.options import app_option, json_option, source_option, store_option, user_option
from syncengine.cli.showing import counted, printable, show_json

if TYPE_CHECKING:
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.rollback_report import RollbackReport
    from syncengine.migrate.service import DataMigrationService


@click.command(cls=EngineCommand)
@click.argument("migration", metavar="[ID]", required=False)
@click.option("--to", "version", metavar="VERSION", help="Everything that led past this version, for all users.")
@store_option()
@app_option(required=True)
@user_option()
@source_option()
@click.option(
    "--emergency",
    is_flag=True,
    help="In place of one migration: the whole store as its newest good restore point has it, at once.",
)
@click.option("--simulate", is_flag=True, help="Say what would be done; change nothing.")
@click.option(
    "--on-collision",
    type=click.Choice(["stop", "keep", "overwrite"]),
    default="stop",
    show_default=True,
    help="What becomes of rows that cannot go back as they are: nothing is done; they go to quarantine; the same, "
    "and the rows of before take the place of what was edited since.",
)
@click.option("--why", default="", metavar="TEXT", help="Kept in the history.")
@click.option("--yes", is_flag=True, help="Ask nothing: the other users whose rows go back have agreed.")
@json_option()
def rollback(  # noqa: PLR0913  (one for each option)
    *,
    migration: str | None,
    version: str | None,
    emergency: bool,
    store: str,
    registry: "MigrationRegistry",
    user: str | None,
    sources: dict[str, str],
    simulate: bool,
    on_collision: str,
    why: str,
    yes: bool,
    as_json: bool,
) -> Exit:
    """Undo a migration and all that builds on it, or with --to all that led past a version.

    One transaction: all of it, or nothing. What was rolled back runs again when it is asked for, or when its code is
    another. --emergency goes back for all users to the newest good restore point; what is newer goes to quarantine.
    Exit status 1 when nothing was done, 4 when rows were set aside, else 0.
    """
    from syncengine.cli.looking import looking_at
    from syncengine.engine import Engine
    from syncengine.settings import Settings

    if (migration is not None) + (version is not None) + emergency != 1:
        raise click.UsageError("Name one migration, or a version with --to, or --emergency.")
    with looking_at(store):
        pass  # a store that is not there is not made
    settings = Settings(developer_mode=emergency)
    with Engine.open(store, registry=registry, user=user, sources=sources, settings=settings) as engine:
        asked = _Asked(engine.migrations, migration, version, user=user, on_collision=on_collision, why=why)
        report = asked.simulated()
        if not simulate:
            with _fixes_name_options():
                report = _done(asked, report, yes=yes, as_json=as_json)
    if as_json:
        show_json(report.to_json())
    else:
        click.echo(printable(str(report), keep="\n"))
        _say_what_is_next(report, simulate=simulate)
    return _status(report)


class _Asked:
    """The same question, with and without consequences."""

    def __init__(
        self,
        migrations: "DataMigrationService",
        migration: str | None,
        version: str | None,
        *,
        user: str | None,
        on_collision: str,
        why: str,
    ) -> None:
        self._migrations = migrations
        self._migration = migration
        self._version = version
        self._user = user
        self._on_collision = on_collision
        self._why = why

    @property
    def is_emergency(self) -> bool:
        """Is the whole store meant?"""
        return self._migration is None and self._version is None

    def simulated(self) -> "RollbackReport":
        """What would be done."""
        if self.is_emergency:
            return self._migrations.rollback("", self._user, simulate=True, emergency=True)
        if self._version is not None:
            return self._migrations.rollback_to(self._version, self._user, simulate=True)
        return self._migrations.rollback(str(self._migration), self._user, simulate=True)

    def done(self, *, consent: tuple[str, ...]) -> "RollbackReport":
        """Do it; the users of `consent` have agreed."""
        if self.is_emergency:
            return self._migrations.rollback("", self._user, why=self._why, emergency=True)
        if self._version is not None:
            return self._migrations.rollback_to(
                self._version, self._user, on_collision=self._on_collision, consent=consent, why=self._why
            )
        return self._migrations.rollback(
            str(self._migration), self._user, on_collision=self._on_collision, consent=consent, why=self._why
        )


@contextmanager
def _fixes_name_options() -> Iterator[None]:
    """What the API says of its arguments, for who calls the command."""
    from syncengine.errors import RollbackRefused

    try:
        yield
    except RollbackRefused as error:
        said = "say with --yes that they have agreed."
        error.fix = (error.fix or "").replace("name them in consent=.", said)
        raise


def _done(asked: _Asked, simulated: "RollbackReport", *, yes: bool, as_json: bool) -> "RollbackReport":
    others = () if simulated.plan is None else simulated.plan.others
    if not yes and not as_json and is_terminal() and is_terminal(sys.stdin) and simulated.success:
        click.echo(printable(str(simulated), keep="\n"), err=True)
        asking = f" {', '.join(others)} agreed?" if others else ""
        if not click.confirm(printable(f"Go back now?{asking}"), err=True):
            return simulated
        return asked.done(consent=others)
    if asked.is_emergency and not yes:
        raise click.UsageError(
            "An emergency takes back everybody's newest rows: answer on a terminal, or give --yes."
        )
    return asked.done(consent=others if yes else ())


def _say_what_is_next(report: "RollbackReport", *, simulate: bool) -> None:
    if report.state == "stopped":
        click.echo("To go back all the same: --on-collision keep, or overwrite.")
    elif simulate and report.plan is None:
        lost = counted(report.lost, "row", "rows")
        click.echo(f"Restore point {report.restore_point_id}; {lost} would be set aside. For all users (--yes).")
    elif simulate and report.plan is not None and report.plan.others:
        click.echo(printable(f"It needs the consent of {', '.join(report.plan.others)} (--yes)."))
    elif report.changed and report.lost:
        click.echo(f"{counted(report.lost, 'row was', 'rows were')} set aside; see `syncengine quarantine`.")


def _status(report: "RollbackReport") -> Exit:
    if not report.success:
        return Exit.ERROR
    return Exit.QUARANTINE if report.changed and report.lost else Exit.DONE
