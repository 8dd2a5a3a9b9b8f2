"""`doctor`: look the store over and say what is ok, what is strange and what is bad."""

import click

from syncengine.cli.command import EngineCommand
from syncengine.cli.exit_codes import Exit
from syncengine.cli.options import json_option, store_option
from syncengine.cli.showing import show_json, show_table

COLUMNS = ("verdict", "check", "found", "fix")


@click.command(cls=EngineCommand)
@store_option()
@json_option()
def doctor(store: str, as_json: bool) -> Exit:
    """Look the store over: damage, settings, file modes, copies, what waits for long. Changes nothing.

    Each check is ok, warn or bad. Exit status 1 when one is bad, else 0.
    """
    from syncengine.cli.checks import Verdict, examined

    findings = examined(store)
    worst = max(finding.verdict for finding in findings)
    rows = [(finding.verdict.name.lower(), finding.check, finding.found, finding.fix) for finding in findings]
    if as_json:
        checks = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        show_json({"store": store, "verdict": worst.name.lower(), "checks": checks})
    else:
        show_table(COLUMNS, rows)
    return Exit.ERROR if worst is Verdict.BAD else Exit.DONE
