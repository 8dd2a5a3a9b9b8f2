"""The text of a new migration file: the shape that is there now, written out, ready to be changed by its author."""

import builtins
import inspect
import keyword
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncengine.errors import MigrationInvalid
from syncengine.migrate.row_migration import RowExecutor
from syncengine.vocabulary import STORE_SCOPE, SchemaVersion

if TYPE_CHECKING:
    from pydantic import BaseModel

    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.registry import MigrationRegistry

KINDS = ("declared", "rows", "upload")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMigration:
    """A file to be written, and the line that the list needs."""

    file_name: str
    text: str
    line: str


def new_migration(
    registry: "MigrationRegistry", *, collection: str, to_version: str, kind: str, package: str
) -> NewMigration:
    """A migration of one collection from the registry's target to a later version.

    Raises MigrationInvalid for a collection or version that cannot be, and for rows without a known model.
    """
    start, end = registry.target, _later(to_version, registry.target)
    if collection not in registry.collections:
        raise MigrationInvalid(
            f"The app has no collection {collection!r}.", why=f"it has {', '.join(sorted(registry.collections))}"
        )
    if kind not in KINDS:
        raise MigrationInvalid(f"There is no kind {kind!r} of new migration.", fix=f"One of {', '.join(KINDS)}.")
    name = f"{_identifier(collection)}_v{str(end).replace('.', '_')}"
    migration_id = f"{collection.replace('_', '-')}-{start}-to-{end}"
    facts = _Facts(collection=collection, name=name, id=migration_id, start=str(start), end=str(end))
    text = {"declared": _declared, "upload": _upload}.get(kind)
    body = _rows(facts, registry) if text is None else text(facts)
    scope = ', scope="user", online=True' if kind == "upload" else ""
    module = f"v{str(end).replace('.', '_')}_{_identifier(collection)}"
    return NewMigration(
        file_name=f"{module}.py",
        text=body,
        line=f'ListedMigration("{migration_id}", "{start} > {end}", "{package}.{module}:{name}"{scope}),',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    collection: str
    name: str
    id: str
    start: str
    end: str


def _later(text: str, target: SchemaVersion) -> SchemaVersion:
    try:
        version = SchemaVersion.parse(text)
    except ValueError as error:
        raise MigrationInvalid("The new migration has no good version.", why=str(error)) from error
    if version <= target:
        raise MigrationInvalid(
            f"The new migration would not go forward: the app is at {target} already.",
            fix=f"Name a version above {target}.",
        )
    return version


def _identifier(name: str) -> str:
    bare = re.sub(r"\W", "_", name)
    return f"{bare}_" if keyword.iskeyword(bare) or not bare.isidentifier() else bare


def _declared(facts: _Facts) -> str:
    return f'''"""{facts.start} to {facts.end}: what changes in {facts.collection}, and why."""

from syncengine import add, declared

{facts.name} = declared(
    id="{facts.id}",
    name="{facts.collection} {facts.start} to {facts.end}",
    description="What this does, in words for the user.",
    collection="{facts.collection}",
    from_version="{facts.start}",
    to_version="{facts.end}",
    changes=(
        # add, rename, cast, archive: docs/writing-migrations.md
        add("note", "TEXT"),
    ),
)
'''


def _upload(facts: _Facts) -> str:
    return f'''"""{facts.start} to {facts.end}: {facts.collection} is sent to the cloud in its new shape."""

from syncengine import upload

{facts.name} = upload(
    id="{facts.id}",
    description="Sends the user's {facts.collection} to the cloud.",
    from_version="{facts.start}",
    to_version="{facts.end}",
    collections=("{facts.collection}",),
)
'''


def _rows(facts: _Facts, registry: "MigrationRegistry") -> str:
    model, table = _present_shape(registry, facts.collection)
    annotations = _annotations(model)
    fields = "".join(f"    {name}: {text}\n" for name, (text, _) in annotations.items())
    new_name = f"{_class_name(facts.collection)}V{facts.end.replace('.', '_')}"
    keeps = "".join(f"        {name}=old.{name},\n" for name in model.model_fields)
    keeps_back = keeps.replace("=old.", "=new.")
    return f'''"""{facts.start} to {facts.end}: what changes in {facts.collection}, and why."""

from pydantic import BaseModel, ConfigDict

{_imports(model, annotations)}
from syncengine import migration

{facts.name.upper()}_SQL = """
{table.strip()}
"""


class {new_name}(BaseModel):
    """A row as {facts.end} keeps it. It stays in this file for good, whatever the app does later."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

{fields}

@migration(
    id="{facts.id}",
    description="What this does, in words for the user.",
    collection="{facts.collection}",
    from_version="{facts.start}",
    to_version="{facts.end}",
    table={facts.name.upper()}_SQL,
)
def {facts.name}(old: {model.__name__}) -> {new_name}:
    return {new_name}(
{keeps}    )


@{facts.name}.down
def {facts.name}_back(new: {new_name}) -> {model.__name__}:
    return {model.__name__}(
{keeps_back}    )
'''


def _class_name(collection: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[\W_]+", collection)) or "Row"


def _annotations(model: "type[BaseModel]") -> dict[str, tuple[str, str]]:
    """Of each field, its annotation as its author wrote it, and the module where that was."""
    found: dict[str, tuple[str, str]] = {}
    for base in reversed(model.__mro__):
        if not vars(base).get("__annotations__") or base.__module__.startswith("pydantic"):
            continue
        source = _source_of(base)
        for name in vars(base)["__annotations__"]:
            written = re.search(rf"^\s+{re.escape(name)}\s*:\s*(.+?)\s*(?:#.*)?$", source, re.M)
            if written is not None:
                found[name] = (written[1], base.__module__)
    missing = sorted(set(model.model_fields) - set(found))
    if missing:
        raise MigrationInvalid(
            f"The fields of {model.__name__} are not all written where its class is.",
            why=", ".join(missing),
            fix="Write the new model by hand, or begin with --kind declared.",
        )
    return {name: found[name] for name in model.model_fields}


def _source_of(model: type) -> str:
    try:
        return inspect.getsource(model)
    except (OSError, TypeError):
        return ""


def _imports(model: "type[BaseModel]", annotations: dict[str, tuple[str, str]]) -> str:
    """What the copied annotations name, from where the old model got it."""
    wanted: dict[str, set[str]] = {model.__module__: {model.__name__}}
    for text, module in annotations.values():
        for name in set(re.findall(r"\b[A-Za-z_]\w*", re.sub(r"\"[^\"]*\"|'[^']*'", "", text))):
            known = getattr(sys.modules[module], name, None)
            if known is not None and not hasattr(builtins, name):
                wanted.setdefault(module, set()).add(name)
    return "\n".join(f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(wanted.items()))


def _present_shape(registry: "MigrationRegistry", collection: str) -> "tuple[type[BaseModel], str]":
    """The model and CREATE TABLE of the present shape, if a row function wrote it and nothing changed it since."""
    newest: BaseMigrationExecutor | None = None
    for listed in sorted(registry.wanted(), key=lambda listed: listed.edge.to_version):
        executor = registry.get_migration_executor(listed.id)
        if listed.scope == STORE_SCOPE and collection in executor.definition.collections:
            newest = executor
    if not isinstance(newest, RowExecutor) or newest.table is None:
        raise MigrationInvalid(
            f"The present shape of {collection} was not written by a row function, so its model is not known.",
            why="the last to change it is " + (newest.definition.id if newest else "nobody"),
            fix="Begin with --kind declared, or write the two models by hand: docs/writing-migrations.md.",
        )
    return newest.new_model, ";\n".join((newest.table.create, *newest.table.indexes)) + ";"
