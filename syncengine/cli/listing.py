"""`history`, `outbox` and `quarantine`: lists from the store's own views."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from syncengine.cli.command import EngineCommand, EngineGroup, wants_json
from syncengine.cli.exit_codes import Exit
from syncengine.cli.options import json_option, rows_option, store_option, user_option
from syncengine.cli.showing import printable, show_facts, show_json, show_table

if TYPE_CHECKING:
    from syncengine.cli.looking import Look

RUN = (
    *("run", "migration", "scope", "hop", "state", "read", "written", "merged", "dropped", "quarantined"),
    *("warnings", "ms", "ended_at", "error"),
)
ENTRY = ("entry", "owner", "kind", "what", "key", "state", "sequence", "shape", "since", "waits")
ITEM = (
    *("item", "origin", "migration", "owner", "collection", "key", "field", "error", "since", "resolution"),
    "reason",
)
WHOLE_ITEM = (
    *("item", "origin", "migration", "owner", "collection", "key", "field", "error", "reason", "attempts"),
    *("resolution", "since", "resolved_at", "body"),
)


@click.command(cls=EngineCommand)
@store_option()
@user_option()
@rows_option()
@json_option()
def history(store: str, user: str | None, rows_max: int, as_json: bool) -> Exit:
    """The newest runs of migrations, oldest first, good and bad. The texts of their warnings are in --json."""
    rows = _listed(store, "history", user=user, rows_max=rows_max)
    rows.reverse()
    rows = [_with_warnings(row, as_json=as_json) for row in rows]
    _show(RUN, rows, as_json=as_json, none="No migration has run here.")
    return Exit.DONE


def _with_warnings(row: tuple[Any, ...], *, as_json: bool) -> tuple[Any, ...]:
    """The sentences for programs, their number for a line of the list."""
    place = RUN.index("warnings")
    sentences = json.loads(row[place])
    return (*row[:place], sentences if as_json else len(sentences), *row[place + 1 :])


@click.command(cls=EngineCommand)
@store_option()
@user_option()
@rows_option()
@json_option()
def outbox(store: str, user: str | None, rows_max: int, as_json: bool) -> Exit:
    """What still has to reach the cloud, in order, and why it waits. Rows themselves are not shown."""
    rows = _listed(store, "outbox", user=user, rows_max=rows_max)
    _show(ENTRY, rows, as_json=as_json, none="Nothing waits.")
    return Exit.DONE


@click.group(cls=EngineGroup, invoke_without_command=True)
@store_option(required=False)
@user_option()
@rows_option()
@click.option("--all", "resolved", is_flag=True, help="Those that were resolved, too.")
@json_option()
@click.pass_context
def quarantine(
    ctx: click.Context,
    store: str | None,
    user: str | None,
    rows_max: int,
    resolved: bool,
    as_json: bool,
) -> Exit:
    """What was set aside for a person, with its reason. Rows themselves are not shown; see `show`.

    Exit status 4 when something waits for a person, else 0.
    """
    if ctx.invoked_subcommand is not None:
        return Exit.DONE
    rows = _listed(_given(ctx), "quarantine", user=user, rows_max=rows_max, resolved=resolved)
    _show(ITEM, rows, as_json=as_json, none="Nothing is in quarantine.")
    is_open = any(row[ITEM.index("resolution")] is None for row in rows)
    return Exit.QUARANTINE if is_open else Exit.DONE


@quarantine.command(cls=EngineCommand)
@click.argument("item", type=int)
@store_option(required=False)
@json_option()
@click.pass_context
def show(ctx: click.Context, item: int, store: str | None, as_json: bool) -> Exit:
    """One item whole, with the row as it was."""
    from syncengine.cli.looking import looking_at

    with looking_at(_given(ctx)) as look:
        found = _item(look, item)
    if wants_json(ctx):
        show_json(found)
        return Exit.DONE
    body = found.pop("body")
    show_facts(found)
    click.echo()
    click.echo(printable(str(body), keep="\n\t"))
    return Exit.DONE


def _item(look: "Look", item: int) -> dict[str, Any]:
    from syncengine.errors import QuarantineItemUnknown

    rows = look.rows("looks", "item", item=item)
    if not rows:
        raise QuarantineItemUnknown(
            f"There is no quarantine item {item} in this store.", fix="See `syncengine quarantine --all`."
        )
    return dict(zip(WHOLE_ITEM, rows[0], strict=True))


def _given(ctx: click.Context) -> str:
    """The store, said to `quarantine` or to `show`."""
    store = ctx.params.get("store") or (ctx.parent and ctx.parent.params.get("store"))
    if not store:
        raise click.UsageError("Missing option '--store' (or SYNCENGINE_STORE).", ctx)
    return str(store)


def _listed(store: str, name: str, /, *, rows_max: int, **values: Any) -> list[tuple[Any, ...]]:
    """At most so many rows; says on stderr when there are more."""
    from syncengine.cli.looking import looking_at

    with looking_at(store) as look:
        rows = look.rows("looks", name, rows_max=rows_max + 1, **values)
    if len(rows) > rows_max:
        click.echo(f"There are more than {rows_max}; see --rows-max.", err=True)
    return rows[:rows_max]


def _show(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, as_json: bool, none: str) -> None:
    if as_json:
        show_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif rows:
        show_table(columns, rows)
    else:
        click.echo(none)
