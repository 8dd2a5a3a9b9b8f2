"""`migrate`: do what can be done offline, queue the rest, say what became of each migration."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from syncengine.cli.command import EngineCommand, is_terminal
from syncengine.cli.exit_codes import Exit
from syncengine.cli.options import app_option, json_option, source_option, store_option, user_option
from syncengine.cli.showing import counted, printable, show_error, show_json, show_table

if TYPE_CHECKING:
    from syncengine.migrate.consent import Consent, ConsentRequest
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.migrate.results import MigrationReport, MigrationResult
    from syncengine.migrate.service import DataMigrationService

COLUMNS = ("migration", "scope", "state", "read", "written", "merged", "dropped", "quarantined", "ms")


@click.command(cls=EngineCommand)
@store_option()
@app_option(required=True)
@user_option()
@source_option()
@click.option("--again", metavar="ID", help="Only this import, anew, after it found nothing.")
@click.option("--only", metavar="ID", help="Only this migration, also if it was skipped or rolled back.")
@click.option("--until", metavar="VERSION", help="No further than this version.")
@click.option("--yes", is_flag=True, help="Agree unasked to what a major version changes and to what is erased.")
@json_option()
def migrate(
    store: str,
    registry: "MigrationRegistry",
    user: str | None,
    sources: dict[str, str],
    again: str | None,
    only: str | None,
    until: str | None,
    yes: bool,
    as_json: bool,
) -> Exit:
    """Migrate the store to the app's version; make the store if it is not there.

    What needs the cloud is queued for `sync`. Before a major version changes or imports rows that are there, or a
    migration erases what they were, it asks on a terminal; elsewhere that waits, unless --yes agrees. Ctrl-C stops
    between two batches and rolls that migration back. Exit status 5 when a migration failed and was rolled back, else
    4 when rows or queued edits were set aside, else 3 when something is left to migrate, else 0.
    """
    if again is not None and user is None:
        raise click.UsageError("--again needs --user: an import belongs to a user.")
    if not os.path.exists(store):  # noqa: PTH110  (pathlib is slow to import)
        click.echo(f"Making a new store at {store}.", err=True)
    asked = Asked(user=user, sources=sources, again=again, only=only, until=until)
    consent = _consent(yes=yes, may_ask=not as_json and is_terminal() and is_terminal(sys.stdin))
    report = _migrated(store, registry, asked, consent=consent, is_quiet=as_json)
    if as_json:
        show_json(_report_json(report))
    else:
        _show_report(report, registry)
        if report.paused:
            click.echo("Paused. To go on: syncengine migrate" + (f" --only {only}" if only else ""))
    failed = [result.failure for result in report.results if result.failure is not None]
    for failure in failed:
        show_error(failure, as_json=as_json)
    return _status(report, failed=bool(failed))


def _consent(*, yes: bool, may_ask: bool) -> "Consent | None":
    if yes:
        return lambda request: True
    return _asked_on_terminal if may_ask else None


def _asked_on_terminal(request: "ConsentRequest") -> bool:
    click.echo(printable(str(request), keep="\n"), err=True)
    return click.confirm("Go on?", err=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line wants of this migration."""

    user: str | None
    sources: dict[str, str]
    again: str | None
    only: str | None
    until: str | None

    @property
    def is_all(self) -> bool:
        """Is it what an app does at its start?"""
        return self.again is None and self.only is None and self.until is None


def _migrated(
    store: str,
    registry: "MigrationRegistry",
    asked: Asked,
    *,
    consent: "Consent | None",
    is_quiet: bool,
) -> "MigrationReport":
    from syncengine.cli.progress import progress_on
    from syncengine.clock import SystemClock
    from syncengine.engine import Engine

    progress = progress_on(sys.stderr, clock=SystemClock(), is_terminal=is_terminal())
    listener = None if is_quiet else progress.hear
    opened = Engine.open(
        store, registry=registry, user=asked.user, sources=asked.sources, listener=listener, consent=consent
    )
    with progress, opened as engine:
        migrations = engine.migrations
        with _interrupts(migrations.cancel):
            if asked.again is not None and asked.user is not None:
                return _imported_again(migrations, asked.again, user=asked.user)
            report = migrations.run(asked.user, only=asked.only, until=asked.until)
            if report.background and report.success:
                # Nobody waits for this process to start, so it does what an app would do beside its work.
                later = migrations.run_background(asked.user)
                report = replace(later, results=report.results + later.results)
            if asked.is_all and all(result.failure is None for result in report.results):
                return engine.quarantine.tend(report) or report
            return report


