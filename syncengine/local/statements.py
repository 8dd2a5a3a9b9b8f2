"""Named SQL, read from .sql files: every statement has a name, a sentence, and one place.

A block begins with `-- name: claim_entries` and a comment that says what it does.
"""

import os

from syncengine.errors import StatementUnknown

LOCAL_SQL = os.path.join(os.path.dirname(__file__), "sql")

_loaded: dict[tuple[str, str], dict[str, str]] = {}


def statement(file: str, name: str, *, directory: str = LOCAL_SQL) -> str:
    """The SQL text called `name` in `directory`/`file`.sql. Raises StatementUnknown."""
    try:
        return statements(file, directory=directory)[name]
    except KeyError:
        raise StatementUnknown(
            f"There is no SQL statement called {name!r} in {file}.sql.",
            fix="Add the block, or correct the name at the call.",
        ) from None


def statements(file: str, *, directory: str = LOCAL_SQL) -> dict[str, str]:
    """All statements of one file by name, in the file's order. Read once per process."""
    found = _loaded.get((directory, file))
    if found is None:
        with open(os.path.join(directory, file + ".sql"), encoding="utf-8") as text:
            found = _parse(text.read())
        _loaded[directory, file] = found
    return found


def _parse(text: str) -> dict[str, str]:
    blocks = text.split("-- name: ")[1:]
    return {name.strip(): body.strip() for name, _, body in (block.partition("\n") for block in blocks)}
