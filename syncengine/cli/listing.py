"""`history`, `outbox`, `conflicts` and `parked`: lists from the store's own views."""

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from syncengine.cli.command import EngineCommand
from syncengine.cli.exit_codes import Exit
from syncengine.cli.options import json_option, rows_option, store_option, user_option
from syncengine.cli.showing import show_json, show_table
from syncengine.local.stored import stored_texts

if TYPE_CHECKING:
    from syncengine.cli.looking import Look

Row = tuple[Any, ...]

RUN = (
    *("run", "migration", "scope", "hop", "state", "read", "written", "merged", "dropped", "quarantined"),
    *("warnings", "ms", "ended_at", "error", "reason"),
)
CONFLICT = ("conflict", "owner", "collection", "key", "field", "winner", "policy", "since")
PARKED = ("parked", "owner", "collection", "key", "shape", "reason", "since")
ENTRY = ("entry", "owner", "kind", "what", "key", "state", "sequence", "shape", "since", "waits")


@click.command(cls=EngineCommand)
@store_option()
@user_option()
@rows_option()
@json_option()
def history(store: str, user: str | None, rows_max: int, as_json: bool) -> Exit:
    """The newest runs of migrations, oldest first, good and bad, and why one failed.

    The texts of their warnings are in --json.
    """
    rows = listed(
        store, lambda look, most: look.rows("looks", "history", user=user, rows_max=most), rows_max=rows_max
    )
    rows.reverse()
    rows = [_with_warnings(row, as_json=as_json) for row in rows]
    show_rows(RUN, rows, as_json=as_json, none="No migration has run here.")
    return Exit.DONE


def _with_warnings(row: tuple[Any, ...], *, as_json: bool) -> tuple[Any, ...]:
    """The sentences for programs, their number for a line of the list."""
    place = RUN.index("warnings")
    sentences = stored_texts(row[place], "_sync_run.warnings")
    return (*row[:place], sentences if as_json else len(sentences), *row[place + 1 :])


@click.command(cls=EngineCommand)
@store_option()
@user_option()
@rows_option()
@json_option()
def outbox(store: str, user: str | None, rows_max: int, as_json: bool) -> Exit:
    """What still has to reach the cloud, in order, and why it waits. Rows themselves are not shown."""
    rows = listed(store, lambda look, most: look.rows("looks", "outbox", user=user, rows_max=most), rows_max=rows_max)
    show_rows(ENTRY, rows, as_json=as_json, none="Nothing waits.")
    return Exit.DONE


@click.command(cls=EngineCommand)
@store_option()
@user_option()
@rows_option()
@json_option()
def conflicts(store: str, user: str | None, rows_max: int, as_json: bool) -> Exit:
    """Fields that this device and another one changed, newest first, and whose value stayed. Values are not shown."""
    rows = listed(
        store, lambda look, most: look.rows("looks", "conflicts", user=user, rows_max=most), rows_max=rows_max
    )
    show_rows(CONFLICT, rows, as_json=as_json, none="Nothing was changed on both sides.")
    if rows and not as_json:
        _show_way_to_values(store, conflict=rows[0][0])
    return Exit.DONE


def _show_way_to_values(store: str, *, conflict: int) -> None:
    """On stderr: the list itself is for programs, too."""
    look = f"select local_json, server_json from _sync_conflict where conflict_id = {conflict}"  # noqa: S608 - it is shown, not run
    click.echo(f'Both values: sqlite3 -readonly -line {shlex.quote(store)} "{look}"', err=True)
    click.echo(
        'To take the lost one back, write it into the row: "Which fields" in docs/sql.md has the SQL.', err=True
    )


@click.command(cls=EngineCommand)
@store_option()
@user_option()
@rows_option()
@json_option()
def parked(store: str, user: str | None, rows_max: int, as_json: bool) -> Exit:
    """Rows from the cloud that cannot be taken yet, and why; they are kept whole."""
    rows = listed(store, lambda look, most: look.rows("looks", "parked", user=user, rows_max=most), rows_max=rows_max)
    show_rows(PARKED, rows, as_json=as_json, none="Nothing is parked.")
    return Exit.DONE


def listed(store: str, read: Callable[["Look", int], list[Row]], *, rows_max: int) -> list[Row]:
    """At most so many of the rows that `read` finds. It is asked for one more; when that is there, stderr says so."""
    from syncengine.cli.looking import looking_at

    with looking_at(store) as look:
        rows = read(look, rows_max + 1)
    if len(rows) > rows_max:
        click.echo(f"There are more than {rows_max}; see --rows-max.", err=True)
    return rows[:rows_max]


def show_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, as_json: bool, none: str) -> None:
    """A table, a JSON list, or the sentence for an empty one."""
    if as_json:
        show_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif rows:
        show_table(columns, rows)
    else:
        click.echo(none)
