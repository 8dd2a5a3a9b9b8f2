"""Stores of any version, and all ways between them: what is right passes, and each kind of wrong is named."""

import pytest
from migrate_world import registry_of
from pydantic import BaseModel, ConfigDict

from syncengine import Engine, Quarantine, add, declared, migration, rename, tables
from syncengine.testing import StoppedClock, all_paths, check_paths, check_rollback, model_at, store_at

V2 = "CREATE TABLE notes (user_id TEXT NOT NULL, id TEXT NOT NULL, minutes REAL NOT NULL, PRIMARY KEY (user_id, id))"
V3 = V2.replace("minutes REAL", "seconds INTEGER")


class Row(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    user_id: str
    id: str


class NoteV2(Row):
    minutes: float


class NoteV3(Row):
    seconds: int


class NoteV4(Row):
    seconds: int


def to_seconds(old: NoteV2) -> NoteV3:
    if old.minutes == 13:
        raise Quarantine("thirteen")
    return NoteV3(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 60))


def doubled(old: NoteV3) -> NoteV4:
    return NoteV4(user_id=old.user_id, id=old.id, seconds=old.seconds * 2)


def at_once(old: NoteV2) -> NoteV4:
    return doubled(to_seconds(old))


def at_once_wrongly(old: NoteV2) -> NoteV4:
    return NoteV4(user_id=old.user_id, id=old.id, seconds=round(old.minutes * 120))


def hop(function, name, start, end, **facts):
    facts = {"quarantine_rows_max": 5, "critical": True, "lossy": True, **facts}
    return migration(id=name, collection="notes", from_version=start, to_version=end, **facts)(function)


def registry(*, squash=at_once, **facts):
    """1 > 2 > 3 > 4, and 2 > 4 in one."""
    return registry_of(
        tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(V2,)),
        hop(to_seconds, "seconds", "2.0.0", "3.0.0", table=V3),
        hop(doubled, "doubled", "3.0.0", "4.0.0"),
        hop(squash, "squash", "2.0.0", "4.0.0", table=V3),
        target="4.0.0",
        **facts,
    )


NOTES = {"notes": [NoteV2(user_id="ann", id=f"n{n}", minutes=n / 8) for n in range(30)]}


def between(start, end):
    return next(ways for ways in all_paths(registry()) if str(ways) == f"{start}-to-{end}")


def test_all_pairs_of_versions_are_found_with_every_way_between_them():
    found = {str(ways): len(ways.ways) for ways in all_paths(registry())}
    assert found == {
        "1.0.0-to-2.0.0": 1,
        "1.0.0-to-3.0.0": 1,
        "1.0.0-to-4.0.0": 2,
        "2.0.0-to-3.0.0": 1,
        "2.0.0-to-4.0.0": 2,
        "3.0.0-to-4.0.0": 1,
    }
    assert [len(way) for way in between("2.0.0", "4.0.0").ways] == [1, 2], "the shortest first"


def test_a_squash_edge_that_does_what_its_steps_do_passes(tmp_path):
    held = check_paths(between("2.0.0", "4.0.0"), registry=registry(), folder=tmp_path, rows=NOTES)
    assert held["notes"] == 30


def test_a_squash_edge_that_rounds_in_another_place_is_found_and_the_way_is_named(tmp_path):
    wrong = registry(squash=at_once_wrongly)
    with pytest.raises(AssertionError, match=r"2.0.0 > 3.0.0 then 3.0.0 > 4.0.0 in one start .* other rows in notes"):
        check_paths(between("2.0.0", "4.0.0"), registry=wrong, folder=tmp_path, rows=NOTES)


def test_a_way_that_sets_other_rows_aside_is_found(tmp_path):
    rows = {"notes": [*NOTES["notes"], NoteV2(user_id="ann", id="odd", minutes=13.0)]}
    assert check_paths(between("2.0.0", "4.0.0"), registry=registry(), folder=tmp_path / "same", rows=rows) == {
        "notes": 30
    }

    def dropping(old: NoteV2) -> NoteV4 | None:
        return None if old.minutes == 13 else at_once(old)

    with pytest.raises(AssertionError, match="other rows were set aside"):
        check_paths(between("2.0.0", "4.0.0"), registry=registry(squash=dropping), folder=tmp_path / "b", rows=rows)


def test_a_migration_whose_result_depends_on_the_size_of_a_batch_is_found(tmp_path):
    seen = []

    def by_place(old: NoteV2) -> NoteV3:
        seen.append(old.id)
        return NoteV3(user_id=old.user_id, id=old.id, seconds=len(seen))

    odd = registry_of(
        tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(V2,)),
        hop(by_place, "seconds", "2.0.0", "3.0.0", table=V3),
        target="3.0.0",
    )
    with pytest.raises(AssertionError, match="in a start for each version gives other data: other rows in notes"):
        check_paths(all_paths(odd)[-1], registry=odd, folder=tmp_path, rows=NOTES)


