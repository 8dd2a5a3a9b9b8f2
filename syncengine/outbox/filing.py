"""The indexes of the outbox: entries are entered when somebody looks for one, not while an app waits for its edit.

What a trigger writes is fresh: in no index. Nearly all of it is numbered, sent and gone before anybody asks for it by
its row. Whoever does ask has what is fresh entered first. All up to `filed_to` are entered; behind it are fresh ones,
and those that the engine has written itself, which are in the indexes from the start.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncengine.local.store import Store


def file_entries(store: "Store") -> None:
    """Every entry can be found by its row and its owner, until the next edit."""
    if not _is_behind(store):
        return
    with store.transaction():
        filed_to, _, newest = store.rows("outbox", "filed_to")[0]
        store.run("outbox", "file", after=filed_to)
        store.run("outbox", "note_filed", entry_id=newest)


def _is_behind(store: "Store") -> bool:
    filed_to, _, newest = store.rows("outbox", "filed_to")[0]
    return bool(filed_to < newest)
