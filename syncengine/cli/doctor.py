"""`doctor`: look the store over and say what is ok, what is strange and what is bad."""

from typing import TYPE_CHECKING

import click

from syncengine.cli.command import EngineCommand
from syncengine.cli.exit_codes import Exit
from syncengine.cli.options import json_option, store_option
from syncengine.cli.showing import show_json, show_table

if TYPE_CHECKING:
    from syncengine.cli.finding import Finding

Row = tuple[str, str, str, str]
COLUMNS = ("verdict", "check", "found", "fix")


@click.command(cls=EngineCommand)
@store_option()
@click.option("--export", metavar="FILE", help="Also write a report for whoever helps: a new file, without any row.")
@click.option("--with-names", is_flag=True, help="In the report: user ids, keys of rows and sentences, too.")
@json_option()
def doctor(store: str, export: str | None, with_names: bool, as_json: bool) -> Exit:
    """Look the store over: damage, shapes, settings, file modes, ways back, what waits for long. Changes nothing.

    Each check is ok, warn or bad. Exit status 1 when one is bad, else 0.
    """
    from syncengine.cli.checks import examined
    from syncengine.cli.finding import Verdict

    findings = examined(store)
    worst = max(finding.verdict for finding in findings)
    rows = [(finding.verdict.name.lower(), finding.check, finding.found, finding.fix) for finding in findings]
    if as_json:
        checks = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        show_json({"store": store, "verdict": worst.name.lower(), "checks": checks})
    else:
        show_table(COLUMNS, _said_once(rows))
    if export is not None:
        _export(store, export, findings=findings, redact=not with_names)
    return Exit.ERROR if worst is Verdict.BAD else Exit.DONE


def _said_once(rows: "list[Row]") -> "list[Row]":
    """Checks that could not be made for one reason are one line, in the place of the first; --json has each."""
    from syncengine.cli.checks import UNREADABLE

    unreadable: dict[str, list[Row]] = {}
    for row in rows:
        if row[2].startswith(UNREADABLE):
            unreadable.setdefault(row[2], []).append(row)
    shown = []
    for row in rows:
        alike = unreadable.get(row[2], [row])
        if len(alike) == 1:
            shown.append(row)
        elif row is alike[0]:
            shown.append((row[0], f"{len(alike)} checks", f"{row[2]} (--json names them)", row[3]))
    return shown


def _export(store: str, path: str, *, findings: "list[Finding]", redact: bool) -> None:
    from syncengine.cli.looking import opened
    from syncengine.clock import SystemClock
    from syncengine.diagnostics import Diagnosis, write_document
    from syncengine.settings import Settings

    with opened(store) as look:
        report = Diagnosis(look.connection, path=store, clock=SystemClock(), redact=redact)
        document = report.document(settings=Settings())
    # What a check found may name files and tables of the app's own; its verdict does not.
    document["checks"] = {finding.check: finding.verdict.name.lower() for finding in findings}
    write_document(document, path)
    click.echo(f"The report is in {path}.", err=True)
