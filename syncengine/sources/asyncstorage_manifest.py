"""AsyncStorage on iOS and macOS: a folder with manifest.json, long values in files beside it.

As in the library's `RNCAsyncStorage.mm`: the manifest is {key: text, or null for a value in a file that is named by
the lower-case hex MD5 of the key's UTF-8}.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from syncengine.errors import SourceBroken, SourceMissing
from syncengine.local.regular_file import open_regular, regular_size_bytes
from syncengine.sources.source import CHUNK_BYTES, ChunkedSource

MANIFEST = "manifest.json"
MANIFEST_BYTES_MAX = 256 * 1024 * 1024
"""It holds values of at most 1,024 characters each; above this it is some other file."""

_VALUE_FILE = re.compile(r"[0-9a-f]{32}")


def open_manifest_store(folder: Path, *, problems: tuple[str, ...] = ()) -> "ManifestStore":
    """The store in one folder, read in place.

    `problems` are what the caller noticed already. Raises SourceMissing when the folder holds no store;
    SourceBroken when its manifest is unreadable, no JSON object, or gone while value files are there.
    """
    value_files = _value_files(folder)
    manifest = _read_manifest(folder, value_file_count=len(value_files))
    named = {key: folder / _file_name(key) for key, value in manifest.items() if value is None}
    in_files = {key: path for key, path in named.items() if path.name in value_files}
    return ManifestStore(
        folder,
        inline={key: value for key, value in manifest.items() if isinstance(value, str)},
        in_files=in_files,
        problems=(*problems, *_problems_of(manifest, named=named, in_files=in_files, value_files=value_files)),
    )


class ManifestStore(ChunkedSource):
    """A Source over one folder; value files are read in chunks."""

    def __init__(
        self, folder: Path, *, inline: dict[str, str], in_files: dict[str, Path], problems: tuple[str, ...]
    ) -> None:
        super().__init__(
            identity=f"asyncstorage-manifest:{os.path.realpath(folder)}", problems=problems, held=ExitStack()
        )
        self._inline = inline
        self._in_files = in_files

    def keys(self) -> tuple[str, ...]:
        return tuple(sorted([*self._inline, *self._in_files]))

    def size(self, key: str) -> int | None:
        if key in self._in_files:
            return _size_of(self._in_files[key])
        return len(_utf8(self._inline[key])) if key in self._inline else None

    def _chunks(self, key: str) -> Iterator[bytes]:
        if key in self._in_files:
            return _file_chunks(self._in_files[key])
        return iter((_utf8(self._inline[key]),))


def holds_manifest_store(folder: Path) -> bool:
    """Whether a folder has a manifest, or value files that lost theirs."""
    return (folder / MANIFEST).exists() or bool(_value_files(folder))


def _value_files(folder: Path) -> frozenset[str]:
    try:
        return frozenset(entry.name for entry in folder.iterdir() if _VALUE_FILE.fullmatch(entry.name))
    except OSError as error:
        raise _unreadable(folder, error) from error


def _read_manifest(folder: Path, *, value_file_count: int) -> dict[str, object]:
    path = folder / MANIFEST
    if not path.exists():
        if value_file_count:
            raise SourceBroken(
                f"{folder} has lost its {MANIFEST}.",
                why=f"{value_file_count} value file(s) are there, but their keys were only in the manifest",
                fix="Copy the whole folder again from the device; nothing was changed.",
            )
        raise SourceMissing(
            f"There is no AsyncStorage in {folder}.",
            why=f"it has no {MANIFEST}",
            fix="Check the path that the app gave; nothing was changed.",
        )
    manifest = _decoded_manifest(path)
    if not isinstance(manifest, dict):
        raise _broken_manifest(path, "it is JSON, but no object of keys and values")
    return manifest


def _decoded_manifest(path: Path) -> object:
    size_bytes = _size_of(path)
    if size_bytes > MANIFEST_BYTES_MAX:
        raise _broken_manifest(path, f"it is larger than {MANIFEST_BYTES_MAX} bytes")
    try:
        with open_regular(path) as file:
            return json.loads(file.read(size_bytes))
    except OSError as error:
        raise _unreadable(path, error) from error
    except json.JSONDecodeError as error:
        # The error holds the whole text, so it is not kept as the cause.
        raise _broken_manifest(path, f"{error.msg} at character {error.pos}") from None
    except UnicodeDecodeError as error:
        raise _broken_manifest(path, f"byte {error.start} is not {error.encoding}") from None
    except RecursionError as error:
        raise _broken_manifest(path, "it is nested too deep") from error


def _broken_manifest(path: Path, why: str) -> SourceBroken:
    return SourceBroken(
        f"{path} is not a whole AsyncStorage manifest.",
        why=why,
        fix="It was not changed. Copy the folder again from the device; do not start the old app before, "
        "because it would replace a broken manifest by an empty one.",
    )


def _unreadable(path: Path, error: OSError) -> SourceBroken:
    return SourceBroken(
        f"{path} cannot be read.",
        why=error.strerror or type(error).__name__,
        fix="Unlock the device or give this user the right to read; nothing was changed.",
    )


class _Oddities(NamedTuple):
    """How many of each, with the sentence for it."""

    lost: int
    orphaned: int
    no_text: int

    def sentences(self) -> tuple[str, ...]:
        said = (
            (self.lost, "key(s) point to a value file that is missing, and count as absent"),
            (self.orphaned, "value file(s) belong to no key of the manifest; their keys cannot be recovered"),
            (self.no_text, "key(s) of the manifest have a value that is no text"),
        )
        return tuple(f"{count} {what}" for count, what in said if count)


def _problems_of(
    manifest: dict[str, object],
    *,
    named: dict[str, Path],
    in_files: dict[str, Path],
    value_files: frozenset[str],
) -> tuple[str, ...]:
    return _Oddities(
        lost=len(named) - len(in_files),
        orphaned=len(value_files - {path.name for path in in_files.values()}),
        no_text=sum(not isinstance(value, str | None) for value in manifest.values()),
    ).sentences()


def _file_name(key: str) -> str:
    # The library hashes strlen() bytes, so a NUL ends the key. MD5 names a file here and guards nothing.
    return hashlib.md5(_utf8(key).split(b"\0", 1)[0], usedforsecurity=False).hexdigest()


def _utf8(text: str) -> bytes:
    # JavaScript text may hold half a surrogate pair.
    return text.encode("utf-8", "surrogatepass")


def _size_of(path: Path) -> int:
    try:
        return regular_size_bytes(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _file_chunks(path: Path) -> Iterator[bytes]:
    try:
        with open_regular(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise _unreadable(path, error) from error
