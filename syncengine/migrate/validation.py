"""Stored rows against the shape that the last migration gave them."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from syncengine.local.identifiers import quoted
from syncengine.migrate.definition import Counts
from syncengine.migrate.row_codec import codec_of, why_invalid
from syncengine.migrate.shape import columns_of, table_exists

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.registry import MigrationRegistry

PAGE_ROWS = 100
ERRORS_MAX = 100


def validate_collection(
    store: "Store", registry: "MigrationRegistry", name: str, *, user: str | None
) -> tuple[Counts, list[str]]:
    """Counts of rows read and of those that are right, and a sentence for each of the first hundred wrong ones."""
    counts = Counts()
    errors: list[str] = []
    if not table_exists(store, name):
        return counts, [f"{name}: there is no such table"]
    model = model_of(store, registry, name)
    collection = registry.collections[name]
    columns = codec_of(model).columns if model else columns_of(store, name)
    where = f"{quoted(collection.owner)} = :user AND" if user is not None and collection.owner else ""
    sql = (
        f"SELECT rowid, {quoted(collection.key)}, {', '.join(map(quoted, columns))} FROM {quoted(name)} "
        f"WHERE {where} rowid > :last ORDER BY rowid LIMIT {PAGE_ROWS}"
    )
    last = -1
    bindings = {"user": user} if where else {}
    while page := store.query(sql, {**bindings, "last": last}):
        last = page[-1][0]
        for _, key, *row in page:
            counts.read += 1
            wrong = _wrong(model, row)
            if wrong is None:
                counts.written += 1
                continue
            counts.quarantined += 1
            if len(errors) < ERRORS_MAX:
                errors.append(f"{name} {key}: {wrong}")
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


def _wrong(model: type[BaseModel] | None, row: list[object]) -> str | None:
    if model is None:
        return None
    try:
        codec_of(model).decode([row])
    except ValidationError as error:
        text, field = why_invalid(error)
        return f"{field.partition('.')[2] or field}: {text}"
    return None
