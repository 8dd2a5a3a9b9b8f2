"""Users by JSON Web Tokens that somebody else has signed (RFC 7519), judged as RFC 8725 says."""

from collections.abc import Sequence
from contextlib import suppress

import jwt
from pydantic import JsonValue, TypeAdapter, ValidationError

from syncengine.remote.wire import UserName
from syncengine.server.published_keys import Key, PublishedKeys
from syncengine.vocabulary import UserId

ALGORITHMS = ("RS256", "ES256")
"""Taken unless others are named."""
KEY_TYPES = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}
"""All that can be named: with a secret in common (HS256), who can check a token could also write one."""
LEEWAY_SECONDS = 60
"""Clocks differ."""
TOKEN_LETTERS_MAX = 8 * 1024

_USER = TypeAdapter[str](UserName)


class WebTokens:
    """`user_of` says whose a token is. Raises ValueError for an algorithm that is none of `KEY_TYPES`."""

    def __init__(
        self,
        keys: PublishedKeys,
        *,
        issuer: str,
        audience: str,
        algorithms: Sequence[str] = ALGORITHMS,
        user_claim: str = "sub",
    ) -> None:
        unknown = sorted(set(algorithms) - set(KEY_TYPES))
        if unknown or not algorithms:
            raise ValueError(f"algorithms are some of {', '.join(KEY_TYPES)}")
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._algorithms = tuple(algorithms)
        self._user_claim = user_claim

    def user_of(self, token: str) -> UserId | None:
        """None for a token that is not good, for whatever reason. Raises KeysUnavailable."""
        if len(token) > TOKEN_LETTERS_MAX:
            return None
        try:
            claims = self._claims(token)
            return None if claims is None else UserId(_USER.validate_python(claims[self._user_claim], strict=True))
        except (jwt.PyJWTError, ValidationError, ValueError):
            return None

    def _claims(self, token: str) -> dict[str, JsonValue] | None:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        # Of the header only algorithm and name are used: a key that comes with the token proves nothing.
        if algorithm not in self._algorithms or "crit" in header:
            return None
        for key in self._keys.find(header.get("kid")):
            # Keys of one name differ in kind (RFC 7517, section 4.5), and a provider may publish one that is no key.
            with suppress(jwt.InvalidSignatureError, jwt.InvalidKeyError, jwt.PyJWKError):
                if _fits(key, algorithm):
                    return self._signed_with(key, token, algorithm=algorithm)
        return None

    def _signed_with(self, key: Key, token: str, *, algorithm: str) -> dict[str, JsonValue]:
        claims: dict[str, JsonValue] = jwt.decode(
            token,
            jwt.PyJWK(dict(key), algorithm=algorithm),
            algorithms=[algorithm],
            issuer=self._issuer,
            audience=self._audience,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud", self._user_claim]},
        )
        return claims


def _fits(key: Key, algorithm: str) -> bool:
    """Whether the key is of the kind that the algorithm needs, and is not meant for another."""
    return key.get("kty") == KEY_TYPES[algorithm] and key.get("alg", algorithm) == algorithm
