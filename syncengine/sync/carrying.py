"""Drives a round: carries its calls, and a push in a thread of its own while the round goes on."""

import threading
from collections.abc import Callable
from contextlib import suppress

from syncengine.errors import SyncEngineError
from syncengine.sync.calls import Answer, Begin, Begun, Call, Carried, End, Push
from syncengine.sync.drain import Round
from syncengine.sync.report import RoundReport

Carry = Callable[[Carried], Answer | None]
"""The answer to a call; None when it must not be made any more. Raises what the backend raises."""


class Driver:
    """For one round. The thread that carries a push is a daemon: a process that ends does not wait for the cloud."""

    def __init__(self, carry: Carry) -> None:
        self._carry = carry
        self._pushing: _Pushing | None = None

    def drive(self, round_: Round) -> RoundReport | None:
        """The report of the round; None when it was stopped between two calls."""
        try:
            call = next(round_)
            while True:
                try:
                    answer = self._answer_to(call)
                except SyncEngineError as error:
                    call = round_.throw(error)
                else:
                    if answer is None:
                        return None
                    call = round_.send(answer)
        except StopIteration as stop:
            report: RoundReport = stop.value
            return report
        finally:
            round_.close()
            self._await_push()

    def is_pushing_in_this_thread(self) -> bool:
        """True within a push: its token callback runs in that thread."""
        pushing = self._pushing
        return pushing is not None and pushing.thread is threading.current_thread()

    def _answer_to(self, call: Call) -> Answer | None:
        if isinstance(call, Begin):
            self._pushing = _Pushing(call.push, self._carry)
            return Begun()
        if isinstance(call, End):
            assert self._pushing is not None
            pushing, self._pushing = self._pushing, None
            return pushing.end()
        return self._carry(call)

    def _await_push(self) -> None:
        """A round that ended while its push was on its way hears no answer: its entries stay claimed."""
        pushing, self._pushing = self._pushing, None
        if pushing is not None:
            with suppress(SyncEngineError):
                pushing.end()


class _Pushing:
    """A push that is on its way from when this is made."""

    def __init__(self, push: Push, carry: Carry) -> None:
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(push, carry), name="syncengine-push", daemon=True)
        self.thread.start()

    def end(self) -> Answer | None:
        """Wait for the answer; the call has its own deadline. Raises what the call raised."""
        self.thread.join()
        if self._error is not None:
            raise self._error
        return self._answer

    def _run(self, push: Push, carry: Carry) -> None:
        try:
            self._answer = carry(push)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the answer is awaited
            self._error = error
