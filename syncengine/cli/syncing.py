"""`sync`: one round with the cloud, or as many as it takes to empty the queue."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from syncengine.cli.command import EngineCommand, is_terminal
from syncengine.cli.exit_codes import Exit, exit_of_code
from syncengine.cli.options import app_option, json_option, store_option, user_option
from syncengine.cli.showing import counted, show_json

if TYPE_CHECKING:
    from syncengine.engine import Engine
    from syncengine.migrate.registry import MigrationRegistry
    from syncengine.sync.drain import RoundReport

DONE_WORDS = frozenset(
    {"drained", "bounded", "held", "another_process", "time_is_over", "stopped", "paused", "too_old_to_read"}
)
"""Ends of a round that are no errors."""
RUN_AGAIN = "The queue is kept. Run the command again when the cloud can be reached."
"""An app tries again by itself; a command that has ended does not."""


class _Outcome(NamedTuple):
    """What became of the user's queue."""

    ended: str
    applied: int
    remaining: int
    quarantined: int
    held: int
    held_behind: tuple[int, ...]


@click.command(cls=EngineCommand)
@store_option()
@app_option(required=True)
@user_option(required=True)
@click.option(
    "--cloud-url",
    required=True,
    metavar="URL",
    envvar="SYNCENGINE_CLOUD_URL",
    show_envvar=True,
    help="Where the cloud is.",
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False),
    help="A file that holds the access token; without it the variable SYNCENGINE_TOKEN does.",
)
@click.option("--until-empty", is_flag=True, help="Go on until the queue is empty or the time is over.")
@click.option(
    "--wait-s", type=click.IntRange(min=1), default=60, show_default=True, help="Seconds until it stops waiting."
)
@json_option()
def sync(
    store: str,
    registry: "MigrationRegistry",
    user: str,
    cloud_url: str,
    token_file: str | None,
    until_empty: bool,
    wait_s: int,
    as_json: bool,
) -> Exit:
    """Send what waits for the cloud: one round. The app may go on meanwhile.

    The token never is an argument, where other users of the machine could read it. Exit status 6 when the cloud
    cannot be reached or refuses the token, else 4 with rows in quarantine, else 3 when something is left, else 0.
    """
    from syncengine.cli.looking import looking_at
    from syncengine.cli.progress import progress_on
    from syncengine.clock import SystemClock
    from syncengine.engine import Engine

    with looking_at(store):
        pass  # a wrong path must not become a new store
    progress = progress_on(sys.stderr, clock=SystemClock(), is_terminal=is_terminal())
    with (
        progress,
        Engine.open(
            store,
            registry=registry,
            user=user,
            cloud_url=cloud_url,
            token=_token(token_file),
            listener=None if as_json else progress.hear,
        ) as engine,
    ):
        outcome = _synced(engine, store, user=user, until_empty=until_empty, wait_ms=wait_s * 1000)
    _show(outcome, as_json=as_json)
    return _status(outcome)


def _token(token_file: str | None) -> Callable[[], str | None]:
    """Read anew at each use: tokens are renewed while the command runs."""
    if token_file is None:
        return lambda: os.environ.get("SYNCENGINE_TOKEN") or None
    return lambda: Path(token_file).read_text(encoding="utf-8").strip() or None


def _synced(engine: "Engine", store: str, *, user: str, until_empty: bool, wait_ms: int) -> _Outcome:
    from syncengine.cli.looking import looking_at

    if until_empty:
        flushed = engine.flush(timeout_ms=wait_ms)
        ended, applied, behind = flushed.reason, flushed.delivered, flushed.held_behind
    else:
        report = _one_round(engine, wait_ms=wait_ms)
        ended, applied, behind = report.ended, report.applied, report.held_behind
        if ended == "drained" and behind:
            ended = "held"
    if ended == "upgrade_app":
        _refuse_old_app()
    with looking_at(store) as look:
        waiting, claimed, held, _, _ = look.rows("looks", "queue", user=user)[0]
        quarantined = look.value("looks", "quarantined", user=user)
    return _Outcome(ended, applied, waiting + claimed + held, quarantined, held, behind)


def _one_round(engine: "Engine", *, wait_ms: int) -> "RoundReport":
    from syncengine.errors import BackendUnavailable, BackendUnreachable

    try:
        return engine.sync_now(timeout_ms=wait_ms)
    except (BackendUnreachable, BackendUnavailable) as error:
        error.fix = RUN_AGAIN
        raise


def _refuse_old_app() -> None:
    from syncengine.errors import StoreSuperseded

    raise StoreSuperseded(
        "The cloud asks for a newer version of this app.",
        why="another device of this user has migrated the cloud's data",
        fix="Update the app. The queue is kept.",
    )


def _show(outcome: _Outcome, *, as_json: bool) -> None:
    if as_json:
        show_json(outcome._asdict())
        return
    click.echo(f"{outcome.applied} sent, {outcome.remaining} left ({outcome.ended}).")
    if _status(outcome) is Exit.UNREACHABLE:
        click.echo(RUN_AGAIN)
    if outcome.ended == "too_old_to_read":
        click.echo("This app is too old for the cloud: what waited was sent, nothing is read. Update the app.")
    if outcome.held:
        items = ", ".join(map(str, outcome.held_behind))
        waits = counted(outcome.held, "entry waits", "entries wait")
        click.echo(f"{waits} behind quarantine item {items}, until somebody has decided about it.")
    if outcome.quarantined:
        click.echo(f"{outcome.quarantined} in quarantine; see `syncengine quarantine`.")


def _status(outcome: _Outcome) -> Exit:
    if outcome.ended not in DONE_WORDS:
        return exit_of_code(outcome.ended)
    if outcome.quarantined:
        return Exit.QUARANTINE
    return Exit.WAITING if outcome.remaining or outcome.ended == "too_old_to_read" else Exit.DONE
