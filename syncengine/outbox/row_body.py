"""Bodies of entries: the live row of an entry that names only its row, and what capture wrote, as both are sent."""

import base64
import math
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.errors import TextUnreadable
from syncengine.local.identifiers import quoted
from syncengine.outbox.sendable import NOT_FINITE, TEXT_HOLDS_NUL

if TYPE_CHECKING:
    from syncengine.local.store import Store


class RowUnreadable(ValueError):
    """A row cannot be written as JSON; `code` says why, without its values."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class LiveRows:
    """Reads live rows within one transaction; the schema is looked up once for each collection."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._known: dict[str, tuple[str, list[str], str]] = {}

    def body_json(self, collection: str, *, owner: str, row_key: str) -> str | None:
        """All columns of a live row but its owner, as a JSON object; None when the row is gone.

        Numbers, text and NULL are as they are; a blob is `{"$blob": "<base64>"}`. Raises RowUnreadable for text
        that is not UTF-8 or holds NUL, and for numbers that JSON has no words for.
        """
        select, columns, owner_column = self._known.get(collection) or self._look_up(collection)
        try:
            found = self._store.query(select, (owner, row_key))
        except TextUnreadable as error:
            raise RowUnreadable("text_not_utf8", "a text of the row is not UTF-8") from error
        if not found:
            return None
        values = zip(columns, found[0], strict=True)
        body = {name: _json_value(name, value) for name, value in values if name != owner_column}
        return orjson.dumps(body).decode()

    def _look_up(self, collection: str) -> tuple[str, list[str], str]:
        key_column, owner_column, _ = collection_columns(self._store, collection)
        columns = column_names(self._store, collection)
        select = (
            f"SELECT {', '.join(map(quoted, columns))} FROM {quoted(collection)} "
            f"WHERE {quoted(owner_column)} = ? AND {quoted(key_column)} = ?"
        )
        known = select, columns, owner_column
        self._known[collection] = known
        return known


def collection_columns(store: "Store", collection: str) -> tuple[str, str, str]:
    """Key column, owner column and shape version of a synced collection."""
    found = store.row("outbox", "collection", collection=collection)
    if found is None:
        raise AssertionError(f"{collection} is no synced collection")
    return found[0], found[1], found[2]


def column_names(store: "Store", collection: str) -> list[str]:
    """The columns that a statement can write, in order: not what SQLite computes."""
    return [str(name) for name, _ in store.rows("capture", "columns", collection=collection)]


def sendable_json(text: str) -> str:
    """What capture wrote, as it is sent: a blob is `{"$blob": "<base64>"}`. Mostly the same text.

    Raises RowUnreadable for a text with NUL and for a number that is not finite.
    """
    if '"$hex"' not in text and '"$real"' not in text and "\\u0000" not in text:
        return text
    said = orjson.loads(text)
    sendable = _sendable(said)
    return text if sendable == said else orjson.dumps(sendable).decode()


def _sendable(value: Any) -> Any:
    """Values of rows are never objects or lists: what looks like that, the engine wrote."""
    if isinstance(value, list):
        return [_sendable(part) for part in value]
    if isinstance(value, str) and "\0" in value:
        raise RowUnreadable(TEXT_HOLDS_NUL.code, TEXT_HOLDS_NUL.why)
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$hex"}:
        return {"$blob": base64.b64encode(bytes.fromhex(value["$hex"])).decode("ascii")}
    if value.keys() == {"$real"}:
        raise RowUnreadable(NOT_FINITE.code, NOT_FINITE.why)
    return {name: _sendable(part) for name, part in value.items()}


def _json_value(column: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$blob": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not math.isfinite(value):
        raise RowUnreadable("number_not_finite", f"column {column} holds a number that JSON cannot say")
    if isinstance(value, str) and "\0" in value:
        raise RowUnreadable("text_holds_nul", f"column {column} holds the character NUL")
    return value
