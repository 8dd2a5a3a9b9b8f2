"""`explain` and `receipt`: why a row is not at the cloud, and where a queued change is."""

from dataclasses import asdict

import click

from syncengine.cli.command import EngineCommand
from syncengine.cli.exit_codes import Exit
from syncengine.cli.options import json_option, store_option, user_option
from syncengine.cli.showing import printable, show_facts, show_json

ENTRY_NUMBER = click.IntRange(1, 2**63 - 1)
"""What SQLite counts rows with (sqlite.org/datatype3.html)."""


@click.command(cls=EngineCommand)
@click.argument("collection")
@click.argument("key")
@store_option()
@user_option(required=True)
@json_option()
def explain(collection: str, key: str, store: str, user: str, as_json: bool) -> Exit:
    """Why a row of a user is not at the cloud: what is queued of it, what stands in the way, what to do.

    It says what the store knows, not what a running app does now. Exit status 3 when it is not synced, else 0.
    """
    from syncengine.cli.looking import looking_at
    from syncengine.clock import SystemClock, iso
    from syncengine.receipts import explained

    now = iso(SystemClock().now_ms())
    with looking_at(store) as look:
        found = explained(look, collection, key, user=user, rows_of=look.ask, now=now)
    if as_json:
        show_json(found.to_json())
    else:
        click.echo(printable(str(found), keep="\n"))
    return Exit.DONE if found.synced else Exit.WAITING


@click.command(cls=EngineCommand)
@click.argument("entry", type=ENTRY_NUMBER)
@store_option()
@json_option()
def receipt(entry: int, store: str, as_json: bool) -> Exit:
    """Where a queued change is: its number is in `outbox`, or in what the app was given when it wrote.

    Exit status 4 when a person has to act, 3 when it still waits, else 0.
    """
    from syncengine.cli.looking import looking_at
    from syncengine.clock import SystemClock, iso
    from syncengine.outbox.receipts import NEEDS_A_PERSON
    from syncengine.outbox.receipts import receipt as receipt_of

    with looking_at(store) as look:
        found = receipt_of(look, entry, now=iso(SystemClock().now_ms()))
    facts = {name: value for name, value in asdict(found).items() if as_json or value is not None}
    if as_json:
        show_json(facts)
    else:
        show_facts(facts)
    if found.state in NEEDS_A_PERSON:
        return Exit.QUARANTINE
    return Exit.DONE if found.is_final else Exit.WAITING
