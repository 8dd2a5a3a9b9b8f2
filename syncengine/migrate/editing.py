"""May this be an item's new body? Checked against the shape that the item was written in, before it is taken.

It stays its owner's: no edit gives a row to another user.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from syncengine.errors import QuarantineEditRefused, RegistryInvalid
from syncengine.migrate.quarantine_item import row_from_json
from syncengine.migrate.row_codec import codec_of, why_invalid
from syncengine.migrate.row_migration import RowExecutor
from syncengine.migrate.validation import model_of

if TYPE_CHECKING:
    from syncengine.local.store import Store
    from syncengine.migrate.quarantine_item import QuarantineItem
    from syncengine.migrate.registry import MigrationRegistry


def check_new_body(
    item: "QuarantineItem", body: str, *, owner: str | None, store: "Store", registry: "MigrationRegistry"
) -> None:
    """Raises QuarantineEditRefused, which names the field and the reason, and no value. `owner`: who may get it."""
    if not isinstance(body, str):
        raise refused(item, "it is no text")
    if _has_a_key_twice(body):
        raise refused(item, "it has a key twice, or is nested too deeply")
    if item.origin == "outbox":
        _check_entry(item, body, model_of(store, registry, item.collection))
    elif item.shape_version is None:
        if _parsed(body) is _NO_JSON:
            raise refused(item, "it is no JSON")
    else:
        row = _check_row(item, body, _model_of_row(item, store, registry))
        collection = registry.collections.get(item.collection)
        _check_owner(item, row, column=None if collection is None else collection.owner, owner=owner)


def refused(item: "QuarantineItem", why: str, *, field: str | None = None) -> QuarantineEditRefused:
    """The error, as every check says it."""
    return QuarantineEditRefused(
        f"The new body of quarantine item {item.item_id} was not taken.",
        why=f"{field}: {why}" if field else why,
        fix="Correct it; the item is as it was.",
        field=field,
    )


_NO_JSON = object()


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _NO_JSON


class _Twice(Exception):
    """A key of an object is there twice: two readers might read two things."""


def _has_a_key_twice(text: str) -> bool:
    try:
        json.loads(text, object_pairs_hook=_each_once, parse_int=str, parse_float=str)
    except (_Twice, RecursionError):
        return True
    except ValueError:
        return False
    return False


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


def _check_owner(item: "QuarantineItem", row: Mapping[str, Any], *, column: str | None, owner: str | None) -> None:
    """Whose it is was recorded when it was set aside, as text."""
    if column is None or column not in row or (owner is not None and str(row[column]) == owner):
        return
    why = "it would be another user's" if owner is not None else "it belongs to nobody: name the user who gets it"
    raise refused(item, why, field=column)


def _check_row(item: "QuarantineItem", body: str, model: type[BaseModel] | None) -> Mapping[str, Any]:
    row = row_from_json(body)
    if row is None:
        raise refused(item, "it is no JSON object")
    columns = tuple(row_from_json(item.body) or ())
    _check_names(item, set(row), set(columns))
    if model is not None and set(model.model_fields) == set(columns):
        codec = codec_of(model)
        try:
            codec.decode([[row[name] for name in codec.columns]])
        except ValidationError as error:
            text, field = why_invalid(error)
            raise refused(item, text, field=field.partition(".")[2] or field) from None
    return row


def _check_names(item: "QuarantineItem", given: set[str], wanted: set[str]) -> None:
    for name in sorted(wanted - given):
        raise refused(item, "is missing", field=name)
    for name in sorted(given - wanted):
        raise refused(item, "is no column of this shape", field=name)


def _model_of_row(item: "QuarantineItem", store: "Store", registry: "MigrationRegistry") -> type[BaseModel] | None:
    if item.shape_version == store.value("runs", "shape_version", name=item.collection):
        return model_of(store, registry, item.collection)
    try:
        executor = registry.get_migration_executor(item.migration or "")
    except RegistryInvalid:
        return None
    is_its_own = isinstance(executor, RowExecutor) and executor.definition.from_version == item.shape_version
    return executor.old_model if isinstance(executor, RowExecutor) and is_its_own else None


def _check_entry(item: "QuarantineItem", body: str, model: type[BaseModel] | None) -> None:
    old, new = orjson.loads(item.body), _parsed(body)
    if not isinstance(new, dict):
        raise refused(item, "it is no JSON object")
    for name in sorted(old.keys() | new.keys()):
        if name != "set" and old.get(name) != new.get(name):
            raise refused(item, "only `set` can be edited", field=name)
    changes = new.get("set")
    if not isinstance(changes, dict) or not isinstance(old["set"], dict):
        raise refused(item, "there is nothing to edit" if old["set"] is None else "is no JSON object", field="set")
    _check_names(item, set(changes), set(old["set"]))
    for name in sorted(changes):
        _check_value(item, name, changes[name], model)


def _check_value(item: "QuarantineItem", name: str, value: Any, model: type[BaseModel] | None) -> None:
    """Each value by itself: an entry may hold only the columns that were changed."""
    if model is None or name not in model.model_fields:
        return
    codec = codec_of(model)
    found = model.model_fields[name]
    adapter: TypeAdapter[Any] = TypeAdapter(found.rebuild_annotation(), config={"strict": True})
    try:
        adapter.validate_python(codec.plain_value(name, value))
    except ValidationError as error:
        raise refused(item, why_invalid(error)[0], field=name) from None
