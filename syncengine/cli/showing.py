"""How the command shows things: aligned columns for people, JSON for programs, errors on stderr."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from syncengine.errors import SyncEngineError

GAP = "  "


def show_json(value: object) -> None:
    """One JSON document on stdout, ASCII only."""
    click.echo(json.dumps(value, indent=2))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A header and a line for each row, in columns as wide as they need."""
    lines = [tuple(name.upper() for name in columns), *(tuple(map(_cell, row)) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        click.echo(GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def show_facts(facts: Mapping[str, object]) -> None:
    """A name and a value on each line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name.ljust(width)}{GAP}{_cell(value)}".rstrip())


def _cell(value: object) -> str:
    return "-" if value is None else printable(str(value))


def printable(text: str, *, keep: str = "") -> str:
    """The text without control characters: a key that came from elsewhere must not steer the terminal."""
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode()
        for letter in text
    )


def counted(number: int, one: str, many: str) -> str:
    """`1 row was`, `2 rows were`: the number and the words that agree with it."""
    return f"{number} {one if number == 1 else many}"


def show_error(error: "SyncEngineError", *, as_json: bool) -> None:
    """The error's own text on stderr: what happened, why, what to do, where to read on."""
    click.echo(json.dumps({"error": error_json(error)}) if as_json else str(error), err=True)


def error_json(error: "SyncEngineError") -> dict[str, Any]:
    """Exactly the keys code, what, why, fix."""
    return {"code": error.code(), "what": error.what, "why": error.why, "fix": error.fix}
