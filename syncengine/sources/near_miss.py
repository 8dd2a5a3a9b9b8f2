"""Keys that look like the one that was asked for: "found 0 under `savedRoutes`; did you mean `@saved_routes`?"."""

import difflib
from collections.abc import Iterable

_SHOWN_MAX = 3
_ALIKE_MIN = 0.75
"""difflib's ratio from which two keys may be one key misspelt; its own default of 0.6 pairs strangers."""

_PREFIX_ENDS = (":", "/")


def near_misses(wanted: str, keys: Iterable[str]) -> tuple[str, ...]:
    """At most three keys that probably mean `wanted`, the most alike first; none when `wanted` itself is there.

    Case, @, separators and camelCase do not count. When nothing is equal so far, an app's prefix (`persist:`,
    `@app:`) does not count either, and last a key may be spelt a little differently.
    """
    present = sorted(keys)
    if wanted in present:
        return ()
    found = (
        [key for key in present if _bare(key) == _bare(wanted)]
        or [key for key in present if _bare(_unprefixed(key)) == _bare(_unprefixed(wanted))]
        or _misspelt(wanted, present)
    )
    return tuple(found[:_SHOWN_MAX])


def _bare(key: str) -> str:
    """What the key says without how it is written: "@saved_routes" and "savedRoutes" are both savedroutes."""
    return "".join(filter(str.isalnum, key.casefold())) or key


def _unprefixed(key: str) -> str:
    return key[max(key.rfind(end) for end in _PREFIX_ENDS) + 1 :] or key


def _misspelt(wanted: str, present: list[str]) -> list[str]:
    key_of = {_bare(_unprefixed(key)): key for key in reversed(present)}
    alike = difflib.get_close_matches(_bare(_unprefixed(wanted)), key_of, n=_SHOWN_MAX, cutoff=_ALIKE_MIN)
    return [key_of[bare] for bare in alike]
