"""Does a process still live? Leases and leftovers of one that does not are anybody's."""

import os


def has_ended(pid: int) -> bool:
    """True only when the process of this number cannot be there any more."""
    if os.name != "posix":
        return False  # on Windows signal 0 is not a question: os.kill would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # it lives, as another user's
    return False
