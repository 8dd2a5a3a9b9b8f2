"""Who asks: by a device token of our own, by a web token that somebody else has signed, or by either."""

from collections.abc import Callable
from typing import Protocol

from syncengine.server.cloud import Cloud
from syncengine.vocabulary import UserId

SignIn = Callable[[str], UserId | None]
"""Whose token it is; None for nobody's. Raises KeysUnavailable where that cannot be said now."""


class KeysUnavailable(Exception):
    """There are no keys to judge by: nobody's token is known to be good or bad now."""


class JudgesTokens(Protocol):
    """What knows whose a token is."""

    def user_of(self, token: str) -> UserId | None:
        """None for nobody's."""
        ...


def by_web_token(web_tokens: JudgesTokens, cloud: Cloud, *, device_tokens: bool = False) -> SignIn:
    """Whom somebody else vouches for; with `device_tokens`, the cloud's own are taken, too."""

    def user_of(token: str) -> UserId | None:
        if token.count(".") != 2:  # a web token has three parts (RFC 7515, section 7.1), ours have one
            return cloud.user_of(token) if device_tokens else None
        return web_tokens.user_of(token)

    return user_of
