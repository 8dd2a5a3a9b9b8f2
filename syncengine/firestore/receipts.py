"""What was answered to the entries of one commit, as one document in the same commit. Pure.

A run of neighbours that fared alike takes one line.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from syncengine.firestore.answers import violation
from syncengine.firestore.rest import Found
from syncengine.firestore.values import encoded
from syncengine.server.receipts import Receipt

RECEIPT_BYTES_MAX = 1_000_000
"""Of one document of receipts. A commit whose entries say more is cut in two."""


def receipts_text(receipts: Iterable[Receipt]) -> str:
    """All of them, as JSON."""
    return orjson.dumps([list(each) for each in receipts]).decode()


def receipts_write(name: str, receipts: list[Receipt], *, text: str, head: int | None, mark: int) -> dict[str, Any]:
    """A document that is not there yet. `head`: the version that the commit reached; None where it changed no row."""
    values = {
        "first": receipts[0].sequence,
        "last": receipts[-1].sequence + receipts[-1].entries - 1,
        "results": text,
        "mark": mark,
        **({} if head is None else {"last_version": head}),
    }
    return {
        "update": {"name": name, "fields": {key: encoded(value) for key, value in values.items()}},
        "updateTransforms": [{"fieldPath": "at", "setToServerValue": "REQUEST_TIME"}],
        "currentDocument": {"exists": False},
    }


def receipts_of(found: Found) -> list[Receipt]:
    """What `receipts_write` was made of. Raises ProtocolViolation."""
    try:
        receipts = [Receipt._make(each) for each in orjson.loads(found.fields["results"]["stringValue"])]
        return [each._replace(skipped=None if each.skipped is None else tuple(each.skipped)) for each in receipts]
    except (ValueError, KeyError, TypeError) as error:
        raise violation("a receipt cannot be read; a newer syncengine may have written it") from error
