"""Where a user's documents lie. Pure.

    users/{uid}/{collection}/{key}                    a row, or its tombstone
    users/{uid}/{collection}/{key}/~beside/patches    writes of other shapes that wait to be lifted
    users/{uid}/~sync/state                           the user's counter, devices and collections
    users/{uid}/~receipts/{device}%3A{epoch}~{last}   what was answered to one commit's entries
    ~apps/{app}                                       the lowest schema version that may read
    ~health/{nonce}                                   never there: its absence is the answer

The name of a collection of an app cannot begin with `~`, so ours never meet one.
"""

import re

from syncengine.vocabulary import UserId

ID_BYTES_MAX = 1_500
"""Of a document's id: "Usage and limits" of Firestore's documentation."""

_RESERVED = re.compile(r"__.*__", re.DOTALL)
_SEQUENCE_DIGITS = 19


def document_id(key: str) -> str:
    """A key as the id of a document: `/` separates, and `.`, `..` and `__x__` are reserved."""
    written = key.replace("%", "%25").replace("/", "%2F")
    if written in (".", ".."):
        return written.replace(".", "%2E")
    return "%5F" + written[1:] if _RESERVED.fullmatch(written) else written


def is_document_id(text: str) -> bool:
    """Whether it can stand in a document's name as it is."""
    is_plain = "/" not in text and text not in (".", "..") and not _RESERVED.fullmatch(text)
    return is_plain and 0 < len(text.encode()) <= ID_BYTES_MAX


def key_of(name: str) -> str:
    """The key of a row's document, from its full name."""
    written = name.rsplit("/", 1)[1]
    for code, letter in (("%2F", "/"), ("%2E", "."), ("%5F", "_"), ("%25", "%")):
        written = written.replace(code, letter)
    return written


class Names:
    """The full names of one user's documents in one database."""

    def __init__(self, root: str, user: UserId) -> None:
        self.root = root
        """projects/{project}/databases/{database}/documents"""
        self.user = f"{root}/users/{user}"
        self.state = f"{self.user}/~sync/state"
        self.receipts = f"{self.user}/~receipts"

    def row(self, collection: str, key: str) -> str:
        return f"{self.user}/{collection}/{document_id(key)}"

    def beside(self, collection: str, key: str) -> str:
        return f"{self.row(collection, key)}/~beside/patches"

    def receipt(self, lane: str, last: int) -> str:
        """Ordered by number within a lane."""
        written = document_id(lane).replace("~", "%7E").replace(":", "%3A")
        return f"{self.receipts}/{written}~{last:0{_SEQUENCE_DIGITS}d}"

    def app(self, app: str) -> str:
        return f"{self.root}/~apps/{document_id(app)}"


def health_name(root: str, nonce: str) -> str:
    return f"{root}/~health/{document_id(nonce)}"
