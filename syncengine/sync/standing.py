"""What the cloud's highest number says about ours. Pure."""

from enum import Enum

from syncengine.outbox.numbering import DrainState


class Standing(Enum):
    """Who knows more."""

    AGREES = 1
    CLOUD_KNOWS_MORE = 2
    CLOUD_LOST_SOME = 3


def standing(drain: DrainState, *, device_seq: int) -> Standing:
    """Compare the numbers. Pure.

    The cloud knows more when this store is a copy, or was restored from an older one. It lost some when it was
    itself restored: it no longer knows what it had confirmed.
    """
    if device_seq >= drain.next_sequence:
        return Standing.CLOUD_KNOWS_MORE
    if device_seq < drain.confirmed_sequence:
        return Standing.CLOUD_LOST_SOME
    return Standing.AGREES