def test_a_failing_migration_is_named_with_its_reason(tmp_path):
    def broken(old: NoteV2) -> NoteV4:
        raise MemoryError

    broken_registry = registry(squash=broken)
    with pytest.raises(Exception, match="squash failed"):
        check_paths(between("2.0.0", "4.0.0"), registry=broken_registry, folder=tmp_path, rows=NOTES)


def test_a_store_of_a_past_version_holds_the_rows_that_were_given_for_the_user_that_was_named(tmp_path):
    path = store_at(registry(), "2.0.0", path=tmp_path / "app.db", rows=NOTES, user="bob")
    with (
        Engine.open(
            path, registry=registry_of(tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(V2,)))
        ) as engine,
        engine.read() as db,
    ):
        assert db["notes"].count == 30
        assert {row["user_id"] for row in db["notes"].rows} == {"bob"}


def test_rows_are_drawn_where_a_number_is_given_and_the_same_ones_every_time(tmp_path):
    found = []
    for name in ("a.db", "b.db"):
        path = store_at(registry(), "3.0.0", path=tmp_path / name, rows=25)
        with Engine.open(path, registry=registry(), clock=StoppedClock()) as engine:
            found.append(engine._store.query("SELECT * FROM notes ORDER BY id"))
    assert found[0] == found[1]
    assert len(found[0]) == 25
    assert len({seconds for *_, seconds in found[0]}) > 5


def test_a_row_that_the_tables_refuse_is_no_store_of_that_version(tmp_path):
    twice = {"notes": [NoteV2(user_id="ann", id="n", minutes=1.0)] * 2}
    with pytest.raises(Exception, match="UNIQUE"):
        store_at(registry(), "2.0.0", path=tmp_path / "app.db", rows=twice)


def test_the_row_model_of_each_version_is_known_from_the_migrations_beside_it():
    assert model_at(registry(), "notes", version="2.0.0") is NoteV2
    assert model_at(registry(), "notes", version="3.0.0") is NoteV3
    assert model_at(registry(), "notes", version="4.0.0") in (NoteV4, NoteV3)
    assert model_at(registry(), "places", version="2.0.0") is None


def test_no_row_model_is_guessed_across_a_declared_change():
    renamed = declared(
        id="renamed", collection="notes", from_version="3.0.0", to_version="4.0.0", changes=(rename("seconds", "s"),)
    )
    mixed = registry_of(
        tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(V2,)),
        hop(to_seconds, "seconds", "2.0.0", "3.0.0", table=V3),
        renamed,
        target="4.0.0",
    )
    assert model_at(mixed, "notes", version="3.0.0") is NoteV3
    assert model_at(mixed, "notes", version="4.0.0") is None


# Going back.


def to_minutes(new: NoteV3) -> NoteV2:
    return NoteV2(user_id=new.user_id, id=new.id, minutes=new.seconds / 60)


def to_whole_minutes(new: NoteV3) -> NoteV2:
    return NoteV2(user_id=new.user_id, id=new.id, minutes=float(new.seconds // 60))


def with_down(down):
    step = hop(to_seconds, "seconds", "2.0.0", "3.0.0", table=V3, lossy=False)
    step.down(down)
    make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(V2,))
    return registry_of(make, step, target="3.0.0")


SECONDS = {"notes": [NoteV2(user_id="ann", id=f"n{n:02}", minutes=n / 4) for n in range(30)]}


def test_a_way_down_that_brings_every_row_back_passes_rows_that_were_set_aside_included(tmp_path):
    odd = [NoteV2(user_id="bob", id="odd", minutes=13.0)]
    report = check_rollback(
        "seconds", registry=with_down(to_minutes), path=tmp_path / "app.db", rows={"notes": [*SECONDS["notes"], *odd]}
    )
    assert [undone.id for undone in report.undone] == ["seconds"]
    assert report.undone[0].counts.restored == 1


def test_a_way_down_that_loses_something_is_found(tmp_path):
    with pytest.raises(
        AssertionError, match="seconds was rolled back, and there are other rows in notes than before"
    ):
        check_rollback("seconds", registry=with_down(to_whole_minutes), path=tmp_path / "app.db", rows=SECONDS)


def test_a_declared_migration_can_be_held_to_its_way_back_without_a_row_model(tmp_path):
    changes = (rename("minutes", "m"), add("colour", "TEXT", default="grey"))
    renamed = declared(
        id="renamed", collection="notes", from_version="2.0.0", to_version="3.0.0", changes=changes, critical=True
    )
    make = tables(id="make", from_version="1.0.0", to_version="2.0.0", create=(V2,))
    registry_with_it = registry_of(make, renamed, target="3.0.0")
    report = check_rollback("renamed", registry=registry_with_it, path=tmp_path / "app.db", rows=SECONDS)
    assert report.undone[0].counts.kept == 30
