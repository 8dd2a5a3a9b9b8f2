"""Legacy stores to import from: AsyncStorage as it lies on each platform's disk, and JSON dumps."""

from pathlib import Path

from syncengine.errors import SourceBroken, SourceMissing
from syncengine.local.regular_file import open_regular
from syncengine.sources.asyncstorage import SQLITE_MAGIC, open_asyncstorage
from syncengine.sources.asyncstorage_manifest import MANIFEST
from syncengine.sources.json_dump import open_json_dump
from syncengine.sources.json_stream import BrokenJson, OversizedElement, array_elements
from syncengine.sources.near_miss import near_misses
from syncengine.sources.source import Source

__all__ = [
    "BrokenJson",
    "OversizedElement",
    "Source",
    "array_elements",
    "near_misses",
    "open_asyncstorage",
    "open_json_dump",
    "open_source",
]

_FIRST_BYTES = 64


def open_source(path: str | Path) -> Source:
    """The legacy store at a path, whichever kind it is: an app's folder, a database, a manifest, a JSON dump.

    Raises SourceMissing when nothing is there; SourceBroken when it is of no known kind or cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise SourceMissing(
            f"There is no legacy store at {path}.",
            fix="Check the path that the app gave; nothing was changed.",
        )
    if path.is_dir() or path.name == MANIFEST:
        return open_asyncstorage(path)
    return _open_file(path)


def _open_file(path: Path) -> Source:
    try:
        with open_regular(path) as file:
            first = file.read(_FIRST_BYTES)
    except OSError as error:
        raise _unknown(path, error.strerror or type(error).__name__) from error
    if first.startswith(SQLITE_MAGIC):
        return open_asyncstorage(path)
    if first.lstrip()[:1] in (b"[", b"{"):
        return open_json_dump(path)
    raise _unknown(path, "it is neither a SQLite database nor JSON" if first else "it is empty")


def _unknown(path: Path, why: str) -> SourceBroken:
    return SourceBroken(
        f"{path} is no legacy store of a known kind.",
        why=why,
        fix="Give an AsyncStorage file or folder, or a JSON dump of keys and values; nothing was changed.",
    )
