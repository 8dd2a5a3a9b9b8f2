"""Opens other programs' files, and only what is a file: a pipe would wait for ever, a device never end."""

import os
import stat
from typing import BinaryIO

from syncengine.errors import SourceBroken

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, or a link to one, opened to read its bytes. Raises SourceBroken for anything else, OSError."""
    regular_size_bytes(path)
    # Between the look and the opening it may have become a pipe, whose opening waits for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _refuse_other_kinds(os.fstat(file.fileno()).st_mode, path)
    except SourceBroken:
        file.close()
        raise
    return file


def regular_size_bytes(path: str | os.PathLike[str]) -> int:
    """The size of a regular file, or of one that a link leads to. Raises SourceBroken for anything else, OSError."""
    found = os.stat(path)
    _refuse_other_kinds(found.st_mode, path)
    return found.st_size


def _refuse_other_kinds(mode: int, path: str | os.PathLike[str]) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something of another kind")
    raise SourceBroken(
        f"{os.fspath(path)} is {kind}, not a file.",
        why="a legacy store is read from regular files only",
        fix="Check the path that the app gave; nothing was read and nothing was changed.",
    )