def _imported_again(migrations: "DataMigrationService", migration_id: str, *, user: str) -> "MigrationReport":
    from syncengine.migrate.results import MigrationReport

    result = migrations.import_again(migration_id, user)
    plan = migrations.plan(user)
    return MigrationReport(current=plan.current, target=plan.target, results=(result,))


@contextmanager
def _interrupts(cancel: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C cancels in good order; a second one is the usual interrupt, and rolls back as well."""
    usual = signal.getsignal(signal.SIGINT)

    def first(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, usual)
        cancel()

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _status(report: "MigrationReport", *, failed: bool) -> Exit:
    if failed:
        return Exit.MIGRATION_FAILED
    if report.quarantined or report.entries_quarantined:
        return Exit.QUARANTINE
    return Exit.DONE if report.success and not report.left_out else Exit.WAITING


def _report_json(report: "MigrationReport") -> dict[str, Any]:
    return {
        "current": str(report.current),
        "target": str(report.target),
        "success": report.success,
        "quarantined": report.quarantined,
        "retried": report.retried,
        "blocked": list(report.blocked),
        "left_out": list(report.left_out),
        "deferred": [{"id": left.migration_id, "reason": left.reason} for left in report.deferred],
        "paused": report.paused,
        "results": [
            {
                **result.to_json(),
                "scope": result.scope,
                "state": result.state,
                "counts": _counts(result),
                "entries": asdict(result.entries),
            }
            for result in report.results
        ],
    }


def _counts(result: "MigrationResult") -> dict[str, int]:
    counts = result.counts
    return {
        "read": counts.read,
        "written": counts.written,
        "merged": counts.merged,
        "dropped": counts.dropped,
        "quarantined": counts.quarantined,
    }


def _show_report(report: "MigrationReport", registry: "MigrationRegistry") -> None:
    if report.results:
        rows = [
            (result.migration_id, result.scope, result.state, *_counts(result).values(), result.duration_ms)
            for result in report.results
        ]
        show_table(COLUMNS, rows)
    elif not (report.deferred or report.left_out or report.blocked):
        click.echo("Nothing to do.")
    for result in report.results:
        for warning in result.warnings:
            click.echo(printable(f"warning: {result.migration_id}: {warning}"))
    for result in report.results:
        _show_empty_import(result, registry)
    _show_left(report)
    if report.queued:
        waiting = counted(len(report.queued), "migration waits", "migrations wait")
        click.echo(f"{waiting} for the cloud; see `syncengine sync`.")
    if report.retried:
        click.echo(f"{counted(report.retried, 'row', 'rows')} came back from quarantine.")
    if report.quarantined:
        click.echo(f"{counted(report.quarantined, 'row was', 'rows were')} set aside; see `syncengine quarantine`.")
    elif kept := report.entries_quarantined:
        entries = counted(kept, "queued edit was", "queued edits were")
        click.echo(f"{entries} set aside and will not be sent; see `syncengine quarantine`.")
    if any(result.failure is not None for result in report.results):
        click.echo("What failed was rolled back whole: its counts say how far it came, and nothing of it stays.")
    click.echo(f"The store is at {report.current} of {report.target}.")


def _show_left(report: "MigrationReport") -> None:
    """What was not run, why, and how it would be."""
    for name in report.blocked:
        click.echo(f"not run: {name}, because something that it comes after is not done")
    for left in report.deferred:
        click.echo(f"not run: {left.migration_id}: {left.reason}")
    if report.deferred:
        click.echo("To agree: syncengine migrate --yes")
    for name in report.left_out:
        click.echo(f"not run: {name}, which was skipped or rolled back; to run it: syncengine migrate --only {name}")


def _show_empty_import(result: "MigrationResult", registry: "MigrationRegistry") -> None:
    """An import that read nothing is no error, but its line is also on stderr, where a log keeps what went wrong."""
    if result.state != "completed" or result.counts.read:
        return
    source = registry.get_migration_executor(result.migration_id).definition.source
    if source is None:
        return
    sentence = f"imported nothing from {source}"
    click.echo(f"{sentence}; once it is there: syncengine migrate --again {result.migration_id}")
    if not (is_terminal(sys.stdout) and is_terminal()):
        click.echo(f"{result.migration_id}: {sentence}", err=True)
