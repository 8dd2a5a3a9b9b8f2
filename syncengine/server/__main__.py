"""`python -m syncengine.server --port 8000 --data cloud`, and `… add-token --data cloud --user ann`.

`… compact --data cloud --keep-days 90` forgets rows that were deleted before. In place of `--data` and a folder,
`--database postgresql://…` lets any number of servers share one database.
"""

import argparse
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

try:
    import uvicorn
    from starlette.applications import Starlette

    from syncengine.server.app import create_app
except ModuleNotFoundError as missing:
    package = str(missing.name).partition(".")[0]
    raise SystemExit(
        f"The server needs {package}, which comes with the extra [server]: "
        "pip install -e '.[server]' in the checkout of syncengine."
    ) from missing

from syncengine.clock import Clock, SystemClock, system_random
from syncengine.errors import BackendAddressRefused, SyncEngineError
from syncengine.server.cloud import Cloud, CloudLimits
from syncengine.server.console import CannotStart, listening, log_to_stderr, text_in, tries_untold, words_of
from syncengine.server.databases import open_storage
from syncengine.server.ending import Ending
from syncengine.server.metrics import Metrics
from syncengine.server.operations import OperationsPort, operations_app
from syncengine.server.options import count, days, days_or_never, port, tokens_in, user
from syncengine.server.pace import Pace, paced
from syncengine.server.quiet_connections import QuietConnections
from syncengine.server.retention import Retention
from syncengine.server.sign_in import SignIn, by_web_token
from syncengine.server.sqlite_storage import DATABASE_NAME
from syncengine.server.storage import DatabaseFailed, DatabaseUnavailable, Storage, TokenTaken
from syncengine.vocabulary import SchemaVersion

if TYPE_CHECKING:
    from syncengine.server.published_keys import PublishedKeys

_IDLE_CONNECTION_SECONDS_MAX = 75
OBJECTS_BEFORE_COLLECTION = 100_000
"""A push makes some ten thousand objects and no cycles: to look for some at each 700 is a quarter of its cost."""

SERVING: Mapping[str, Any] = {
    "access_log": False,
    "log_level": "warning",
    "server_header": False,
    "timeout_keep_alive": _IDLE_CONNECTION_SECONDS_MAX,
    "ws": "none",
}
"""How uvicorn serves."""
STOP_SECONDS_MAX = 10
"""So long requests at work may take to end, once the server is told to stop."""

DATABASE_VARIABLE = "SYNCENGINE_DATABASE"
"""In the environment, in place of --database: other users of the machine can read a command line."""


KEEP_DAYS = 90
"""A device that was away for longer reads everything anew."""


class AnnouncedServer(uvicorn.Server):
    """Says on stdout where it listens, once it really does: `listening on http://127.0.0.1:8000`."""

    looked_around_ms: int | None = None
    also_says = ""
    when_told_to_stop: Callable[[], None] | None = None

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._quiet = QuietConnections()

    @property
    def is_stopping(self) -> bool:
        """Whether it takes no new connections any more."""
        return self.should_exit

    async def on_tick(self, counter: int) -> bool:
        """uvicorn calls it ten times a second, until it is to stop."""
        self.looked_around_ms = now_ms = SystemClock().monotonic_ms()
        self._quiet.close_overdue(self.server_state.connections, now_ms=now_ms)
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for each in sockets or []:
            _say(f"listening on {_address_of(each)}")
        if self.also_says:
            _say(self.also_says)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.when_told_to_stop is not None:
            self.when_told_to_stop()
        await super().shutdown(sockets=sockets)


