"""The page of the command line has every command, option, variable and exit status, and no other."""

import re
from collections.abc import Iterator

import click
import pytest

from syncengine.cli import main
from syncengine.cli.exit_codes import MEANING
from tests.tidy.tree import ROOT

PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
TOKEN_VARIABLE = "SYNCENGINE_TOKEN"  # the one variable that has no option, lest a token be an argument


def _leaves(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield before + name, command
        if isinstance(command, click.Group):
            yield from _leaves(command, f"{before}{name} ")


COMMANDS = dict(_leaves(main))


def _rows(heading: str) -> list[list[str]]:
    """The table under a line that begins so, as cells without the head."""
    table = PAGE[PAGE.index(f"\n| {heading} |") :].lstrip("\n").partition("\n\n")[0]
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()[2:]]


def _named(cell: str) -> set[str]:
    names = set(re.findall(r"`([^`]+)`", cell))
    return set(COMMANDS) - names if cell.strip().startswith("all but") else names


def test_each_command_is_on_the_page_once() -> None:
    named = [name for row in _rows("Command") for name in re.findall(r"`([^`]+)`", row[0])]
    assert sorted(named) == sorted(COMMANDS)


def _told() -> dict[tuple[str, str], set[str]]:
    """By option and command the variables that the page says stand for it."""
    found: dict[tuple[str, str], set[str]] = {}
    for option, variable, commands, _ in _rows("Option"):
        name = re.match(r"\s*`(--[\w-]+)", option)
        for command in _named(commands) if name is not None else ():
            assert name is not None
            assert (name[1], command) not in found
            found[name[1], command] = set(re.findall(r"`(\w+)`", variable))
    return found


TOLD = _told()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_option_of_a_command_is_told_with_its_variable_and_no_other(command: str) -> None:
    options = [option for option in COMMANDS[command].params if isinstance(option, click.Option)]
    there = {option.opts[0]: {option.envvar} if option.envvar else set() for option in options}
    assert there == {name: variables for (name, of), variables in TOLD.items() if of == command}


def test_the_token_has_a_variable_and_no_option() -> None:
    assert [row[2] for row in _rows("Option") if TOKEN_VARIABLE in row[1]] == [" `sync` "]
    assert not any("--token" in option.opts for command in COMMANDS.values() for option in command.params)


def test_each_exit_status_has_one_line_with_the_meaning_that_the_help_gives() -> None:
    told = [(int(row[0]), row[1].strip()) for row in _rows("Status")]
    assert told == [(code.value, meaning) for code, meaning in MEANING.items()]
