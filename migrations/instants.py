"""Times, in every form that the app ever wrote one, as milliseconds since 1970 UTC."""

import math
import re
from datetime import UTC, datetime, timedelta

import orjson

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INSTANT_MS_MIN = -62_135_596_800_000  # 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999Z: what ISO-8601 text of
INSTANT_MS_MAX = 253_402_300_799_999  # four-digit years can say, so that every instant can be written back
MILLISECONDS_TEXT = re.compile("-?[0-9]{9,15}")  # eight digits and fewer can be an ISO date: 20250712


def utc_ms(value: object) -> int | None:
    """Milliseconds since 1970 UTC, rounded down; None where `value` is no time.

    Reads ISO-8601 text (without an offset it is UTC), a number of milliseconds, the same as text, a Firestore
    timestamp `{seconds, nanoseconds}` (also with leading underscores, as its JSON has them), and that as JSON text.
    """
    if isinstance(value, str):
        return _from_text(value.strip())
    if isinstance(value, dict):
        return _from_timestamp(value)
    return _in_range(_whole(value))


def iso_text(instant_ms: int) -> str:
    """The instant as the app writes it: 2025-07-12T07:23:07.123Z."""
    moment = EPOCH + timedelta(milliseconds=instant_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _from_text(text: str) -> int | None:
    if text.startswith("{"):
        return _from_json(text)
    if MILLISECONDS_TEXT.fullmatch(text):
        return _in_range(int(text))
    try:
        moment = datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return _in_range((aware - EPOCH) // timedelta(milliseconds=1))
    except (ValueError, OverflowError):
        return None


def _from_json(text: str) -> int | None:
    try:
        return utc_ms(orjson.loads(text))
    except orjson.JSONDecodeError:
        return None


def _from_timestamp(value: dict[object, object]) -> int | None:
    seconds = _whole(value.get("seconds", value.get("_seconds")))
    nanoseconds = _whole(value.get("nanoseconds", value.get("_nanoseconds", 0)))
    if seconds is None or nanoseconds is None:
        return None
    return _in_range(seconds * 1_000 + nanoseconds // 1_000_000)


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return math.floor(value)


def _in_range(instant_ms: int | None) -> int | None:
    if instant_ms is None or not INSTANT_MS_MIN <= instant_ms <= INSTANT_MS_MAX:
        return None
    return instant_ms