def _address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.database and asked.data:
        parser.error("give either --data or --database")
    address = (
        asked.database or (asked.data and str(Path(asked.data) / DATABASE_NAME)) or os.environ.get(DATABASE_VARIABLE)
    )
    if not address:
        parser.error("give --data or --database")
    try:
        return _command(asked, address=address, parser=parser)
    except (SyncEngineError, DatabaseUnavailable, DatabaseFailed, CannotStart, TokenTaken) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _command(asked: argparse.Namespace, *, address: str, parser: argparse.ArgumentParser) -> int:
    clock, metrics = SystemClock(), Metrics()
    schema_min = dict(getattr(asked, "schema_min", None) or ())
    limits = CloudLimits(user_rows_max=asked.user_rows_max, user_bytes_max=asked.user_bytes_max)
    storage = _opened(address, clock=clock)
    cloud = Cloud(storage, clock=clock, limits=limits, schema_min=schema_min, metrics=metrics)
    try:
        if asked.command == "add-token":
            token = cloud.add_token(asked.user, chance=system_random())
            sys.stdout.write(token + "\n")
        elif asked.command == "compact":
            forgotten = cloud.compact(keep_days=asked.keep_days)
            sys.stdout.write(
                f"{forgotten} rows that were deleted more than {asked.keep_days} days ago are forgotten\n"
            )
        else:
            keys = _keys(asked, parser=parser)
            sign_in = None if keys is None else _sign_in(cloud, asked, keys, parser=parser)
            _serve(cloud, asked, sign_in=sign_in, keys=keys, metrics=metrics)
    finally:
        cloud.close()
    return 0


def _opened(address: str, *, clock: Clock) -> Storage:
    try:
        with tries_untold():
            return open_storage(address, clock=clock)
    except OSError as error:
        raise CannotStart(
            "The folder of the database cannot be used.", why=words_of(error), fix="Correct --data or --database."
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m syncengine.server", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command")
    _data_option(parser)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=port, default=8000, help="0: any free port, told on stdout")
    parser.add_argument("--token-file", help="lines of `user token` that are accepted from now on")
    parser.add_argument(
        "--schema-min",
        action="append",
        type=_lowest_schema,
        metavar="APP=VERSION",
        help="older installations of this app hand over what they have, and read no more; may be given again",
    )
    parser.add_argument(
        "--user-rows-max", type=count, metavar="N", help="a user may have so many rows; else no limit"
    )
    parser.add_argument("--user-bytes-max", type=count, metavar="N", help="and so many bytes of them, as JSON")
    parser.add_argument(
        "--user-requests-per-minute-max",
        type=count,
        default=0,
        metavar="N",
        help="a user may make so many requests to this process; 0: no limit",
    )
    _operations_options(parser)
    _web_token_options(parser)
    add_token = commands.add_parser("add-token", help="print a fresh token; it cannot be shown again")
    _data_option(add_token)
    add_token.add_argument("--user", type=user, required=True)
    compact = commands.add_parser("compact", help="forget rows that were deleted long ago; the server may run")
    _data_option(compact)
    compact.add_argument(
        "--keep-days", type=days, default=KEEP_DAYS, help="so long devices may stay away: %(default)s"
    )
    return parser


def _operations_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep-days",
        type=days_or_never,
        default=KEEP_DAYS,
        metavar="DAYS",
        help="rows that were deleted are remembered for so long: %(default)s; `never`: they are never forgotten",
    )
    parser.add_argument(
        "--stop-seconds-max",
        type=count,
        default=STOP_SECONDS_MAX,
        metavar="N",
        help="requests at work may take so long to end at SIGTERM: %(default)s",
    )
    parser.add_argument("--operations-port", type=port, metavar="PORT", help="/metrics, /healthz and /readyz; 0: any")
    parser.add_argument("--operations-host", default="127.0.0.1", metavar="HOST", help="where: %(default)s")


def _web_token_options(parser: argparse.ArgumentParser) -> None:
    signed = parser.add_argument_group("users by JSON Web Tokens (needs PyJWT)")
    signed.add_argument("--jwks", metavar="PLACE", help="the keys that sign them: an https address, or a file")
    signed.add_argument("--jwt-issuer", metavar="ISS", help="whose tokens are taken, and nobody else's")
    signed.add_argument("--jwt-audience", metavar="AUD", help="for whom they have to be meant")
    signed.add_argument("--jwt-algorithm", action="append", metavar="ALG", help="default: RS256 and ES256")
    signed.add_argument("--jwt-user-claim", default="sub", metavar="CLAIM", help="where the user stands: %(default)s")
    signed.add_argument("--device-tokens", action="store_true", help="take tokens of add-token and --token-file, too")


def _lowest_schema(text: str) -> tuple[str, SchemaVersion]:
    app, _, version = text.partition("=")
    try:
        if app:
            return app, SchemaVersion.parse(version)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"give an app and a version, such as notebook=2.0.0, and not {text!r}")


