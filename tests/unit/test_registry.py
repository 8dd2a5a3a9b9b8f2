"""The list of migrations: what it refuses, and the way it finds."""

import sys
import types

import pytest

from syncengine import Collection, ListedMigration, MigrationRegistry, declared, rename
from syncengine.errors import RegistryInvalid, StoreSuperseded
from syncengine.local.version_table import Installed
from syncengine.migrate.registry import Hop
from syncengine.vocabulary import SchemaVersion


def registry(*hops, baseline="1.0.0", target="2.0.0", **facts):
    """Each hop a migration of its own name: "1 > 2"."""
    migrations = [hop if isinstance(hop, ListedMigration) else ListedMigration(hop, hop, "nowhere:x") for hop in hops]
    return MigrationRegistry(
        app="test",
        baseline=baseline,
        target=target,
        collections=[Collection("notes")],
        migrations=migrations,
        **facts,
    )


def path(found, start, end):
    return [str(hop) for hop in found.get_migration_path(start, end)]


@pytest.mark.parametrize(
    "hops",
    [
        (),
        ("1 > 1.5",),
        ("1.5 > 2",),
        ("2 > 1",),
        ("1 > 1", "1 > 2"),
        ("1 > 2", "1 > 1.5"),
        ("1 > 2", "0.5 > 0.9"),
        ("1 to 2",),
        ("1 > two",),
        ("1 > 2 > 3",),
        ("1 > 2", "1 > 2"),
    ],
    ids=lambda hops: ", ".join(hops) or "none",
)
def test_a_list_that_does_not_lead_to_the_target_is_refused(hops):
    with pytest.raises(RegistryInvalid):
        registry(*hops)


