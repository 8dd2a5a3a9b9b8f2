"""A plan is a value: decided from what is installed, printed, and run elsewhere."""

import pytest

from syncengine import Collection, ListedMigration, MigrationDefinition, MigrationRegistry
from syncengine.errors import RegistryInvalid
from syncengine.local.version_table import Installed
from syncengine.migrate.executor import BaseMigrationExecutor
from syncengine.migrate.plan import make_plan, reached
from syncengine.vocabulary import SchemaVersion


class StepExecutor(BaseMigrationExecutor):
    def __init__(self, **facts):
        super().__init__()
        facts = {"name": "", "description": "", "collections": ("notes",), **facts}
        self.definition = MigrationDefinition(**facts)


def step(name, hop="1 > 2", **facts):
    start, _, end = hop.partition(" > ")
    return StepExecutor(id=name, from_version=start, to_version=end, **facts)


def registry(*steps, target="2.0.0"):
    listed = [
        ListedMigration(d.id, f"{d.from_version} > {d.to_version}", "-:-", d.scope, online=d.online)
        for d in (executor.definition for executor in steps)
    ]
    found = MigrationRegistry(
        app="test",
        baseline="1.0.0",
        target=target,
        collections=[Collection("notes")],
        migrations=listed,
        asks_for_major=False,
    )
    found._executors.update({executor.definition.id: executor for executor in steps})
    return found


def installed(*, completed=(), queued=(), **versions):
    scopes = {"store" if name == "store" else f"user:{name}": SchemaVersion.parse(v) for name, v in versions.items()}
    return Installed(versions=scopes, cloud_versions={}, completed=frozenset(completed), queued=frozenset(queued))


def ids(plan):
    return [found.id for found in plan.steps]


def test_a_hop_runs_dependencies_then_offline_then_the_store_then_critical_then_by_id():
    steps = [
        step("z-online", scope="user", online=True, critical=True),
        step("b-user", scope="user"),
        step("a-user", scope="user", critical=True),
        step("y-store"),
        step("x-store"),
        step("w-store", critical=True),
        step("a-first-though-dependant", after=("y-store",), critical=True),
    ]
    plan = make_plan(installed(), registry(*steps), user="ann")
    assert ids(plan) == [
        "w-store",
        "x-store",
        "y-store",
        "a-first-though-dependant",
        "a-user",
        "b-user",
        "z-online",
    ]


def test_an_offline_migration_that_comes_after_an_online_one_waits_for_its_turn():
    steps = [step("a", after=("z",), scope="user"), step("z", scope="user", online=True), step("b")]
    assert ids(make_plan(installed(), registry(*steps), user="ann")) == ["b", "z", "a"]


def test_all_hops_come_in_order_and_the_plan_prints_itself():
    steps = [
        step("c", "2 > 3", critical=True),
        step("b", scope="user"),
        step("up", scope="user", online=True),
        step("a"),
    ]
    plan = make_plan(installed(), registry(*steps, target="3.0.0"), user="ann")
    assert str(plan).splitlines() == [
        "1.0.0 > 3.0.0 for ann",
        "  1.0.0 > 2.0.0",
        "    a  (store, offline)",
        "    b  (user:ann, offline)",
        "    up  (user:ann, waits for the cloud)",
        "  2.0.0 > 3.0.0",
        "    c  (store, offline, critical)",
    ]
    assert [found["id"] for found in plan.to_json()["steps"]] == ["a", "b", "up", "c"]


def test_without_a_user_only_the_store_is_planned():
    assert ids(make_plan(installed(), registry(step("a"), step("b", scope="user")))) == ["a"]


def test_what_is_done_or_queued_is_not_planned_again():
    found = registry(step("a"), step("b"), step("up", scope="user", online=True))
    done = installed(completed=[("a", "store"), ("b", "user:ann")], queued=[("up", "user:ann")])
    plan = make_plan(done, found, user="ann")
    assert (ids(plan), plan.queued) == (["b"], ("up",))
    assert ids(make_plan(done, found, user="bob")) == ["b", "up"]


def test_a_user_who_comes_later_gets_the_users_part_only():
    found = registry(step("a"), step("mine", scope="user"), step("c", "2 > 3"), target="3.0.0")
    there = installed(store="3.0.0", ann="3.0.0", completed=[("a", "store"), ("mine", "user:ann"), ("c", "store")])
    assert ids(make_plan(there, found, user="bob")) == ["mine"]
    assert make_plan(there, found, user="ann").is_empty
    assert str(make_plan(there, found, user="ann")) == "3.0.0: nothing to do"


@pytest.mark.parametrize("version", ["2.0.1", "1.2.0", "0.1.0"])
def test_a_store_of_a_newer_or_unknown_version_is_superseded_and_nothing_is_planned(version):
    plan = make_plan(installed(store=version), registry(step("a")), user="ann")
    assert plan.is_empty
    assert plan.superseded
    assert "superseded" in str(plan)


@pytest.mark.parametrize(
    ("steps", "target"),
    [
        ((step("a", after=("b",)), step("b", after=("a",))), "2.0.0"),
        ((step("a", after=("a",)),), "2.0.0"),
        ((step("a", after=("nowhere",)),), "2.0.0"),
        ((step("a", after=("later",)), step("later", "2 > 3")), "3.0.0"),
    ],
    ids=["a circle", "itself", "unknown", "of a later hop"],
)
def test_dependencies_that_cannot_be_met_are_refused(steps, target):
    with pytest.raises(RegistryInvalid):
        make_plan(installed(), registry(*steps, target=target))


def test_the_marker_moves_to_the_last_version_before_which_all_is_done():
    found = registry(step("a"), step("b", "2 > 3"), step("mine", scope="user"), target="3.0.0")
    assert reached(installed(), found, user=None) == (1, 0, 0)
    assert reached(installed(completed=[("a", "store")]), found, user=None) == (2, 0, 0)
    assert reached(installed(completed=[("b", "store")]), found, user=None) == (1, 0, 0)
    both = [("a", "store"), ("b", "store")]
    assert reached(installed(completed=both), found, user=None) == (3, 0, 0)
    assert reached(installed(completed=both, store="3.0.0"), found, user="ann") == (1, 0, 0)
    assert reached(installed(completed=[*both, ("mine", "user:ann")], store="3.0.0"), found, user="ann") == (3, 0, 0)


def test_no_user_is_ahead_of_the_store_and_a_queued_migration_counts():
    found = registry(step("a"), step("up", scope="user", online=True))
    queued = {"queued": [("up", "user:ann")]}
    assert reached(installed(**queued), found, user="ann") == (1, 0, 0)
    assert reached(installed(store="2.0.0", **queued), found, user="ann") == (2, 0, 0)


def test_a_version_that_nobody_knows_is_not_moved():
    assert reached(installed(store="9.0.0"), registry(step("a")), user=None) == (9, 0, 0)