def _data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", help="the folder of the cloud's database, made when missing")
    parser.add_argument(
        "--database",
        metavar="ADDRESS",
        help=f"instead of --data: postgresql://…, sqlite:///…, a path; or {DATABASE_VARIABLE} in the environment",
    )


def _keys(asked: argparse.Namespace, *, parser: argparse.ArgumentParser) -> "PublishedKeys | None":
    """The keys for web tokens; None: there are none, and users sign in by the cloud's own tokens.

    A file has to be there from the start on; an address may answer later.
    """
    if asked.jwks is None:
        return None
    if not asked.jwt_issuer or not asked.jwt_audience:
        parser.error("--jwks needs --jwt-issuer and --jwt-audience")
    from syncengine.server.published_keys import is_file, keys_at

    try:
        keys = keys_at(asked.jwks, clock=SystemClock())
    except BackendAddressRefused as error:
        parser.error(f"argument --jwks: give an https address, one of this machine, or a file: {error.why}")
    why = keys.why_none() if is_file(asked.jwks) else None
    if why is not None:
        parser.error(f"argument --jwks: {why}")
    return keys


def _sign_in(
    cloud: Cloud, asked: argparse.Namespace, keys: "PublishedKeys", *, parser: argparse.ArgumentParser
) -> SignIn:
    """By web tokens."""
    from syncengine.server.web_tokens import ALGORITHMS, WebTokens

    try:
        web_tokens = WebTokens(
            keys,
            issuer=asked.jwt_issuer,
            audience=asked.jwt_audience,
            algorithms=tuple(asked.jwt_algorithm or ALGORITHMS),
            user_claim=asked.jwt_user_claim,
        )
    except ValueError as error:
        parser.error(f"argument --jwt-algorithm: {error}")
    return by_web_token(web_tokens, cloud, device_tokens=asked.device_tokens)


def _serve(
    cloud: Cloud, asked: argparse.Namespace, *, sign_in: SignIn | None, keys: "PublishedKeys | None", metrics: Metrics
) -> None:
    """Until SIGTERM or SIGINT; then requests at work end, within a bound."""
    log_to_stderr()
    why_no_keys: Callable[[], str | None] = keys.why_none if keys is not None else lambda: None
    gc.set_threshold(OBJECTS_BEFORE_COLLECTION)
    if asked.token_file:
        for user_of_token, token in tokens_in(text_in(asked.token_file, option="--token-file")):
            cloud.accept_token(user_of_token, token=token)
    if asked.user_requests_per_minute_max:
        pace = Pace(asked.user_requests_per_minute_max, clock=SystemClock())
        sign_in = paced(sign_in or cloud.user_of, pace)
    app = create_app(cloud, sign_in=sign_in, metrics=metrics)
    config = uvicorn.Config(app, timeout_graceful_shutdown=asked.stop_seconds_max, **SERVING)
    with ExitStack() as at_the_end:
        listener = at_the_end.enter_context(listening(asked.host, asked.port))
        server = AnnouncedServer(config)
        if asked.keep_days is not None:
            _forgetting(cloud, keep_days=asked.keep_days, until=at_the_end)
        if asked.operations_port is not None:
            operations = operations_app(server, cloud, metrics=metrics, clock=SystemClock(), why_no_keys=why_no_keys)
            place = at_the_end.enter_context(listening(asked.operations_host, asked.operations_port))
            _answer_operations(operations, place, until=at_the_end)
            server.also_says = f"operations on {_address_of(place)}"
        ending = Ending(cloud.cut_off, clock=SystemClock())
        server.when_told_to_stop = partial(ending.begin, stop_seconds_max=asked.stop_seconds_max)
        # Whoever starts it hears at once that the keys cannot be had.
        threading.Thread(target=why_no_keys, name="keys", daemon=True).start()
        for each in (signal.SIGTERM, signal.SIGINT):
            # uvicorn ends its work first and then raises the signal again; so the database is closed too.
            signal.signal(each, _exit)
        server.run(sockets=[listener])


def _forgetting(cloud: Cloud, *, keep_days: int, until: ExitStack) -> None:
    retention = Retention(partial(cloud.compact, keep_days=keep_days), clock=SystemClock())
    retention.start()
    until.callback(retention.stop)


def _answer_operations(app: Starlette, listener: socket.socket, *, until: ExitStack) -> None:
    port = OperationsPort(app, how=SERVING)
    port.start(listener)
    until.callback(port.stop)


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
