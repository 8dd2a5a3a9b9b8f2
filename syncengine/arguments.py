"""What a host hands over is what it was asked for; else a TypeError or a ValueError that says what to hand over."""

import math
from collections.abc import Iterable
from typing import Any


def whole_number(value: Any, *, of: str, found: str) -> int:
    """The number of an entry or an item, which is an int: neither its text nor True is one.

    `of`: what it numbers, `found`: where such numbers are told.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"the number of {of} is an int, and not a {type(value).__name__}; {found}")
    return value


def milliseconds(value: Any, *, name: str) -> int | float:
    """A time to wait: a number that is one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is a number of milliseconds, and not a {type(value).__name__}; 60_000 is a minute")
    if math.isnan(value):
        raise ValueError(f"{name} is a number of milliseconds, and nan is none; 60_000 is a minute")
    return value


def yes_or_no(value: Any, *, name: str) -> bool | None:
    """True, False, or None for what is not said; what only counts as one of them is none."""
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} is True, False or None, and not a {type(value).__name__}; None: it is not said")
    return value


def names_of(value: Any, *, name: str) -> frozenset[str]:
    """Some names. One text is none of them: its letters would be."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is a list of names, and not a {type(value).__name__}; give one name as ['name']")
    return frozenset(name_text(each, of=f"each of {name}") for each in value)


def check_callable(value: object, *, name: str) -> None:
    """A function, or what can be called like one."""
    if not callable(value):
        raise TypeError(f"{name} is a function, and not a {type(value).__name__}; it is called with what happened")


def name_text(value: Any, *, of: str) -> str:
    """A text by which the store could know something. An int stands for its digits, as a key of type INTEGER does."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise TypeError(
            f"{of} is a text, and not a {type(value).__name__}; give it as it stands in the row, as a str"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{of} holds half a surrogate pair, which no row can have; decode its bytes as UTF-8 first"
        ) from None
    return value


__all__ = ["check_callable", "milliseconds", "name_text", "names_of", "whole_number", "yes_or_no"]
