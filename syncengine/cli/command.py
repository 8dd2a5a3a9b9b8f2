"""A command of the engine: its errors are texts and exit codes, its result is an exit code."""

import sys
from typing import Any, NoReturn

import click

from syncengine.cli.exit_codes import exit_of
from syncengine.cli.showing import show_error
from syncengine.errors import SyncEngineError


class EngineCommand(click.Command):
    """Ends the process with what the function returned, or with the status of the error that it raised."""

    def invoke(self, ctx: click.Context) -> NoReturn:
        try:
            status = super().invoke(ctx)
        except SyncEngineError as error:
            show_error(error, as_json=wants_json(ctx))
            ctx.exit(exit_of(error))
        ctx.exit(status or 0)


class EngineGroup(EngineCommand, click.Group):
    """A command that has commands of its own and does something without them too."""


def wants_json(ctx: click.Context) -> bool:
    """Was --json said to this command or to the one around it?"""
    around = ctx.parent is not None and wants_json(ctx.parent)
    return around or bool(ctx.params.get("as_json"))


def is_terminal(stream: Any = None) -> bool:
    """Is there a person at the other end of stderr?"""
    return bool((stream or sys.stderr).isatty())
