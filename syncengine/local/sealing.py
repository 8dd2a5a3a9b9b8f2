"""Sealing a file and opening it again, as streams in the age format (age-encryption.org/v1).

Memory does not grow with the file. Opening gives pieces before the end has been checked, so what is opened is used
only after the stream has ended well.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyrage  # type: ignore[import-untyped]  # no stubs exist

from syncengine.errors import RestorePointUnusable
from syncengine.local.keys import SealingKey

PIECE_BYTES = 1024 * 1024
BYTES_BETWEEN = 4 * PIECE_BYTES


def _nothing() -> None:
    """Nothing has to be done between two pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What a sealed stream was, read to its end."""

    plain_sha256: str
    """Of what is inside."""
    sealed_sha256: str
    size_bytes: int
    """Of the sealed form, as the hash before."""


def seal(plain: BinaryIO, target: BinaryIO, *, key: SealingKey, between: Callable[[], None] = _nothing) -> str:
    """Write the sealed form of a stream; the SHA-256 of what went in.

    `between` is called every few megabytes; what it raises ends the stream. Raises OSError of either file, as it was.
    """
    source, sink = _Reading(plain, between), _Writing(target.write)
    try:
        pyrage.encrypt_io(source, sink, [key.identity.to_public()])
    except (pyrage.EncryptError, OSError):
        if source.failed is None and sink.failed is None:
            raise
    # Also after a good end: pyrage passes over an error of the very last write (tried).
    _raise_failed(source, sink)
    return source.digest.hexdigest()


def unseal(
    sealed: BinaryIO, target: BinaryIO | None, *, key: SealingKey, between: Callable[[], None] = _nothing
) -> Sealed:
    """Open a sealed stream into a file, or into nothing; what was read and what came out.

    Raises RestorePointUnusable for another key and for what was altered or cut short; `target` then holds a part
    that nobody may use. Raises OSError of either file, as it was.
    """
    inside = hashlib.sha256()
    source = _Reading(sealed, between)
    sink = _Writing(inside.update if target is None else _both(inside.update, target.write))
    try:
        pyrage.decrypt_io(source, sink, [key.identity])
    except (pyrage.DecryptError, OSError) as error:
        _raise_failed(source, sink)
        raise RestorePointUnusable(
            "A restore point cannot be opened.",
            why=_reason(error),
            fix="Give the key that it was sealed for, or take another restore point. Nothing was changed.",
        ) from error
    _raise_failed(source, sink)
    return Sealed(
        plain_sha256=inside.hexdigest(), sealed_sha256=source.digest.hexdigest(), size_bytes=source.size_bytes
    )


def _both(first: Callable[[Any], object], second: Callable[[Any], object]) -> Callable[[Any], object]:
    def write(piece: Any) -> None:
        first(piece)
        second(piece)

    return write


def _raise_failed(source: "_Reading", sink: "_Writing") -> None:
    failed = source.failed or sink.failed
    if failed is not None:
        raise failed


def _reason(error: Exception) -> str:
    # The text of age's own crate; all else that it raises is about the bytes.
    if "No matching keys" in str(error):
        return "it is sealed for another key"
    return "it was altered or cut short, or it is no sealed file"


def sha256_of(file: BinaryIO) -> str:
    """The SHA-256 of all that is left of a file."""
    digest = hashlib.sha256()
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


class _Reading:
    """A file whose bytes are counted into a hash as age reads them."""

    def __init__(self, file: BinaryIO, between: Callable[[], None]) -> None:
        self._file = file
        self._between = between
        self._looked_bytes = 0
        self.size_bytes = 0
        self.digest = hashlib.sha256()
        self.failed: Exception | None = None

    def read(self, size_bytes: int = -1) -> bytes:
        try:
            piece = self._file.read(size_bytes)
            self._count(len(piece))
        except Exception as error:
            # pyrage passes on the text of an error only.
            self.failed = error
            raise
        self.digest.update(piece)
        return piece

    def _count(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        if self.size_bytes - self._looked_bytes >= BYTES_BETWEEN:
            self._looked_bytes = self.size_bytes
            self._between()


class _Writing:
    """Where the pieces go, with the error that pyrage would not pass on."""

    def __init__(self, write: Callable[[Any], object]) -> None:
        self._write = write
        self.failed: Exception | None = None

    def write(self, piece: Any) -> int:
        try:
            self._write(piece)
        except OSError as error:
            self.failed = error
            raise
        return len(piece)

    def flush(self) -> None:
        """Asked for by age at the end; the file's owner flushes it."""
