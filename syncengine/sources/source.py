"""The door to every legacy store: text values under text keys, read only."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, Self

from syncengine.errors import SourceBroken
from syncengine.settings import Settings
from syncengine.sources.json_stream import OversizedElement, array_elements
from syncengine.sources.near_miss import near_misses

ELEMENT_BYTES_MAX = Settings().source_element_bytes_max
CHUNK_BYTES = 256 * 1024
"""What is in memory of a long value beside its present element."""


class Source(Protocol):
    """A legacy store that a migration imports from. Nothing in it is ever changed.

    A context manager; `close()` may be called twice. Any read may raise SourceBroken when the store cannot be
    read, and what was read until then is right.
    """

    @property
    def identity(self) -> str:
        """Names this physical store, the same on every run: what was imported from it once is recorded by it."""
        ...

    def keys(self) -> tuple[str, ...]:
        """All keys that have a value, sorted."""
        ...

    def size(self, key: str) -> int | None:
        """Bytes of the value as it is stored, without reading it; None when the key has no value."""
        ...

    def text(self, key: str, *, bytes_max: int = ELEMENT_BYTES_MAX) -> str | None:
        """The whole value; None when the key has no value. Raises SourceBroken above `bytes_max` UTF-8 bytes."""
        ...

    def elements(
        self, key: str, *, element_bytes_max: int = ELEMENT_BYTES_MAX, single_object: bool = False
    ) -> Iterator[bytes | OversizedElement]:
        """The raw JSON bytes of each element of a value that is a JSON array, in memory for one element.

        A key without a value has no elements: ask `size` and `near_misses` before believing it. With
        `single_object` a value that is one JSON object is its own only element. In place of an element above
        `element_bytes_max` comes an OversizedElement. Raises BrokenJson, after all elements before the break.
        """
        ...

    def near_misses(self, key: str) -> tuple[str, ...]:
        """Keys that the absent `key` was probably meant to be, the most alike first."""
        ...

    def problems(self) -> tuple[str, ...]:
        """What is odd about the store and did not stop the reading, each as a sentence without values."""
        ...

    def close(self) -> None:
        """Give back files and private copies."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


class ChunkedSource(ABC):
    """A Source for stores that give a value as UTF-8 bytes in chunks."""

    def __init__(self, *, identity: str, problems: tuple[str, ...], held: ExitStack) -> None:
        self.identity = identity
        self._problems = problems
        self._held = held

    @abstractmethod
    def keys(self) -> tuple[str, ...]: ...

    @abstractmethod
    def size(self, key: str) -> int | None: ...

    @abstractmethod
    def _chunks(self, key: str) -> Iterator[bytes]:
        """The value of a key that has one."""

    def text(self, key: str, *, bytes_max: int = ELEMENT_BYTES_MAX) -> str | None:
        if self.size(key) is None:
            return None
        whole = bytearray()
        for chunk in self._chunks(key):
            whole += chunk
            if len(whole) > bytes_max:
                raise _unreadable_value(key, f"it is longer than {bytes_max} bytes")
        try:
            return whole.decode()
        except UnicodeDecodeError as error:
            raise _unreadable_value(key, f"byte {error.start} is not UTF-8") from None

    def elements(
        self, key: str, *, element_bytes_max: int = ELEMENT_BYTES_MAX, single_object: bool = False
    ) -> Iterator[bytes | OversizedElement]:
        if self.size(key) is None:
            return iter(())
        return array_elements(self._chunks(key), element_bytes_max=element_bytes_max, single_object=single_object)

    def near_misses(self, key: str) -> tuple[str, ...]:
        return near_misses(key, self.keys())

    def problems(self) -> tuple[str, ...]:
        return self._problems

    def close(self) -> None:
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.close()


def _unreadable_value(key: str, why: str) -> SourceBroken:
    # A UnicodeDecodeError holds the value itself, so it is not kept as the cause.
    return SourceBroken(
        f"The value of {key!r} in the legacy store cannot be read as text.",
        why=why,
        fix="The store was not changed. Leave this key out of the import, or look at it by hand.",
    )
