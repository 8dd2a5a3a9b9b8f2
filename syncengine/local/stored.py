"""What the engine wrote down in its own tables, read back: anything else there is damage, or was edited by hand.

An error names table and column, never what stands there.
"""

from __future__ import annotations

from syncengine.errors import COPY_FIRST, StoreDamaged, TextUnreadable
from syncengine.vocabulary import SchemaVersion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SHAPE_VERSION = "_sync_collection.shape_version"
POINT_VERSION = "_sync_restore_point.schema_version"


def stored_version(text: Any, place: str) -> SchemaVersion:
    """A schema version. Raises StoreDamaged."""
    try:
        return SchemaVersion.parse(text)
    except (ValueError, AttributeError) as error:
        raise damaged(place, "no schema version like 2.0.0") from error


def stored_number(text: Any, place: str) -> int:
    """A whole number. Raises StoreDamaged."""
    try:
        return int(text)
    except (ValueError, TypeError) as error:
        raise damaged(place, "no number") from error


def stored_object(text: Any, place: str, *, keys: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A JSON object that has these keys. Raises StoreDamaged."""
    found = _json(text, place)
    if not isinstance(found, dict) or not keys <= found.keys():
        raise damaged(place, "no JSON object of the keys that it should have")
    return found


def stored_list(text: Any, place: str) -> list[Any]:
    """A JSON list. Raises StoreDamaged."""
    found = _json(text, place)
    if not isinstance(found, list):
        raise damaged(place, "no JSON list")
    return found


def stored_texts(text: Any, place: str) -> tuple[str, ...]:
    """A JSON list of texts. Raises StoreDamaged."""
    found = stored_list(text, place)
    if not all(isinstance(part, str) for part in found):
        raise damaged(place, "no JSON list of texts")
    return tuple(found)


def stored_ddl(text: Any, place: str) -> tuple[str, ...]:
    """The SQL of a table and of what belongs to it, as a JSON list; CREATE TABLE first. Raises StoreDamaged."""
    found = stored_texts(text, place)
    if not found:
        raise damaged(place, "an empty list")
    return found


def _json(text: Any, place: str) -> Any:
    import json

    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        # Not kept as the cause: a JSONDecodeError holds the whole text.
        found = damaged(place, "no JSON")
    raise found


def damaged(place: str, why: str) -> StoreDamaged:
    """The error for what stands in `place`, which is a table and its column."""
    return StoreDamaged(
        f"The store holds what the engine never wrote, in {place}.",
        why=f"it is {why}",
        fix="Copy the file with its -wal before anything else; then put that right, or restore. Nothing was changed.",
    )


def text_unreadable() -> TextUnreadable:
    """The error for a text that is no UTF-8."""
    return TextUnreadable(
        "A text in the store is no UTF-8.",
        why="the file is damaged, or another program wrote it",
        fix=f"{COPY_FIRST} Nothing was changed.",
    )