@pytest.mark.parametrize(("scope", "online"), [("device", False), ("store", True)])
def test_a_scope_that_cannot_be_is_refused(scope, online):
    with pytest.raises(RegistryInvalid):
        registry(ListedMigration("a", "1 > 2", "nowhere:x", scope, online=online))


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "\x7f", "\ud800", None, 5, b"notes"], ids=repr)
@pytest.mark.parametrize(
    ("of", "make"),
    [
        ("A collection", Collection),
        ("The key column of collection notes", lambda name: Collection("notes", key=name)),
        ("The owner column of collection notes", lambda name: Collection("notes", owner=name or "")),
        ("A migration", lambda name: registry(ListedMigration(name, "1 > 2", "nowhere:x"))),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_and_told(of, make, name):
    with pytest.raises(RegistryInvalid) as refused:
        make(name)
    assert refused.value.what.startswith(f"{of} has a name that cannot be one: ")
    assert refused.value.what.endswith((f"{name!r}.", "''."))


@pytest.mark.parametrize("name", ["_sync_outbox", "sqlite_sequence", "SQLite_x"])
def test_a_collection_cannot_have_the_name_of_a_table_of_the_engines_or_of_sqlites(name):
    with pytest.raises(RegistryInvalid, match=f"Collection {name} has a name that is taken"):
        Collection(name)


@pytest.mark.parametrize("name", ["my notes", "no.tes", "9", "select", "a'b", 'a"b', "%s", "{x}", "\N{SNOWMAN}"])
def test_any_other_name_is_one(name):
    found = registry(ListedMigration(name, "1 > 2", "nowhere:x"))
    assert (found.listed(name).id, Collection(name, key=name, owner=name).name) == (name, name)


def test_an_app_without_any_migration_is_at_its_target():
    assert path(registry(target="1.0.0"), "1.0.0", "1.0.0") == []


def test_hops_beyond_the_target_are_there_for_later_and_need_not_lead_anywhere():
    found = registry("1 > 2", "2 > 3", "2.5 > 4")
    assert path(found, "1.0.0", "2.0.0") == ["1.0.0 > 2.0.0"]


def test_the_path_has_the_fewest_hops_and_among_equals_the_lowest_versions():
    found = registry("1 > 1.1", "1.1 > 1.2", "1.2 > 2", "1 > 1.3", "1.3 > 2", "1 > 1.4", "1.4 > 2")
    assert path(found, "1.0.0", "2.0.0") == ["1.0.0 > 1.3.0", "1.3.0 > 2.0.0"]
    assert path(found, "1.1.0", "2.0.0") == ["1.1.0 > 1.2.0", "1.2.0 > 2.0.0"]


def test_the_path_does_not_depend_on_the_order_of_the_list():
    hops = ("1 > 1.3", "1.3 > 2", "1 > 1.4", "1.4 > 2", "1 > 1.2", "1.2 > 2")
    assert path(registry(*hops), "1.0.0", "2.0.0") == ["1.0.0 > 1.2.0", "1.2.0 > 2.0.0"]
    assert path(registry(*reversed(hops)), "1.0.0", "2.0.0") == ["1.0.0 > 1.2.0", "1.2.0 > 2.0.0"]


@pytest.mark.parametrize("start", ["3.0.0", "1.5.0", "0.1.0"])
def test_from_a_version_that_nobody_knows_there_is_no_path(start):
    found = registry("1 > 2")
    assert not found.knows(SchemaVersion.parse(start))
    with pytest.raises(StoreSuperseded):
        found.get_migration_path(start, "2.0.0")


def installed(**versions):
    scopes = {"store" if name == "store" else f"user:{name}": SchemaVersion.parse(v) for name, v in versions.items()}
    return Installed(versions=scopes, cloud_versions={}, completed=frozenset(), queued=frozenset())


def test_nothing_is_pending_when_the_markers_are_at_the_target_and_no_module_is_imported_for_it():
    found = registry("1 > 2")
    assert found.nothing_pending(installed(store="2.0.0", ann="2.0.0"), user="ann")
    assert found.nothing_pending(installed(store="2.0.0"), user=None)
    assert not found.nothing_pending(installed(store="2.0.0"), user="ann")
    assert not found.nothing_pending(installed(store="1.0.0", ann="2.0.0"), user="ann")
    assert not found.nothing_pending(installed(store="3.0.0"), user=None)
    assert not found.nothing_pending(installed(), user=None)


def make(**facts):
    facts = {"id": "a", "collection": "notes", "from_version": "1.0.0", "to_version": "2.0.0", **facts}
    return declared(changes=(rename("x", "y"),), **facts)


@pytest.fixture
def module(monkeypatch):
    """An importable module with one migration in it."""
    found = types.ModuleType("migrations_of_this_test")
    found.a = make()
    found.text = "no migration"
    monkeypatch.setitem(sys.modules, found.__name__, found)
    return found


def test_a_listed_migration_is_imported_when_it_is_asked_for(module):
    found = registry(ListedMigration("a", "1 > 2", "migrations_of_this_test:a"))
    assert found.get_migration_executor("a") is module.a
    with pytest.raises(RegistryInvalid):
        found.get_migration_executor("b")


@pytest.mark.usefixtures("module")
def test_where_the_list_and_the_code_differ_both_are_shown_with_what_to_do():
    with pytest.raises(RegistryInvalid) as refused:
        registry(ListedMigration("b", "1 > 2", "migrations_of_this_test:a", "user")).get_migration_executor("b")
    assert "why:  id: the list has b, the code a; scope: the list has user, the code store" in str(refused.value)
    assert "fix:  Write the same in the list and in the code; the store was not changed." in str(refused.value)


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        (ListedMigration("b", "1 > 2", "migrations_of_this_test:a"), "id"),
        (ListedMigration("a", "1 > 2", "migrations_of_this_test:a", "user"), "scope"),
        (ListedMigration("a", "1 > 2", "migrations_of_this_test:a", "user", online=True), "online"),
        (ListedMigration("a", "0.9 > 2", "migrations_of_this_test:a"), "from_version"),
        (ListedMigration("a", "1 > 2", "migrations_of_this_test:a", stands_for=("b",)), "stands_for"),
        (ListedMigration("a", "1 > 2", "migrations_of_this_test:nothing"), "nothing"),
        (ListedMigration("a", "1 > 2", "no_such_module_here:a"), "ModuleNotFoundError"),
        (ListedMigration("a", "1 > 2", "migrations_of_this_test:text"), "str"),
    ],
)
@pytest.mark.usefixtures("module")
def test_a_list_that_lies_about_its_code_is_refused(listed, says):
    found = registry(listed, "1 > 1.5", "1.5 > 2", baseline="0.9.0" if "0.9" in listed.hop else "1.0.0")
    with pytest.raises(RegistryInvalid) as refused:
        found.get_migration_executor(listed.id)
    assert says in str(refused.value)


def test_a_migration_of_a_collection_that_is_not_declared_is_refused(module):
    module.a = make(collection="elsewhere")
    found = registry(ListedMigration("a", "1 > 2", "migrations_of_this_test:a"))
    with pytest.raises(RegistryInvalid, match="collections"):
        found.get_migration_executor("a")


def test_a_plug_in_is_registered_by_its_own_definition_or_not_at_all():
    found = registry("1 > 2")
    found.register_migration("a", make())
    assert [listed.id for listed in found.of_hop(Hop.parse("1 > 2"))] == ["1 > 2", "a"]
    for migration_id, executor, dependencies in (
        ("a", make(), ()),
        ("b", make(), ()),
        ("b", make(id="b"), ("a",)),
        ("b", make(id="b", collection="elsewhere"), ()),
        ("b", make(id="b", from_version="1.0.0", to_version="1.5.0"), ()),
    ):
        with pytest.raises(RegistryInvalid):
            found.register_migration(migration_id, executor, dependencies)
        assert [listed.id for listed in found.migrations] == ["1 > 2", "a"]
    found.register_migration("b", make(id="b", after=("a",)), ("a",))
    found.check_graph()
