"""Stored rows against the shape that the last migration gave them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError, create_model

from syncengine.local.identifiers import quoted
from syncengine.local.stored import SHAPE_VERSION, stored_version
from syncengine.migrate.declared import Change, DeclaredExecutor, Rename
from syncengine.migrate.definition import Counts
from syncengine.migrate.paging import pages
from syncengine.migrate.row_codec import codec_of, why_invalid
from syncengine.migrate.shape import columns_of, table_exists
from syncengine.migrate.work import key_columns
from syncengine.vocabulary import STORE_SCOPE

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry

ERRORS_MAX = 100


def validate_collection(
    store: "Store", registry: "MigrationRegistry", name: str, *, user: str | None
) -> tuple[Counts, list[str]]:
    """Counts of rows read and of those that are right, and a sentence for each of the first hundred wrong ones."""
    counts = Counts()
    errors: list[str] = []
    if not table_exists(store, name):
        return counts, [f"{name}: there is no such table"]
    model = checked_shape(store, registry, name)
    collection = registry.collections[name]
    live = columns_of(store, name)
    columns = codec_of(model).columns if model else live
    missing = [column for column in (*columns, collection.key, collection.owner) if column and column not in live]
    if missing:
        return counts, [f"{name}: the table has no column {column}" for column in dict.fromkeys(missing)]
    where = f"{quoted(collection.owner)} = :user" if user is not None and collection.owner else "1"
    bindings = {"user": user} if where != "1" else {}
    key = columns.index(collection.key)
    for page in pages(store, name, columns=columns, keys=key_columns(collection), where=where, bindings=bindings):
        for row in page:
            counts.read += 1
            wrong = _wrong(model, row)
            if wrong is None:
                counts.written += 1
                continue
            counts.quarantined += 1
            if len(errors) < ERRORS_MAX:
                errors.append(f"{name} {row[key]}: {wrong}")
    return counts, errors


def model_of(store: "Store", registry: "MigrationRegistry", name: str) -> type[BaseModel] | None:
    """The model that describes the present rows: what the last row migration of the collection writes."""
    from syncengine.migrate.row_migration import RowExecutor

    shape = store.value("runs", "shape_version", name=name)
    for listed in registry.migrations:
        if listed.scope == "store" and str(listed.edge.to_version) == shape:
            executor = registry.get_migration_executor(listed.id)
            if isinstance(executor, RowExecutor) and executor.collection == name:
                return executor.new_model
    return None


def checked_shape(store: "Store", registry: "MigrationRegistry", name: str) -> type[BaseModel] | None:
    """What stored rows are checked against: the newest row model, with the declared changes since then.

    Columns that were added, cast or archived since are the table's own business: it is STRICT where its author says
    so. None where no row function has written the collection.
    """
    from syncengine.migrate.row_migration import RowExecutor

    found = store.value("runs", "shape_version", name=name)
    shape = None if found is None else stored_version(found, SHAPE_VERSION)
    model: type[BaseModel] | None = None
    for listed in sorted(registry.migrations, key=lambda listed: listed.edge.to_version):
        if shape is None or listed.scope != STORE_SCOPE or listed.edge.to_version > shape:
            continue
        executor = registry.get_migration_executor(listed.id)
        if isinstance(executor, RowExecutor) and executor.collection == name:
            model = executor.new_model
        elif isinstance(executor, DeclaredExecutor) and executor.collection == name and model is not None:
            model = _changed(model, executor.changes)
    return model


def _changed(model: type[BaseModel], changes: Sequence[Change]) -> type[BaseModel]:
    """The fields that declared changes leave as they were, under their new names."""
    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in model.model_fields.items()}
    for change in changes:
        field = fields.pop(change.column, None)
        if field is not None and isinstance(change, Rename):
            fields[change.to] = field
    return create_model(f"{model.__name__}Changed", __config__=model.model_config, **fields)


def _wrong(model: type[BaseModel] | None, row: Sequence[object]) -> str | None:
    if model is None:
        return None
    try:
        codec_of(model).decode([row])
    except ValidationError as error:
        text, field = why_invalid(error)
        return f"{field.partition('.')[2] or field}: {text}"
    return None
