"""What the server's command takes as a number, a port, days, a user and a file of tokens; all else is told."""

from argparse import ArgumentTypeError

from pydantic import TypeAdapter, ValidationError

from syncengine.remote.json_text import INTEGER_MAX
from syncengine.remote.wire import USER_LENGTH_MAX, UserName
from syncengine.server.console import CannotStart
from syncengine.vocabulary import UserId

PORT_MAX = 65_535
DAYS_MAX = 36_500
"""A hundred years: further back no row was deleted."""

_user_names: TypeAdapter[str] = TypeAdapter(UserName)


def count(text: str) -> int:
    """Raises ArgumentTypeError, as all of these do."""
    return _number(text, largest=INTEGER_MAX, asked="a whole number from 0")


def port(text: str) -> int:
    return _number(text, largest=PORT_MAX, asked=f"a port from 0 (any free one) to {PORT_MAX}")


def days(text: str) -> int:
    return _number(text, largest=DAYS_MAX, asked="a number of days from 0")


def days_or_never(text: str) -> int | None:
    return None if text == "never" else _number(text, largest=DAYS_MAX, asked="a number of days from 0, or never")


def _number(text: str, *, largest: int, asked: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"give {asked}, and not {text!r}")
    if len(text) > len(str(largest)) or int(text) > largest:
        raise ArgumentTypeError(f"give {asked}, and not more than {largest}")
    return int(text)


def user(text: str) -> UserId:
    """One that a device could name, too."""
    try:
        return UserId(_user_names.validate_python(text))
    except ValidationError:
        raise ArgumentTypeError(
            f"a user has 1 to {USER_LENGTH_MAX} letters of UTF-8, none of them a control character"
        ) from None


def tokens_in(text: str) -> list[tuple[UserId, str]]:
    """Of lines with `user token`; empty ones and those that begin with # are passed by. Raises CannotStart.

    No token is told.
    """
    found: dict[str, UserId] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name, _, token = line.strip().partition(" ")
        token = token.strip()
        if name and not name.startswith("#"):
            if not token:
                raise _unusable(number, why="it has a user and no token")
            if found.setdefault(token, _user_in(name, number=number)) != name:
                raise _unusable(number, why="its token is another user's: whose it is could be said of neither")
    return [(name, token) for token, name in found.items()]


def _user_in(name: str, *, number: int) -> UserId:
    try:
        return user(name)
    except ArgumentTypeError as error:
        raise _unusable(number, why=str(error)) from None


def _unusable(number: int, *, why: str) -> CannotStart:
    return CannotStart(f"Line {number} of --token-file cannot be used.", why=why, fix="Correct the file.")
