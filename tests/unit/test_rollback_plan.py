"""What goes back together, and in which order: from values alone."""

from dataclasses import replace

import pytest

from syncengine import Collection, ListedMigration, MigrationRegistry
from syncengine.errors import RollbackRefused
from syncengine.migrate.registry import Hop
from syncengine.migrate.rollback_plan import Applied, Ground, Way, plan_of_migration, plan_to_version
from syncengine.migrate.rollback_report import UndoCounts
from syncengine.vocabulary import SchemaVersion

LISTED = (
    ListedMigration("tables", "1.0.0 > 2.0.0", "-:-"),
    ListedMigration("import", "1.0.0 > 2.0.0", "-:-", scope="user"),
    ListedMigration("upload", "1.0.0 > 2.0.0", "-:-", scope="user", online=True),
    ListedMigration("walks-3", "2.0.0 > 3.0.0", "-:-"),
    ListedMigration("places-3", "2.0.0 > 3.0.0", "-:-"),
    ListedMigration("upload-3", "2.0.0 > 3.0.0", "-:-", scope="user", online=True),
    ListedMigration("walks-4", "3.0.0 > 4.0.0", "-:-"),
)
COLLECTIONS = {
    "tables": ("walks", "places"),
    "import": ("walks",),
    "upload": ("walks",),
    "walks-3": ("walks",),
    "places-3": ("places",),
    "upload-3": ("walks",),
    "walks-4": ("walks",),
}
AFTER = {"import": ("tables",), "upload": ("import",), "upload-3": ("walks-3",)}


def registry(*, more=(), target="4.0.0"):
    collections = [Collection("walks"), Collection("places")]
    return MigrationRegistry(
        app="t", baseline="1.0.0", target=target, collections=collections, migrations=(*LISTED, *more)
    )


def ran(*runs, ways=None, versions=None, collections=COLLECTIONS):
    """Runs as "id" or "id@user" in the order in which they ran."""
    hops = {listed.id: listed.edge for listed in LISTED} | {"squash": Hop.parse("2.0.0 > 4.0.0")}
    applied = []
    for number, run in enumerate(runs, start=1):
        name, _, user = run.partition("@")
        applied.append(
            Applied(
                run_id=number,
                migration=name,
                scope=f"user:{user}" if user else "store",
                state="completed",
                hop=hops.get(name, Hop.parse("4.0.0 > 5.0.0")),
                restore_point_id=None,
                rows_read=1,
                rows_written=1,
                rows_dropped=0,
                started_at="2026-01-01T00:00:00.000Z",
            )
        )
    found = {(run.migration, run.scope): Way(method="down") for run in applied if run.migration in collections}
    return Ground(
        applied=tuple(applied),
        versions=versions or {"store": SchemaVersion.parse("4"), "user:ann": SchemaVersion.parse("4")},
        cloud_versions={"user:ann": SchemaVersion.parse("2")},
        collections=collections,
        after=AFTER,
        ways={**found, **(ways or {})},
        owners={"walks": ("ann", "cid"), "places": ("dan",)},
    )


ALL = ("tables", "import@ann", "upload@ann", "walks-3", "places-3", "upload-3@ann", "walks-4", "import@bob")


def goes_back(plan):
    return [step.id + (f"@{step.user}" if step.user else "") for step in plan.steps]


def test_a_migration_takes_what_builds_on_it_newest_first():
    plan = plan_of_migration(ran(*ALL), registry(), migration_id="walks-3", user="ann")
    assert goes_back(plan) == ["walks-4", "upload-3@ann", "walks-3"]
    assert [step.because_of for step in plan.steps] == ["walks-3", "walks-3", None]
    assert (str(plan.current), str(plan.target)) == ("4.0.0", "2.0.0")
    assert plan.users == ("ann", "cid")
    assert plan.others == ("cid",)


def test_other_collections_and_earlier_hops_stay():
    plan = plan_of_migration(ran(*ALL), registry(), migration_id="places-3", user="dan")
    assert goes_back(plan) == ["places-3"]
    assert plan.others == ()


def test_an_import_takes_that_users_later_uploads_and_never_the_store():
    plan = plan_of_migration(ran(*ALL), registry(), migration_id="import", user="ann")
    assert goes_back(plan) == ["upload-3@ann", "upload@ann", "import@ann"]
    assert (plan.users, str(plan.target)) == (("ann",), "4.0.0")


def test_tables_take_everything_of_everybody():
    plan = plan_of_migration(ran(*ALL), registry(), migration_id="tables", user="ann")
    assert sorted(goes_back(plan)) == sorted(ALL)
    assert goes_back(plan)[0] == "walks-4"
    assert goes_back(plan)[-1] == "tables"
    assert plan.users == ("ann", "bob", "cid", "dan")


