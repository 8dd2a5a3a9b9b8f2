"""A private PostgreSQL in a folder of its own: on a Unix socket only, by nobody's name, gone with its folder."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import psycopg

from simulator.processes import ProcessFailed

PLACES = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql*/bin")
"""Where distributions keep its programs, from the root."""
PLAIN_ROLE = "syncengine"
SUPERUSER = "postgres"
COMMAND_SECONDS_MAX = 60
DURABLE_OFF = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
"""For tests that kill servers and never the machine: PostgreSQL itself stays up, so nothing can be lost by it."""


def lacking() -> str | None:
    """Why PostgreSQL cannot be started here; None when it can."""
    if _program("initdb") is None:
        return "PostgreSQL is not installed (Debian: postgresql)"
    return None if os.geteuid() or _unprivileged() else "PostgreSQL does not run as root, and there is no other user"


def _program(name: str) -> str | None:
    """The newest, wherever it is."""
    found = [path for place in PLACES for path in Path("/").glob(f"{place}/{name}")]
    newest = sorted(found, key=lambda path: [int(part) for part in path.parts if part.isdigit()])
    return str(newest[-1]) if newest else shutil.which(name)


def _unprivileged() -> str | None:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


class PostgresqlCluster:
    """Running after construction. Databases of it belong to a plain role, which row-level security holds."""

    def __init__(self, folder: Path, *, durable: bool = False, settings: tuple[str, ...] = ()) -> None:
        """`folder` is new and its name short: a socket's path has about 100 letters. `durable`: as it is shipped."""
        self._folder = folder
        self._data = folder / "data"
        self._user = None if os.geteuid() else _unprivileged()
        folder.mkdir(mode=0o755)
        if self._user:
            shutil.chown(folder, self._user)
        self._run(
            "initdb", "-D", str(self._data), "-U", SUPERUSER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"
        )
        self._settings = (*(() if durable else DURABLE_OFF), *settings)
        self.start()
        with self.as_superuser() as connection:
            connection.execute(f"CREATE ROLE {PLAIN_ROLE} LOGIN")

    def start(self) -> None:
        """Ready when this returns."""
        options = ("listen_addresses=''", f"unix_socket_directories='{self._folder}'", *self._settings)
        told = " ".join(f"-c {each}" for each in options)
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self._folder / "log"), "-o", told, "start")

    def stop(self, *, how: str = "fast") -> None:
        """Connections are cut; `immediate` is as a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", how, "stop")

    def as_superuser(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """For what only an operator does; each statement by itself."""
        return psycopg.connect(self.address(database, role=SUPERUSER), autocommit=True)

    def make_database(self, name: str, *, like: str = "template1") -> str:
        """A new one, or a copy of another that nobody is connected to; its address for the plain role."""
        with self.as_superuser() as connection:
            connection.execute(f'CREATE DATABASE "{name}" OWNER {PLAIN_ROLE} TEMPLATE "{like}"'.encode())
        return self.address(name)

    def drop_database(self, name: str) -> None:
        """Also where somebody is connected."""
        with self.as_superuser() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    def address(self, database: str, *, role: str = PLAIN_ROLE) -> str:
        return f"postgresql://{role}@/{database}?host={quote(str(self._folder), safe='')}"

    def processor_seconds(self) -> float:
        """Of all its processes that still run and of those that have ended; Linux only."""
        postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = stat.read_text().rpartition(")")
            except OSError:
                continue
            fields = rest.split()
            if int(name.split()[0]) == postmaster:
                ticks += sum(map(int, fields[11:15]))
            elif int(fields[1]) == postmaster:
                ticks += sum(map(int, fields[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [_program(program) or program, *arguments],
            user=self._user,
            cwd="/",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE
            if program == "initdb"
            else subprocess.DEVNULL,  # the server would keep a pipe open
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        if done.returncode:
            log = self._folder / "log"
            raise ProcessFailed(
                f"{program} failed: {done.stdout or ''}{log.read_text()[-2000:] if log.exists() else ''}"
            )

    def __enter__(self) -> "PostgresqlCluster":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop(how="immediate")
