"""How far one step of an online migration has got; kept as JSON in its entry."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from syncengine.local.stored import stored_object

_KEYS = frozenset({"collections", "cloud_version", "works", "cursor", "collection_index", "changed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one numbered entry of a migration sends: changes of cloud rows, and where reading goes on after it."""

    changes: tuple[dict[str, Any], ...]
    """Each with kind, collection, key, set, if_version, as they travel."""
    collection_index: int
    cursor: str | None
    until: str | None
    """The last key of the rows that the changes were made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Rows that changed at the cloud between reading and writing: the same page is read again for these keys."""

    keys: tuple[str, ...]
    until: str | None
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Barrier:
    """The state of a `migration` entry. It works on the cloud page by page; `works=False` only tells the version."""

    collections: tuple[str, ...]
    cloud_version: str | None
    works: bool
    cursor: str | None = None
    collection_index: int = 0
    changed: int = 0
    page: Page | None = None
    again: Again | None = None

    @classmethod
    def from_json(cls, text: str) -> "Barrier":
        """The state in an entry's barrier_json. Raises StoreDamaged."""
        data = stored_object(text, "_sync_outbox.barrier_json", keys=_KEYS)
        page, again = data.get("page"), data.get("again")
        return cls(
            collections=tuple(data["collections"]),
            cloud_version=data["cloud_version"],
            works=data["works"],
            cursor=data["cursor"],
            collection_index=data["collection_index"],
            changed=data["changed"],
            page=Page(**{**page, "changes": tuple(page["changes"])}) if page else None,
            again=Again(**{**again, "keys": tuple(again["keys"])}) if again else None,
        )

    def to_json(self) -> str:
        """The state for barrier_json."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @property
    def reads(self) -> str | None:
        """The collection whose next page is to be read; None when all are done."""
        if self.works and self.collection_index < len(self.collections):
            return self.collections[self.collection_index]
        return None

    @property
    def is_done(self) -> bool:
        """True when nothing is left to send, not even the version."""
        return self.reads is None and self.cloud_version is None

    def with_page(self, page: Page) -> "Barrier":
        return replace(self, page=page)

    def after_page(self, page: Page, *, skipped: tuple[str, ...]) -> "Barrier":
        """The state after a page took effect: at the next page, or at this one again for the skipped keys."""
        changed = self.changed + len(page.changes) - len(skipped)
        if skipped:
            tries = (self.again.tries if self.again else 0) + 1
            again = Again(keys=skipped, until=page.until, tries=tries)
            return replace(self, changed=changed, page=None, again=again)
        return replace(
            self,
            changed=changed,
            collection_index=page.collection_index,
            cursor=page.cursor,
            page=None,
            again=None,
        )
