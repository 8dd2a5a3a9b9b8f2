"""The door to the cloud: what every backend promises. The suite in tests/conformance holds each one to it."""

from typing import Protocol

from syncengine.remote.wire import (
    HealthAnswer,
    HelloAnswer,
    HelloRequest,
    PullAnswer,
    PullRequest,
    PushAnswer,
    PushRequest,
    RowsAnswer,
    RowsRequest,
)


class Backend(Protocol):
    """The cloud of one signed-in user. A request whose `user` is another one raises AuthRequired and does nothing.

    Every call takes a bounded time and raises only: BackendUnreachable, BackendUnavailable, RateLimited,
    NotOurServer, AuthRequired, BatchRefused, QuotaExceeded, SequenceGap, CursorGone, ProtocolViolation. After
    BackendUnreachable, BackendUnavailable, NotOurServer or ProtocolViolation a push may or may not have taken effect;
    sending the same sequences again is safe.
    """

    def hello(self, request: HelloRequest) -> HelloAnswer:
        """Where this device stands at the cloud. Changes no rows there."""
        ...

    def push(self, request: PushRequest) -> PushAnswer:
        """Each entry takes effect once, in order, groups whole; one result each.

        Raises SequenceGap when an earlier entry is missing, BatchRefused when the request as a whole is not taken,
        QuotaExceeded when the user has no room for it; then nothing took effect.
        """
        ...

    def pull(self, request: PullRequest) -> PullAnswer:
        """Rows that have changed since the cursor, as they are now; groups whole.

        Raises CursorGone when the cloud cannot tell any more what has changed since.
        """
        ...

    def rows(self, request: RowsRequest) -> RowsAnswer:
        """One page of living rows."""
        ...

    def health(self, nonce: str) -> HealthAnswer:
        """Whether the backend itself answers; needs no token. The answer holds the same nonce."""
        ...

    def close(self) -> None:
        """End all calls, also those in flight in other threads: they raise BackendUnreachable."""
        ...
