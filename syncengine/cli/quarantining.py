"""`quarantine`: what was set aside for a person, and what the person decides."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

import click

from syncengine.cli.command import EngineCommand, EngineGroup, wants_json
from syncengine.cli.exit_codes import Exit
from syncengine.cli.listing import listed, show_rows
from syncengine.cli.options import app_option, json_option, rows_option, store_option, user_option
from syncengine.cli.showing import counted, printable, show_facts, show_json

if TYPE_CHECKING:
    from syncengine.cli.looking import Look
    from syncengine.migrate.quarantine_desk import QuarantineDesk
    from syncengine.migrate.quarantine_item import RetryOutcome
    from syncengine.migrate.registry import MigrationRegistry

ITEM_NUMBER = click.IntRange(1, 2**63 - 1)
"""What SQLite counts rows with (sqlite.org/datatype3.html)."""
ITEM = (
    *("item", "origin", "migration", "owner", "collection", "key", "field", "error", "since", "resolution"),
    "reason",
)
WHOLE_ITEM = (
    *("item", "origin", "migration", "owner", "collection", "key", "field", "error", "reason", "shape", "attempts"),
    *("resolution", "since", "resolved_at", "note", "body"),
)


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
    rows = listed(
        _given(ctx, "store"),
        lambda look, most: look.rows("looks", "quarantine", user=user, rows_max=most, resolved=resolved),
        rows_max=rows_max,
    )
    show_rows(ITEM, rows, as_json=as_json, none="Nothing is in quarantine.")
    is_open = any(row[ITEM.index("resolution")] is None for row in rows)
    return Exit.QUARANTINE if is_open else Exit.DONE


@quarantine.command(cls=EngineCommand)
@click.argument("item", type=ITEM_NUMBER)
@store_option(required=False)
@json_option()
@click.pass_context
def show(ctx: click.Context, item: int, store: str | None, as_json: bool) -> Exit:
    """One item whole, with the row as it was."""
    from syncengine.cli.looking import looking_at

    with looking_at(_given(ctx, "store")) as look:
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


@quarantine.command(cls=EngineCommand)
@click.argument("items", type=ITEM_NUMBER, nargs=-1, required=True)
@store_option(required=False)
@app_option(required=True)
@user_option()
@json_option()
@click.pass_context
def retry(
    ctx: click.Context,
    items: tuple[int, ...],
    store: str | None,
    registry: "MigrationRegistry",
    user: str | None,
    as_json: bool,
) -> Exit:
    """Try items again: a row through its migrations, an entry at its old place. Exit status 4 when one stays."""
    with _desk(ctx, registry, user) as desk:
        tried = _tried(desk, items)
    outcomes = [outcome for outcome, _ in tried]
    if wants_json(ctx):
        show_json([{**asdict(outcome), "settled_with_it": others} for outcome, others in tried])
    else:
        for outcome, others in tried:
            said = "came back" if outcome.resolved else f"stays: {outcome.why}"
            names = f"item{'s' * (len(others) > 1)} {', '.join(map(str, others))}"
            with_it = f", and settled what else was of it: {names}" if others else ""
            click.echo(printable(f"item {outcome.item_id} {said}{with_it}"))
    return Exit.DONE if all(outcome.resolved for outcome in outcomes) else Exit.QUARANTINE


def _tried(desk: "QuarantineDesk", items: tuple[int, ...]) -> "list[tuple[RetryOutcome, list[int]]]":
    """What came of each, with the other items that it settled; one of these is not tried once more."""
    tried: list[tuple[RetryOutcome, list[int]]] = []
    for item in items:
        if any(item in others for _, others in tried):
            continue
        before = {each.item_id for each in desk.items()}
        outcome = desk.retry(item)
        tried.append((outcome, sorted(before - {each.item_id for each in desk.items()} - {item})))
    return tried


@quarantine.command(cls=EngineCommand)
@click.argument("item", type=ITEM_NUMBER)
@click.option(
    "--body", type=click.File(encoding="utf-8"), required=True, help="A file with the new body; - is stdin."
)
@store_option(required=False)
@app_option(required=True)
@user_option()
@click.pass_context
def edit(
    ctx: click.Context, item: int, body: TextIO, store: str | None, registry: "MigrationRegistry", user: str | None
) -> Exit:
    """Give an item another body, checked against the shape that it was written in. Then `retry` it."""
    try:
        text = body.read()
    except UnicodeDecodeError as error:
        raise click.BadParameter("the file is no UTF-8 text", ctx, param_hint="'--body'") from error
    with _desk(ctx, registry, user) as desk:
        shape = desk.edit(item, text).shape_version
    of_shape = f" in the shape of {shape}" if shape else ""
    click.echo(f"item {item} has a new body{of_shape}; see `syncengine quarantine retry {item}`")
    return Exit.DONE


@quarantine.command(cls=EngineCommand)
@click.argument("item", type=ITEM_NUMBER)
@click.option("--reason", required=True, help="Why it is given up; kept with it.")
@store_option(required=False)
@app_option(required=True)
@user_option()
@click.pass_context
def discard(
    ctx: click.Context, item: int, reason: str, store: str | None, registry: "MigrationRegistry", user: str | None
) -> Exit:
    """Give an item up. It stays in the list of --all for a while, with its body."""
    with _desk(ctx, registry, user) as desk:
        desk.discard(item, reason=reason)
    click.echo(f"item {item} was given up")
    return Exit.DONE


@quarantine.command(cls=EngineCommand)
@click.argument("path", type=click.Path(dir_okay=False))
@store_option(required=False)
@user_option()
@click.option("--all", "resolved", is_flag=True, help="Those that were resolved, too.")
@click.pass_context
def export(ctx: click.Context, path: str, store: str | None, user: str | None, resolved: bool) -> Exit:
    """Write all items whole, as JSON, to a new file that only you can read."""
    from syncengine.cli.looking import looking_at
    from syncengine.migrate.quarantine_item import item_of, write_items

    shown = {"user": user or _around(ctx, "user"), "resolved": resolved or bool(_around(ctx, "resolved"))}
    with looking_at(_given(ctx, "store")) as look:
        items = [item_of(row) for row in look.rows("quarantine", "items", item_id=None, **shown)]
    write_items(items, path)
    click.echo(f"{counted(len(items), 'item was', 'items were')} written to {path}")
    return Exit.DONE


@contextmanager
def _desk(ctx: click.Context, registry: "MigrationRegistry", user: str | None) -> Iterator["QuarantineDesk"]:
    from syncengine.cli.looking import looking_at
    from syncengine.engine import Engine

    store = _given(ctx, "store")
    with looking_at(store):
        pass  # a wrong path must not become a new store
    with Engine.open(store, registry=registry, user=user or _around(ctx, "user")) as engine:
        yield engine.quarantine


def _given(ctx: click.Context, name: str) -> str:
    """What was said to `quarantine` or to the command behind it."""
    value = ctx.params.get(name) or _around(ctx, name)
    if not value:
        raise click.UsageError(f"Missing option '--{name}' (or SYNCENGINE_{name.upper()}).", ctx)
    return str(value)


def _around(ctx: click.Context, name: str) -> Any:
    return ctx.parent.params.get(name) if ctx.parent is not None else None
