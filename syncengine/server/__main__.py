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
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from syncengine.clock import SystemClock, system_random
from syncengine.errors import BackendAddressRefused, SyncEngineError
from syncengine.server.app import create_app
from syncengine.server.cloud import Cloud, CloudLimits
from syncengine.server.databases import open_storage
from syncengine.server.sign_in import SignIn, by_web_token
from syncengine.server.sqlite_storage import DATABASE_NAME
from syncengine.server.storage import DatabaseUnavailable
from syncengine.vocabulary import SchemaVersion, UserId

_CONNECTIONS_WAITING_MAX = 128
_IDLE_CONNECTION_SECONDS_MAX = 75
OBJECTS_BEFORE_COLLECTION = 100_000
"""A push makes some ten thousand objects and no cycles: to look for some at each 700 is a quarter of its cost."""

SERVING: Mapping[str, Any] = {
    "access_log": False,
    "log_level": "warning",
    "server_header": False,
    "timeout_keep_alive": _IDLE_CONNECTION_SECONDS_MAX,
    "timeout_graceful_shutdown": 1,
    "ws": "none",
}
"""How uvicorn serves; requests at work get one second to end."""

DATABASE_VARIABLE = "SYNCENGINE_DATABASE"
"""In the environment, in place of --database: other users of the machine can read a command line."""

KEEP_DAYS = 90
"""A device that was away for longer reads everything anew."""


class AnnouncedServer(uvicorn.Server):
    """Says on stdout where it listens, once it really does: `listening on http://127.0.0.1:8000`."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for each in sockets or []:
            host, port = each.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            sys.stdout.write(f"listening on http://{shown}:{port}\n")
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
    except (SyncEngineError, DatabaseUnavailable) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _command(asked: argparse.Namespace, *, address: str, parser: argparse.ArgumentParser) -> int:
    clock = SystemClock()
    schema_min = dict(getattr(asked, "schema_min", None) or ())
    limits = CloudLimits(user_rows_max=asked.user_rows_max, user_bytes_max=asked.user_bytes_max)
    cloud = Cloud(open_storage(address, clock=clock), clock=clock, limits=limits, schema_min=schema_min)
    try:
        if asked.command == "add-token":
            token = cloud.add_token(UserId(asked.user), chance=system_random())
            sys.stdout.write(token + "\n")
        elif asked.command == "compact":
            forgotten = cloud.compact(keep_days=asked.keep_days)
            sys.stdout.write(
                f"{forgotten} rows that were deleted more than {asked.keep_days} days ago are forgotten\n"
            )
        else:
            sign_in = _sign_in(cloud, asked, parser=parser)
            _serve(cloud, host=asked.host, port=asked.port, token_file=asked.token_file, sign_in=sign_in)
    finally:
        cloud.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m syncengine.server", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command")
    _data_option(parser)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any free port, told on stdout")
    parser.add_argument("--token-file", help="lines of `user token` that are accepted from now on")
    parser.add_argument(
        "--schema-min",
        action="append",
        type=_lowest_schema,
        metavar="APP=VERSION",
        help="older installations of this app hand over what they have, and read no more; may be given again",
    )
    parser.add_argument(
        "--user-rows-max", type=_count, metavar="N", help="a user may have so many rows; else no limit"
    )
    parser.add_argument("--user-bytes-max", type=_count, metavar="N", help="and so many bytes of them, as JSON")
    _web_token_options(parser)
    add_token = commands.add_parser("add-token", help="print a fresh token; it cannot be shown again")
    _data_option(add_token)
    add_token.add_argument("--user", required=True)
    compact = commands.add_parser("compact", help="forget rows that were deleted long ago; the server may run")
    _data_option(compact)
    compact.add_argument(
        "--keep-days", type=_count, default=KEEP_DAYS, help="so long devices may stay away: %(default)s"
    )
    return parser


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
    if not app:
        raise ValueError(text)
    return app, SchemaVersion.parse(version)


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError(text)
    return count


def _data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", help="the folder of the cloud's database, made when missing")
    parser.add_argument(
        "--database",
        metavar="ADDRESS",
        help=f"instead of --data: postgresql://…, sqlite:///…, a path; or {DATABASE_VARIABLE} in the environment",
    )


def _sign_in(cloud: Cloud, asked: argparse.Namespace, *, parser: argparse.ArgumentParser) -> SignIn | None:
    """By web tokens where keys for them are given; else None: by the cloud's own."""
    if asked.jwks is None:
        return None
    if not asked.jwt_issuer or not asked.jwt_audience:
        parser.error("--jwks needs --jwt-issuer and --jwt-audience")
    from syncengine.server.published_keys import keys_at
    from syncengine.server.web_tokens import ALGORITHMS, WebTokens

    try:
        web_tokens = WebTokens(
            keys_at(asked.jwks, clock=SystemClock()),
            issuer=asked.jwt_issuer,
            audience=asked.jwt_audience,
            algorithms=tuple(asked.jwt_algorithm or ALGORITHMS),
            user_claim=asked.jwt_user_claim,
        )
    except (ValueError, BackendAddressRefused) as error:
        parser.error(str(error).splitlines()[0])
    return by_web_token(web_tokens, cloud, device_tokens=asked.device_tokens)


def _serve(cloud: Cloud, *, host: str, port: int, token_file: str | None, sign_in: SignIn | None) -> None:
    """Until SIGTERM or SIGINT."""
    gc.set_threshold(OBJECTS_BEFORE_COLLECTION)
    if token_file:
        _accept_tokens(cloud, Path(token_file).read_text(encoding="utf-8"))
    config = uvicorn.Config(create_app(cloud, sign_in=sign_in), **SERVING)
    with listening(host, port) as listener:
        for each in (signal.SIGTERM, signal.SIGINT):
            # uvicorn ends its work first and then raises the signal again; so the database is closed too.
            signal.signal(each, _exit)
        AnnouncedServer(config).run(sockets=[listener])


def listening(host: str, port: int) -> socket.socket:
    """A socket that waits for connections; port 0 is any free one."""
    listener = socket.create_server((host, port), backlog=_CONNECTIONS_WAITING_MAX)
    # Head and body of an answer are two writes: without this the second waits 40 ms for a delayed ACK.
    # asyncio sets it only where the socket names its protocol; accepted sockets inherit it from here.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _accept_tokens(cloud: Cloud, text: str) -> None:
    for line in text.splitlines():
        user, _, token = line.strip().partition(" ")
        if user and token and not user.startswith("#"):
            cloud.accept_token(UserId(user), token=token.strip())


if __name__ == "__main__":
    sys.exit(main())
