"""What an app's collections look like at a version, for people and for programs that read them."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic.errors import PydanticInvalidForJsonSchema

from syncengine.clock import SystemClock
from syncengine.local.store import Store
from syncengine.local.version_table import read_installed
from syncengine.migrate.service import DataMigrationService
from syncengine.migrate.sql_text import column_comments
from syncengine.migrate.validation import checked_shape
from syncengine.settings import Settings
from syncengine.vocabulary import STORE_SCOPE

if TYPE_CHECKING:
    from syncengine.local.version_table import Readable
    from syncengine.migrate.registry import MigrationRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnShape:
    """One column of a table; `default` is an SQL expression."""

    name: str
    type: str
    required: bool
    """NOT NULL, or part of the primary key."""
    in_key: bool
    default: str | None
    comment: str
    """What the author wrote behind it, or on the lines before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionShape:
    """One collection as it is stored."""

    name: str
    labels: tuple[str, ...]
    key: str
    owner: str | None
    shape_version: str
    """The version that last changed its shape."""
    columns: tuple[ColumnShape, ...]
    indexes: tuple[str, ...]
    """CREATE INDEX texts."""
    model: dict[str, Any] | None
    """The JSON schema of its rows, where a row function says what they are and JSON has words for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaDocument:
    """All collections of an app at a version. `print(document)` shows it; it holds no rows."""

    app: str
    version: str
    store: str | None
    """The store in which this was recorded; None: what the app's migrations make."""
    collections: tuple[CollectionShape, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.app} {self.version}"
        for collection in self.collections:
            labels = f" ({', '.join(collection.labels)})" if collection.labels else ""
            owner = "nobody's rows" if collection.owner is None else f"owner {collection.owner}"
            yield ""
            yield f"{collection.name}{labels}: since {collection.shape_version}, key {collection.key}, {owner}"
            width = max((len(column.name) for column in collection.columns), default=0)
            for column in collection.columns:
                yield f"  {column.name.ljust(width)}  {_words(column)}".rstrip()
            yield from (f"  {' '.join(index.split())}" for index in collection.indexes)


def _words(column: ColumnShape) -> str:
    parts = [column.type or "ANY"]
    if column.in_key:
        parts.append("in the key")
    elif column.required:
        parts.append("required")
    if column.default is not None:
        parts.append(f"default {column.default}")
    return ", ".join(parts) + (f"  -- {column.comment}" if column.comment else "")


def schema_of_app(registry: "MigrationRegistry", *, to: str | None = None) -> SchemaDocument:
    """What the app's migrations make of an empty store, up to a version. Raises what stops one of them."""
    with tempfile.TemporaryDirectory(prefix="syncengine-schema-") as folder:
        store = Store(str(Path(folder) / "empty.db"), settings=Settings(), clock=SystemClock())
        try:
            service = DataMigrationService(store=store, registry=registry, consent=lambda _: True)
            for result in service.run(until=to).results:
                if result.failure is not None:
                    raise result.failure
            return schema_of_store(store, registry)
        finally:
            store.close()


def schema_of_store(moment: "Readable", registry: "MigrationRegistry", *, path: str | None = None) -> SchemaDocument:
    """What is recorded in a store, at whichever version it is. Collections that have no table yet are left out."""
    return SchemaDocument(
        app=registry.app,
        version=str(read_installed(moment).schema_version(STORE_SCOPE) or registry.baseline),
        store=path,
        collections=tuple(_collections(moment, registry)),
    )


def _collections(moment: "Readable", registry: "MigrationRegistry") -> Iterator[CollectionShape]:
    for name, key, owner, shape_version in moment.rows("shapes", "collections"):
        made = moment.rows("shapes", "table_sql", name=name)
        if not made:
            continue
        declared = registry.collections.get(name)
        yield CollectionShape(
            name=name,
            labels=() if declared is None else declared.labels,
            key=key,
            owner=owner,
            shape_version=shape_version,
            columns=tuple(_columns(moment, name, column_comments(str(made[0][0])))),
            indexes=tuple(str(sql) for (sql,) in moment.rows("shapes", "indexes", name=name)),
            model=_model(moment, registry, name),
        )


def _columns(moment: "Readable", table: str, comments: Mapping[str, str]) -> Iterator[ColumnShape]:
    for name, kind, not_null, default, place_in_key in moment.rows("shapes", "columns", name=table):
        yield ColumnShape(
            name=name,
            type=kind,
            required=bool(not_null or place_in_key),
            in_key=bool(place_in_key),
            default=default,
            comment=comments.get(name, ""),
        )


def _model(moment: "Readable", registry: "MigrationRegistry", name: str) -> dict[str, Any] | None:
    # It asks a named statement of it and nothing else, as of any moment.
    model = checked_shape(cast("Store", moment), registry, name)
    if model is None:
        return None
    try:
        return model.model_json_schema()
    except PydanticInvalidForJsonSchema:
        return None
