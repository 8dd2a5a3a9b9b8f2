"""The power goes at every operation of the disk and before every statement, for each kind of migration."""

import pytest

from syncengine.testing import crash_everywhere
from tests.crash.kinds import KINDS, PROFILE_STATUS


@pytest.mark.parametrize("name", KINDS)
def test_wherever_the_power_goes_a_migration_is_done_whole_or_not_at_all(name, tmp_path, record_property):
    kind = KINDS[name]
    report = crash_everywhere(
        folder=tmp_path,
        build=kind.build,
        run=kind.run,
        images_max=70,
        statements_max=12,
        leave_out=PROFILE_STATUS,
    )
    record_property("sweep", str(report))
    assert report.images > 20
    assert report.old > 0
    assert report.new > 0
    assert (report.between == 0) is kind.takes_one_transaction
