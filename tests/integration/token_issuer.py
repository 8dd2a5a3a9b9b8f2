"""Somebody who signs JSON Web Tokens, and publishes the keys for them."""

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://issuer.example"
AUDIENCE = "heros-path-cloud"


class Issuer:
    """Signs with the key `kid`; `jwks()` is what it publishes."""

    def __init__(self, kid: str = "first", *, algorithm: str = "RS256") -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.key: Any = {
            "RS": lambda: rsa.generate_private_key(public_exponent=65_537, key_size=2_048),
            "ES": lambda: ec.generate_private_key(ec.SECP256R1()),
            "Ed": ed25519.Ed25519PrivateKey.generate,
        }[algorithm[:2]]()

    def token(self, user: object = "ann", *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Good for five minutes. A claim given as None is left out."""
        now = int(time.time())
        whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now, "exp": now + 300, **claims}
        said = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(said, self.key, algorithm=self.algorithm, headers={"kid": self.kid, **(headers or {})})

    def public(self, **changes: Any) -> dict[str, Any]:
        maker = jwt.get_algorithm_by_name(self.algorithm)
        return {**json.loads(maker.to_jwk(self.key.public_key())), "kid": self.kid, "use": "sig", **changes}

    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()