def test_rows_of_a_late_user_that_went_through_it_are_no_step_of_their_own():
    plan = plan_of_migration(ran(*ALL, "walks-3@bob"), registry(), migration_id="walks-3", user="ann")
    assert goes_back(plan) == ["walks-4", "upload-3@ann", "walks-3"]


def test_what_the_cloud_knows_already_is_said():
    plan = plan_of_migration(ran(*ALL), registry(), migration_id="import", user="ann")
    assert plan.warnings == ("the cloud data of ann is at 2.0.0 and stays there",)
    plan = plan_of_migration(ran(*ALL), registry(), migration_id="upload-3", user="ann")
    assert plan.warnings == ()


def test_to_a_version_all_of_it_was_asked_for():
    plan = plan_to_version(ran(*ALL), registry(), version=SchemaVersion.parse("3"), user=None)
    assert goes_back(plan) == ["walks-4"]
    plan = plan_to_version(ran(*ALL), registry(), version=SchemaVersion.parse("2"), user=None)
    assert sorted(goes_back(plan)) == ["places-3", "upload-3@ann", "walks-3", "walks-4"]
    assert {step.because_of for step in plan.steps} == {None}


@pytest.mark.parametrize("version", ["4.0.0", "2.5.0", "9.0.0"])
def test_a_version_that_nothing_led_past_is_refused(version):
    with pytest.raises(RollbackRefused, match=version):
        plan_to_version(ran(*ALL), registry(), version=SchemaVersion.parse(version), user=None)


def test_where_another_way_leads_on_what_lies_beside_it_goes_too():
    """From 2.0.0 a squash leads to 4.0.0 in one step: places-3 is no part of that, and would be done twice."""
    squash = ListedMigration("squash", "2.0.0 > 4.0.0", "-:-", stands_for=("walks-3", "places-3", "walks-4"))
    plan = plan_of_migration(ran(*ALL), registry(more=(squash,)), migration_id="walks-3", user="ann")
    assert sorted(goes_back(plan)) == ["places-3", "upload-3@ann", "walks-3", "walks-4"]


def test_what_the_app_does_not_list_may_have_touched_anything():
    plan = plan_of_migration(ran(*ALL, "newer"), registry(), migration_id="places-3", user="dan")
    assert goes_back(plan)[0] == "newer"
    assert [step.id for step in plan.impossible] == ["newer"]
    assert "this app does not list it" in str(plan)


def test_a_user_has_to_be_named_for_what_is_a_users():
    with pytest.raises(RollbackRefused, match="no user was named"):
        plan_of_migration(ran(*ALL), registry(), migration_id="import", user=None)


def test_the_plan_prints_itself():
    ways = {("walks-4", "store"): Way(method="impossible", why="gone")}
    plan = plan_of_migration(ran(*ALL, ways=ways), registry(), migration_id="walks-4", user="ann")
    assert str(plan).splitlines() == [
        "rollback of walks-4: 4.0.0 > 3.0.0",
        "  walks-4  (store, cannot be undone): gone",
        "  goes back for all owners: ann, cid",
    ]
    assert plan.to_json()["consentNeeded"] == ["cid"]


def test_counts_that_do_not_add_up_say_so():
    assert UndoCounts(before=5, kept=3, set_aside=1, dropped=1, made=3, restored=2, after=5).add_up
    assert not UndoCounts(before=5, kept=3, set_aside=1, made=3, after=3).add_up
    assert not UndoCounts(before=3, kept=3, made=3, restored=1, after=3).add_up


def test_a_table_that_refers_to_a_dropped_one_goes_with_it_and_with_it_what_builds_on_that():
    ground = replace(
        ran("tables", "walks-3", "places-3", "walks-4", ways={("walks-3", "store"): Way(method="dropped")}),
        refers={"tables": ("walks",), "places-3": ("walks",)},
        collections={"tables": ("stones",), "walks-3": ("Walks",), "places-3": ("places",), "walks-4": ("places",)},
    )
    plan = plan_of_migration(ground, registry(), migration_id="walks-3", user="ann")
    assert goes_back(plan) == ["walks-4", "places-3", "walks-3"]
    assert [step.because_of for step in plan.steps] == ["places-3", "walks-3", None]


def test_a_parent_that_stays_takes_no_table_along():
    ground = replace(
        ran("walks-3", "places-3"),
        refers={"places-3": ("walks",)},
    )
    plan = plan_of_migration(ground, registry(), migration_id="walks-3", user="ann")
    assert goes_back(plan) == ["walks-3"]
