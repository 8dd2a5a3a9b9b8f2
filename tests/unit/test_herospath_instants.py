"""Any time that the app wrote, as UTC milliseconds."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.instants import INSTANT_MS_MAX, INSTANT_MS_MIN, iso_text, utc_ms

ROOT = Path(__file__).resolve().parents[2]
INSTANTS = st.integers(INSTANT_MS_MIN, INSTANT_MS_MAX)
ONE = 1_752_304_987_123  # 2025-07-12T07:23:07.123Z


@pytest.mark.parametrize(
    "written",
    [
        ONE,
        float(ONE),
        str(ONE),
        "2025-07-12T07:23:07.123Z",
        "2025-07-12T16:23:07.123+09:00",
        "2025-07-12T07:23:07.123",
        {"seconds": 1_752_304_987, "nanoseconds": 123_000_000},
        {"_seconds": 1_752_304_987, "_nanoseconds": 123_999_999},
        '{"seconds":1752304987,"nanoseconds":123000000}',
    ],
)
def test_one_instant_is_read_alike_from_every_form_that_the_app_wrote(written: object) -> None:
    assert utc_ms(written) == ONE


@pytest.mark.parametrize(
    "written",
    [None, "", "yesterday", True, float("nan"), float("inf"), [], {}, {"seconds": "1"}, "{", "9" * 20, 10**20],
)
def test_what_is_no_time_is_none_and_never_now(written: object) -> None:
    assert utc_ms(written) is None


def test_a_time_without_an_offset_is_utc_wherever_the_device_is() -> None:
    code = "from migrations.instants import utc_ms; print(utc_ms('2025-07-12T07:23:07.123'))"
    there = {**os.environ, "TZ": "Asia/Tokyo"}
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=there, capture_output=True, check=True)
    assert int(said.stdout) == ONE


@given(INSTANTS)
def test_every_instant_survives_being_written_as_text(instant_ms: int) -> None:
    assert utc_ms(iso_text(instant_ms)) == instant_ms


@given(INSTANTS)
def test_every_instant_survives_being_a_firestore_timestamp(instant_ms: int) -> None:
    timestamp = {"seconds": instant_ms // 1_000, "nanoseconds": instant_ms % 1_000 * 1_000_000}
    assert utc_ms(timestamp) == utc_ms(json.dumps(timestamp)) == instant_ms


@given(
    st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)),  # noqa: DTZ001  (zones are added)
    st.integers(-14 * 60, 14 * 60),
)
def test_an_offset_changes_how_an_instant_is_written_not_which_it_is(moment: datetime, offset_minutes: int) -> None:
    here = moment.replace(tzinfo=UTC)
    there = here.astimezone(timezone(timedelta(minutes=offset_minutes)))
    assert utc_ms(there.isoformat()) == utc_ms(here.isoformat())
