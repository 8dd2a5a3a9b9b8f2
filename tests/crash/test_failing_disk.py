"""A full disk, a broken one, a write-protected one, at every operation: a typed error, and the store as before."""

import shutil

import pytest

from syncengine.errors import DataAtRisk, DiskFull, NeedsUser, StoreUnusable, SyncEngineError
from syncengine.testing import PowerIsGone, contents_of, failing_disk, power_cut
from syncengine.testing.images import evenly
from tests.crash.kinds import KINDS, PROFILE_STATUS

KINDS_TRIED = ("import", "row function", "declared", "shadow", "restore", "rollback")
PLACES_MAX = 12


class World:
    def __init__(self, folder, kind):
        self.kind = kind
        self.folder, self.built = folder / "store", folder / "built"
        self.path = self.folder / "app.db"
        self.folder.mkdir()
        kind.build(self.path)
        shutil.copytree(self.folder, self.built)
        self.old = self.contents()
        kind.run(self.path)
        self.new = self.contents()

    def begin_again(self):
        shutil.rmtree(self.folder)
        shutil.copytree(self.built, self.folder)

    def contents(self):
        return contents_of(self.path, leave_out=PROFILE_STATUS)


def operations_of(world, failure):
    """How many operations of one run can fail in this way."""
    world.begin_again()
    with failing_disk(world.folder, after=10**9, kind=failure) as disk:
        world.kind.run(world.path)
    return disk.operations


# Not a restore on a broken disk: apsw's Backup.__exit__ turns an error of a VFS written in Python into a SystemError.
TRIED = [
    (name, failure)
    for name in KINDS_TRIED
    for failure in ("full", "io", "read_only")
    if (name, failure) != ("restore", "io")
]


@pytest.mark.parametrize(("name", "failure"), TRIED)
def test_from_whichever_operation_on_the_disk_fails_the_store_is_as_before_and_goes_on_later(name, failure, tmp_path):
    world = World(tmp_path, KINDS[name])
    places = evenly(operations_of(world, failure), PLACES_MAX)
    assert len(places) == PLACES_MAX
    outcomes = set()
    for after in places:
        world.begin_again()
        with failing_disk(world.folder, after=after, kind=failure) as disk:
            outcome = outcome_of(world)
        assert disk.failed or outcome == "done", after  # batches adapt to the time, so the last operations may move
        outcomes.add(outcome)
        found = world.contents()
        assert found.sound
        if world.kind.takes_one_transaction:
            assert found in (world.old, world.new), after
        world.kind.run(world.path)
        assert world.new.differences(world.contents()) == (), after
    assert outcomes - {"done"}, "no failure was ever noticed"


def outcome_of(world):
    """done, or the family of the error; a failure in another form than ours is a failure of the test."""
    try:
        world.kind.run(world.path)
    except SyncEngineError as error:
        return type(error).__name__
    except AssertionError:
        return "reported"  # a migration that is not critical: the report says so, and nothing is raised
    return "done"


@pytest.mark.parametrize(
    ("failure", "says"), [("full", DiskFull), ("read_only", StoreUnusable), ("io", StoreUnusable)]
)
def test_the_error_says_what_failed_and_a_healed_disk_needs_no_new_start(failure, says, tmp_path):
    world = World(tmp_path, KINDS["row function"])
    world.begin_again()
    with failing_disk(world.folder, after=10**9, kind=failure) as healthy:
        world.kind.open(world.path, world.kind.after()).close()
    world.begin_again()
    with (
        failing_disk(world.folder, after=healthy.operations, kind=failure) as disk,
        world.kind.open(world.path, world.kind.after()) as engine,
    ):
        with pytest.raises(says) as refused:
            engine.migrate()
        assert isinstance(refused.value, DataAtRisk | NeedsUser)
        assert refused.value.fix
        disk.heal()
        assert engine.migrate().success
    assert world.contents() == world.new


def test_an_opening_that_was_cut_short_leaves_nothing_open_even_while_its_exception_is_held(tmp_path):
    world = World(tmp_path, KINDS["row function"])
    with power_cut(world.folder) as counted:
        world.kind.open(world.path, world.kind.after()).close()
    held = []
    for number in range(counted.begun):
        with pytest.raises(PowerIsGone) as gone, power_cut(world.folder, before_statement=number):
            world.kind.open(world.path, world.kind.after())
        held.append(gone)
        world.kind.open(world.path, world.kind.after()).close()
    assert len(held) > 5
