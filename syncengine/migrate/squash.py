"""The text of a squash: one step that makes the newest tables for a store that has none yet.

Stores that are on their way keep going step by step, and so do the imports of users; the squash is told whose work it
does, so nothing of it is run again.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from syncengine.clock import SystemClock
from syncengine.errors import MigrationInvalid
from syncengine.local.store import Store
from syncengine.migrate.service import DataMigrationService
from syncengine.migrate.shape import attached, parse_table, table_exists
from syncengine.migrate.template import NewMigration
from syncengine.outbox.capture_triggers import PREFIX
from syncengine.settings import Settings

if TYPE_CHECKING:
    from syncengine.migrate.registry import MigrationRegistry


def squash(registry: "MigrationRegistry", *, package: str) -> NewMigration:
    """A step from the baseline to the target, with the tables that the path makes in an empty store.

    Raises MigrationInvalid where there is nothing to squash, and what stops the path.
    """
    with tempfile.TemporaryDirectory(prefix="syncengine-squash-") as folder:
        store = Store(str(Path(folder) / "empty.db"), settings=Settings(), clock=SystemClock())
        try:
            ids = _gone(store, registry)
            made = [_ddl(store, name) for name in registry.collections if table_exists(store, name)]
        finally:
            store.close()
    return _file(registry, ids, made, package=package)


def _gone(store: Store, registry: "MigrationRegistry") -> tuple[str, ...]:
    """Go the path in an empty store; the ids of its steps, and of what they stand for."""
    service = DataMigrationService(store=store, registry=registry, consent=lambda _: True)
    steps = service.plan().steps
    for result in service.run().results:
        if result.failure is not None:
            raise result.failure
    definitions = [registry.get_migration_executor(step.id).definition for step in steps]
    ids = tuple(dict.fromkeys(name for one in definitions for name in (*one.stands_for, one.id)))
    if len(ids) < 2:
        raise MigrationInvalid(
            "There is nothing to squash.",
            why=f"from {registry.baseline} to {registry.target} the store takes {len(ids)} steps",
            fix="A squash is worth its file once several steps lead to the newest version.",
        )
    return ids


def _ddl(store: Store, name: str) -> str:
    sql = store.query("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (name,))[0][0]
    table = parse_table(str(sql), migration="squash").create_as(name)
    triggers = [trigger for trigger, _ in attached(store, name, "trigger") if not trigger.startswith(PREFIX)]
    if triggers:
        raise MigrationInvalid(
            f"The table {name} has triggers, which a squash does not write.",
            why=", ".join(triggers),
            fix="Write this squash by hand: docs/writing-migrations.md.",
        )
    return ";\n".join([table, *(index for _, index in attached(store, name, "index"))]) + ";\n"


def _file(registry: "MigrationRegistry", ids: tuple[str, ...], made: list[str], *, package: str) -> NewMigration:
    start, end = registry.baseline, registry.target
    module = f"squash_{start}_to_{end}".replace(".", "_")
    migration_id = f"squash-{start}-to-{end}"
    stands_for = "".join(f'    "{name}",\n' for name in ids)
    tables = "".join(f'    """\n{_as_text(sql)}""",\n' for sql in made)
    text = f'''"""{start} to {end} in one step, for stores without tables. What it stands for stays listed."""

from syncengine import tables
from syncengine.outbox.capture_triggers import PREFIX

STANDS_FOR = (
{stands_for})

TABLES = (
{tables})

squash = tables(
    id="{migration_id}",
    name="Tables of {end}",
    from_version="{start}",
    to_version="{end}",
    create=TABLES,
    stands_for=STANDS_FOR,
)
'''
    return NewMigration(
        file_name=f"{module}.py",
        text=text,
        line=f'ListedMigration("{migration_id}", "{start} > {end}", "{package}.{module}:squash", '
        f"stands_for={ids!r}),",
    )


def _as_text(sql: str) -> str:
    """Safe inside three double quotes."""
    return sql.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
