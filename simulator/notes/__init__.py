"""Notes that work without a network, on any number of devices: a small app of the standard library and syncengine.

`python -m simulator notes --device a --cloud URL --token-file F` opens a window. Another one with `--device b`, or on
another computer, shows the same notes.
"""

import argparse
import sys
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Who writes, where, and to which cloud."""
    parser.add_argument("--device", required=True, help="a name for this device; its notes are in notes-NAME.db")
    parser.add_argument("--dir", default=".", help="the folder of that file (default: this one)")
    parser.add_argument("--cloud", metavar="URL", help="the server; without one the notes stay here")
    parser.add_argument("--token-file", metavar="F", help="lines of `user token`, as the server takes them")
    parser.add_argument("--user", default="ann", help="whose notes (default ann)")


def run(asked: argparse.Namespace) -> int:
    """Until the window is closed; 1 where no window can be opened."""
    try:
        from simulator.notes.window import NotesWindow, no_window
    except ImportError:
        print("Python's tkinter is not installed here (on Debian and Ubuntu: python3-tk).", file=sys.stderr)
        return 1
    why = no_window()
    if why is not None:
        print(f"No window can be opened: {why}", file=sys.stderr)
        return 1
    window = NotesWindow(
        Path(asked.dir) / f"notes-{asked.device}.db",
        device=asked.device,
        user=asked.user,
        cloud_url=asked.cloud,
        token_file=asked.token_file,
    )
    window.show_until_closed()
    return 0
