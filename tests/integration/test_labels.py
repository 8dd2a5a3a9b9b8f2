"""What a collection's rows are, in the app's words, is shown before they change, and does not get lost on the way."""

import json

import pytest
from flow_world import NOTES, PLACES, THREE, WalkThrough, column, filled, make
from migrate_world import registry_of

from syncengine import Collection, Engine, ListedMigration, MigrationRegistry
from syncengine.errors import MigrationInvalid, RegistryInvalid

LABELLED = (Collection("notes", labels=("health", "location")), Collection("places", labels=("location",)))


def registry(*steps, **facts):
    return registry_of(make(), *steps, target="3.0.0", collections=LABELLED, **facts)


def test_the_user_sees_the_labels_before_a_major_version_changes_the_rows(tmp_path):
    path = filled(tmp_path / "app.db")
    asked = []
    with Engine.open(
        path, registry=registry(column("c"), asks_for_major=True), consent=lambda request: not asked.append(request)
    ) as engine:
        assert engine.migrate().success
    [request] = asked
    assert [(preview.collection, preview.labels) for preview in request.preview] == [
        ("notes", ("health", "location"))
    ]
    assert "notes: 3 rows (health, location)" in str(request)
    assert json.loads(json.dumps(request.to_json()))["preview"][0]["labels"] == ["health", "location"]


def test_plan_rehearsal_status_statistics_and_diagnostics_have_them(tmp_path):
    path = filled(tmp_path / "app.db")
    with Engine.open(path, registry=registry(column("c")), user="ann") as engine:
        plan = engine.migrations.plan("ann", rehearse=True)
        assert "holds health, location" in str(plan)
        [step] = plan.to_json()["steps"]
        assert (step["collections"], step["labels"]) == (["notes"], ["health", "location"])
        assert "notes (health, location): 3 rows > 3" in str(plan.rehearsal)
        assert plan.rehearsal.to_json()["collections"][0]["labels"] == ["health", "location"]
        status = engine.status()
        assert {name: state.labels for name, state in status.collections.items()} == {
            "notes": ("health", "location"),
            "places": ("location",),
        }
        assert status.collections["notes"].state == "blocked"
        engine.migrate()
        said = engine.migrations.statistics("ann")
        assert said.labels == {"notes": ("health", "location"), "places": ("location",)}
        assert said.to_json()["labels"]["places"] == ["location"]
        diagnosed = engine.export_diagnostics()["status"]["collections"]
        assert list(diagnosed["notes"]["labels"]) == ["health", "location"]


def test_a_store_that_is_read_only_says_them_too(tmp_path):
    path = filled(tmp_path / "app.db")
    older = registry_of(make(from_version="1.0.0", to_version="1.5.0"), target="1.5.0", collections=LABELLED)
    with Engine.open(path, registry=older) as engine:
        states = engine.status().collections
        assert [(state.state, state.labels) for state in states.values()] == [
            ("read-only", ("health", "location")),
            ("read-only", ("location",)),
        ]


def test_without_labels_nothing_is_said_of_them(tmp_path):
    path = filled(tmp_path / "app.db")
    plain = registry_of(make(), column("c"), target="3.0.0")
    with Engine.open(path, registry=plain, user="ann") as engine:
        plan = engine.migrations.plan("ann", rehearse=True)
        assert "holds" not in str(plan)
        assert "notes: 3 rows > 3" in str(plan.rehearsal)
        assert engine.migrations.statistics("ann").labels == {}


def listed(executor, *, collections=LABELLED):
    definition = executor.definition
    hop = f"{definition.from_version} > {definition.to_version}"
    return MigrationRegistry(
        app="test",
        baseline=definition.from_version,
        target=definition.to_version,
        collections=collections,
        migrations=(ListedMigration(definition.id, hop, executor, definition.scope),),
    )


BOTH = ("notes", "places")


def test_a_migration_that_could_move_rows_to_where_their_label_is_missing_is_refused():
    walk = WalkThrough(1, collections=BOTH)
    with pytest.raises(MigrationInvalid, match="could move labelled rows to places") as refused:
        listed(walk).get_migration_executor("walk")
    assert refused.value.why == "places is not labelled health, and another of its collections is"
    late = registry_of(make(), column("c"), target="3.0.0", collections=LABELLED)
    with pytest.raises(MigrationInvalid, match="could move labelled rows"):
        late.register_migration("walk", walk)
    assert [migration.id for migration in late.migrations] == ["make", "c"]


@pytest.mark.parametrize(
    ("facts", "collections"),
    [
        ({"may_lose_labels": True}, LABELLED),
        ({"source": "old-app", "scope": "user"}, LABELLED),
        ({}, (Collection("notes", labels=("a", "b")), Collection("places", labels=("b", "a")))),
        ({}, (Collection("notes"), Collection("places"))),
    ],
    ids=["its author says so", "an import", "the same labels", "no labels"],
)
def test_one_that_loses_none_or_says_so_is_taken(facts, collections):
    walk = WalkThrough(1, **{"collections": BOTH, **THREE, **facts})
    assert listed(walk, collections=collections).get_migration_executor("walk") is walk


def test_making_tables_moves_no_rows():
    tables = make(create=(NOTES, PLACES))
    assert listed(tables).get_migration_executor("make") is tables


@pytest.mark.parametrize("labels", ["health", (1,), ("two\nlines",)])
def test_labels_are_a_tuple_of_words(labels):
    with pytest.raises(RegistryInvalid, match="labels of collection notes"):
        Collection("notes", labels=labels)
