"""Where the rewriting of one large collection stands: the row of `_sync_shadow`, as a value that a batch replaces."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from syncengine.clock import iso
from syncengine.local.stored import stored_list, stored_object
from syncengine.migrate.definition import Counts
from syncengine.migrate.rejection import Rejection

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.local.version_table import Readable

Key = tuple[Any, ...]
_FACTS = frozenset(
    {
        *("extra", "code_faults", "repaired", "first", "warnings", "source", "indexes", "create"),
        *("seal", "schema_number", "begun_anew"),
    }
)
"""What `save` writes as JSON beside the columns."""
"""Values of the key columns: owner and key, or the key alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """One collection on its way, as its last committed batch left it."""

    collection: str
    migration: str
    scope: str
    code: str | None
    """What its code was; other code begins anew, and so does code of which nothing can be told (None)."""
    source: tuple[str, ...]
    """The columns of the live table when it began."""
    started_at: str
    rows_total: int
    batch_rows: int
    state: str = "filling"
    cursor: Key | None = None
    written: int = 0
    """Rows of the live table that became at least one row."""
    dropped: int = 0
    aside: int = 0
    extra: int = 0
    """Rows of the new table beyond one for each that was written: what splits made."""
    batches: int = 0
    batches_undone: int = 0
    restore_point_id: int | None = None
    code_faults: int = 0
    repaired: Mapping[str, int]
    first: Rejection | None = None
    """Why the first row was set aside."""
    warnings: tuple[str, ...] = ()
    indexes: Mapping[str, str]
    """The names that the indexes of the new table get at the swap, by their names until then."""
    create: str
    """The CREATE TABLE of the new table as it will be: with its foreign keys, under its own name."""
    seal: str
    """Of the tables and triggers as they were made."""
    schema_number: int
    """Of the schema when these were last seen to be the same."""
    begun_anew: int = 0
    """So many times, because they were not."""

    @property
    def read(self) -> int:
        """Rows of the live table that the new one accounts for."""
        return self.written + self.dropped + self.aside

    @property
    def rows_new(self) -> int:
        """So many rows the new table holds."""
        return self.written + self.extra

    @property
    def counts(self) -> Counts:
        return Counts(read=self.read, written=self.written, dropped=self.dropped, quarantined=self.aside)


def load(store: "Store", collection: str) -> Shadow | None:
    """What the last committed batch left; None where nothing is being rewritten."""
    row = store.row("shadow", "get", collection=collection)
    if row is None:
        return None
    facts = stored_object(row[14], "_sync_shadow.facts", keys=_FACTS)
    return Shadow(
        collection=row[0],
        migration=row[1],
        scope=row[2],
        code=row[3],
        state=row[4],
        cursor=None
        if row[6] is None
        else tuple(_plain(value) for value in stored_list(row[6], "_sync_shadow.cursor")),
        rows_total=row[7],
        written=row[8],
        dropped=row[9],
        batch_rows=row[10],
        batches=row[11],
        batches_undone=row[12],
        restore_point_id=row[13],
        started_at=row[15],
        aside=row[16],
        extra=facts["extra"],
        code_faults=facts["code_faults"],
        repaired=facts["repaired"],
        first=Rejection(**facts["first"]) if facts["first"] else None,
        warnings=tuple(facts["warnings"]),
        source=tuple(facts["source"]),
        indexes=facts["indexes"],
        create=facts["create"],
        seal=facts["seal"],
        schema_number=facts["schema_number"],
        begun_anew=facts["begun_anew"],
    )


def save(store: "Store", shadow: Shadow) -> None:
    """Write it, in the transaction of the batch that it counts."""
    facts = {
        "extra": shadow.extra,
        "code_faults": shadow.code_faults,
        "repaired": dict(shadow.repaired),
        "first": _rejection_as_dict(shadow.first),
        "warnings": list(shadow.warnings),
        "source": list(shadow.source),
        "indexes": dict(shadow.indexes),
        "create": shadow.create,
        "seal": shadow.seal,
        "schema_number": shadow.schema_number,
        "begun_anew": shadow.begun_anew,
    }
    store.run(
        "shadow",
        "save",
        collection=shadow.collection,
        migration=shadow.migration,
        scope=shadow.scope,
        code_hash=shadow.code,
        state=shadow.state,
        cursor=None if shadow.cursor is None else _json([_writable(value) for value in shadow.cursor]),
        rows_total=shadow.rows_total,
        rows_read=shadow.read,
        rows_written=shadow.written,
        rows_dropped=shadow.dropped,
        batch_rows=shadow.batch_rows,
        batches=shadow.batches,
        batches_undone=shadow.batches_undone,
        restore_point_id=shadow.restore_point_id,
        facts=_json(facts),
        started_at=shadow.started_at,
        now=iso(store.clock.now_ms()),
    )


def with_state(store: "Store", shadow: Shadow, state: str) -> Shadow:
    """The same in another state, written in a short transaction of its own; what was asked for is answered."""
    changed = replace(shadow, state=state)
    with store.transaction():
        save(store, changed)
        store.run("shadow", "ask", collection=shadow.collection, asked=None)
    return changed


def filling(store: "Readable") -> dict[str, str]:
    """The collections that are being rewritten now, or whose rewriting was paused, each with its migration."""
    return {str(collection): str(migration) for collection, migration in store.rows("shadow", "all")}


def ask_of_runner(store: "Store", what: str | None) -> tuple[str, ...]:
    """Tell whichever process rewrites collections to "pause", "cancel", or (None) to go on; which collections.

    It stops after its present batch. Where none runs, the next run hears it.
    """
    with store.transaction():
        names = tuple(filling(store))
        for name in names:
            store.run("shadow", "ask", collection=name, asked=what)
    return names


def _rejection_as_dict(rejection: Rejection | None) -> dict[str, Any] | None:
    if rejection is None:
        return None
    return {
        "code": rejection.code,
        "text": rejection.text,
        "field": rejection.field,
        "rows_to_judge_code": rejection.rows_to_judge_code,
    }


def _writable(value: Any) -> Any:
    return {"$blob": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _plain(value: Any) -> Any:
    return base64.b64decode(value["$blob"]) if isinstance(value, dict) else value


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
