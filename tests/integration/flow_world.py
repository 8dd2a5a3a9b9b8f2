"""Notes and places, changed by small migrations in one version or another; for tests of what runs when."""

from migrate_world import quiet_write, registry_of

from syncengine import Engine, MigrationDefinition, add, declared, tables
from syncengine.migrate.executor import BaseMigrationExecutor

NOTES = "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (user_id, id)) STRICT"
PLACES = "CREATE TABLE places (user_id TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (user_id, id)) STRICT"
TWO = {"from_version": "1.0.0", "to_version": "2.0.0"}
THREE = {"from_version": "2.0.0", "to_version": "3.0.0"}
FOUR = {"from_version": "3.0.0", "to_version": "4.0.0"}


def make(*, create=(NOTES, PLACES), **facts):
    return tables(**{"id": "make", "create": create, **TWO, **facts})


def column(name, *, collection="notes", title="", **facts):
    """A migration that adds a column of its own id."""
    facts = {"id": name, "name": title, **THREE, **facts}
    return declared(collection=collection, changes=(add(name, "TEXT", default="x"),), **facts)


def registry(*steps, target="3.0.0", **facts):
    return registry_of(make(), *steps, target=target, **facts)


def filled(path, *, rows=3, users=("ann",)):
    """A store at 2.0.0 with rows of each user."""
    with Engine.open(path, registry=registry(target="2.0.0")) as engine:
        engine.migrate()
        with quiet_write(engine) as db:
            for user in users:
                db["notes"].insert_all({"user_id": user, "id": f"n-{n}"} for n in range(rows))
    return path


def columns(engine, collection="notes"):
    return [row[0] for row in engine._store.query("SELECT name FROM pragma_table_info(?)", (collection,))][2:]


def history(engine):
    return [tuple(row) for row in engine._store.query("SELECT migration, state FROM _sync_run ORDER BY run_id")]


class WalkThrough(BaseMigrationExecutor):
    """Looks at `amount` things of the user's, one by one, and changes nothing."""

    def __init__(self, amount, **facts):
        super().__init__()
        facts = {"id": "walk", "name": "Walk", "description": "", "collections": ("notes",), **THREE, **facts}
        self.definition = MigrationDefinition(**facts)
        self.amount = amount
        self.looked = []

    def items(self, work):
        from syncengine import Item

        for number in range(self.amount):
            yield Item(str(number), number)

    def convert(self, item, work) -> None:
        self.looked.append(item.value)

    def estimate(self, work):
        return self.amount
