"""What an engine would ask the cloud by, if it did so unasked: in a world rounds are driven call by call instead."""

from typing import Any, NoReturn

from syncengine.errors import BackendUnreachable


class OwnLine:
    """The Backend that a device's engine is given. Nobody is there; `calls`: how often it was tried."""

    def __init__(self) -> None:
        self.calls = 0

    def hello(self, request: Any) -> NoReturn:
        self._refuse(request)

    def push(self, request: Any) -> NoReturn:
        self._refuse(request)

    def pull(self, request: Any) -> NoReturn:
        self._refuse(request)

    def rows(self, request: Any) -> NoReturn:
        self._refuse(request)

    def health(self, nonce: str) -> NoReturn:
        self._refuse(nonce)

    def close(self) -> None:
        """Nothing is held open."""

    def _refuse(self, _: object) -> NoReturn:
        self.calls += 1
        raise BackendUnreachable("Nobody is at the other end of this line.")
