"""A push that is on its way while its round goes on: carried by a thread of its own, one at a time."""

import threading
from collections.abc import Callable

from syncengine.sync.calls import Answer, Push

Carry = Callable[[Push], Answer | None]
"""The answer to a push; None when it must not be made any more. Raises what the backend raises."""


class CarriedPush:
    """Begun when it is made. The thread is a daemon: a process that ends does not wait for the cloud."""

    def __init__(self, push: Push, carry: Carry) -> None:
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(push, carry), name="syncengine-push", daemon=True)
        self._thread.start()

    def end(self) -> Answer | None:
        """Wait for the answer; the call has its own deadline. Raises what the call raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._answer

    def is_of_this_thread(self) -> bool:
        """True within the call itself: its token callback runs in this thread."""
        return self._thread is threading.current_thread()

    def _run(self, push: Push, carry: Carry) -> None:
        try:
            self._answer = carry(push)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the answer is awaited
            self._error = error
