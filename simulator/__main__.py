"""`python -m simulator demo`, `play`, `kill9` or `notes`: real processes, and real faults; `run` and its companions:
worlds in which one seed decides everything."""

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from simulator.processes import ProcessFailed

COMMANDS = {
    "demo": "the whole story in a terminal: old data, no network, a cut, a kill, and the proof at the end",
    "play": "app and server run while you switch the network on and off",
    "notes": "a small app with a window: notes on this device, and the same notes on every other",
    "kill9": "the app is killed at random moments, over and over, and nothing may be lost",
    "run": "worlds in which one seed decides devices, people and faults; every promise is checked",
    "replay": "live through a failure again, from its file",
    "shrink": "leave out of a failure what it does not need",
    "coverage": "how often each thing happens in worlds, and each fault in each phase",
    "mutants": "bugs are put into the engine on purpose: every one must be noticed",
}
_MODULES = {"shrink": "shrinking", "mutants": "mutants.command"}
"""Each command is a module beside this one, with `add_options(parser)` and `run(asked)`; most have its name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    # SIGTERM as an exception, so that processes and folders are given back as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    name = _command_of(sys.argv[1:] if arguments is None else list(arguments))
    asked = _parser(name).parse_args(arguments)
    try:
        status: int = _module(name).run(asked)
    except KeyboardInterrupt:
        return 130
    except ProcessFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    return status


def _module(command: str | None) -> ModuleType:
    assert command is not None, "the parser asks for one"
    return import_module(f"simulator.{_MODULES.get(command, command)}")


def _command_of(arguments: list[str]) -> str | None:
    return next((word for word in arguments if word in COMMANDS), None)


def _parser(name: str | None) -> argparse.ArgumentParser:
    """All commands with their sentences; options only of the one that is asked for, whose module is imported."""
    parser = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command, sentence in COMMANDS.items():
        own = commands.add_parser(command, help=sentence, description=sentence)
        if command == name:
            _module(command).add_options(own)
    return parser


if __name__ == "__main__":
    sys.exit(main())
