"""A page of rows with nothing beside them, read as a whole: by the rules of the models, at a part of their cost."""

from dataclasses import dataclass, field
from itertools import chain, islice
from operator import itemgetter, lt
from typing import Any, Protocol, runtime_checkable

from pydantic import ValidationError

from syncengine.remote.json_text import INTEGER_MAX, names_of, read_uncounted
from syncengine.remote.wire import PullAnswer, PullRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainPage:
    """What `PullAnswer` holds, where no row has patches beside it. Of each row its value in each of the columns."""

    collections: list[str] = field(repr=False)
    keys: list[str] = field(repr=False)
    versions: list[int] = field(repr=False)
    shape_versions: list[str] = field(repr=False)
    bodies: list[dict[str, Any] | None] = field(repr=False)
    """None: deleted."""
    cursor: str
    more: bool
    server_epoch: int
    epoch_head: int | None


@runtime_checkable
class GivesPlainPages(Protocol):
    """A backend that need not make a model of each row."""

    def pull_plain(self, request: PullRequest) -> PullAnswer | PlainPage:
        """The same as `Backend.pull`."""
        ...


def plain_page(raw: bytes, request: PullRequest, *, depth_max: int) -> PlainPage | None:
    """What nearly every answer to a pull says.

    None for every other answer, and for one that may be wrong: then the models judge it.
    """
    read = read_uncounted(raw)
    if read is None:
        return None
    answer: Any = read[0]
    try:
        items = answer["items"]
        columns = [list(map(column, items)) for column in _COLUMNS]
        said = PullAnswer.model_validate({**answer, "items": ()})
        is_plain = set(map(len, items)) == {len(_COLUMNS)} and _are_plain(*columns)
    except (LookupError, TypeError, ValidationError):
        return None
    moves_on = not said.more or said.cursor != request.cursor
    if not is_plain or not moves_on or said.request_id != request.request_id:
        return None
    if not read[1].has_names(_names(answer, columns[-1], depth_max=depth_max)):
        return None  # orjson takes the last of two equal names
    collections, keys, versions, shape_versions, bodies = columns
    return PlainPage(
        collections=collections,
        keys=keys,
        versions=versions,
        shape_versions=shape_versions,
        bodies=bodies,
        cursor=said.cursor,
        more=said.more,
        server_epoch=said.server_epoch,
        epoch_head=said.epoch_head,
    )


def _are_plain(
    collections: list[Any], keys: list[Any], versions: list[Any], shape_versions: list[Any], bodies: list[Any]
) -> bool:
    """Are they of the right types, each once, and in the order of their versions?"""
    return (
        set(map(type, collections)) == set(map(type, keys)) == set(map(type, shape_versions)) == {str}
        and set(map(type, versions)) == {int}
        and set(map(type, bodies)) <= {dict, type(None)}
        and versions[0] >= 0
        and versions[-1] <= INTEGER_MAX
        and all(map(lt, versions, islice(versions, 1, None)))
        and (len(set(keys)) == len(keys) or len(set(zip(collections, keys, strict=True))) == len(keys))
    )


def _names(answer: dict[str, Any], bodies: list[dict[str, Any] | None], *, depth_max: int) -> int:
    """As `names_of`, which takes longer where bodies hold leaves alone."""
    living = [body for body in bodies if body is not None]
    leaves = chain.from_iterable(map(dict.values, living))
    if depth_max < _DEPTH or not _CONTAINERS.isdisjoint(map(type, leaves)):
        return names_of(answer, depth_max=depth_max)
    return len(answer) + len(_COLUMNS) * len(bodies) + sum(map(len, living))


_COLUMNS = tuple(map(itemgetter, ("collection", "key", "version", "shape_version", "body")))
_CONTAINERS = frozenset((dict, list))
_DEPTH = len(("answer", "items", "row", "body"))
