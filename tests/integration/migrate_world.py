"""Small registries made of executors that a test writes in place, and what a store holds, as values to compare."""

import re
from contextlib import contextmanager

from syncengine import Collection, ListedMigration, MigrationRegistry, SystemClock

NAMES = ("journeys", "notes", "places", "profile", "loose")


class StoppedClock(SystemClock):
    """So that two runs write the same times."""

    def now_ms(self):
        return 1_750_000_000_000

    def monotonic_ms(self):
        return 1_000


class InlineRegistry(MigrationRegistry):
    """Its executors are here already, so that nothing is imported by name."""

    def __init__(self, *executors, **facts):
        facts = {"asks_for_major": False, **facts}
        super().__init__(migrations=[_listed(executor.definition) for executor in executors], **facts)
        for executor in executors:
            self._executors[executor.definition.id] = executor


def registry_of(*executors, target="2.0.0", baseline="1.0.0", collections=None, **facts):
    collections = collections or [Collection(name, owner=None if name == "loose" else "user_id") for name in NAMES]
    return InlineRegistry(*executors, app="test", baseline=baseline, target=target, collections=collections, **facts)


def _listed(definition):
    return ListedMigration(
        definition.id,
        f"{definition.from_version} > {definition.to_version}",
        "nowhere:nothing",
        definition.scope,
        online=definition.online,
        stands_for=definition.stands_for,
    )


def forget_how_tables_were_made(store):
    """As a store in which nothing was recorded: a table may then have any shape when its migration comes."""
    with store.transaction():
        store.query("UPDATE _sync_collection SET ddl = '[]'")


@contextmanager
def quiet_write(engine, **facts):
    """A block of the app's whose edits are not queued for a cloud: for rows that were always there."""
    with engine._store.without_triggers(), engine.write(**facts) as db:
        yield db


def dump(store, *, without=("_sync_run", "_sync_restore_point", "_sync_lease")):
    """All schema and all rows; the times, the device's name and which numbers of entries were used left out."""
    tables = [
        name
        for (name,) in store.query("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        if name not in (*without, "_sync_last_entry") and not name.startswith("sqlite_")
    ]
    schema = [
        (kind, name, on, sql and sql.replace('"', ""))  # ALTER TABLE RENAME writes names in quotes
        for kind, name, on, sql in store.query(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
        )
    ]
    rows = {name: sorted(map(_timeless, store.query(f'SELECT * FROM "{name}"'))) for name in tables}
    # Which entries are in the indexes, and whether their group has its name already.
    if "_sync_outbox" in tables:
        names = store.query(
            "SELECT name FROM pragma_table_info('_sync_outbox') WHERE name NOT IN ('fresh', 'group_id')"
        )
        stays = ", ".join(f"o.{name}" for (name,) in names)
        outbox = f"SELECT {stays}, g.group_id FROM _sync_outbox AS o JOIN _sync_group AS g USING (entry_id)"
        rows["_sync_outbox"] = sorted(map(_timeless, store.query(outbox)))
    rows["_sync_state"] = [row for row in rows["_sync_state"] if "'filed_to'" not in row]
    # Which schema was last compared with its record; the schema itself is in the dump.
    rows["_sync_state"] = [row for row in rows["_sync_state"] if "'schema_cookie'" not in row]
    rows["_sync_collection"] = [row.replace('\\\\"', "") for row in rows["_sync_collection"]]  # the same quotes
    return schema, rows


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z|[0-9a-f]{32}$")
_DURATION = re.compile(r'"duration":\d+')


def _timeless(row):
    values = (value.hex() if isinstance(value, bytes) else value for value in row)
    return repr([_DURATION.sub("", _TIME.sub("T", v)) if isinstance(v, str) else v for v in values])
