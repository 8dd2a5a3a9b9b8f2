"""The reference server as a real process on a free port, for tests that use, stop and kill it."""

import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from syncengine.clock import SystemClock
from syncengine.remote.http_backend import HttpBackend
from syncengine.server.cloud import Cloud
from syncengine.server.databases import open_storage
from syncengine.server.sqlite_storage import DATABASE_NAME
from syncengine.settings import Settings
from syncengine.vocabulary import UserId
from tests.conformance.device_requests import hello

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 60


class ServerProcess:
    """Running after construction; `url` is where. `with` stops it."""

    def __init__(self, folder: Path, *options: str, database: str | None = None) -> None:
        """Its database is in `folder`, or at the address `database`."""
        self.folder = folder
        self.address = database or str(folder / DATABASE_NAME)
        self._options = options
        self._backends: list[HttpBackend] = []
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "syncengine.server", "--port", "0", "--database", self.address, *self._options],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_SECONDS_MAX)
        line = self._process.stdout.readline() if ready else ""
        if not line.startswith("listening on http://"):
            self.kill()
            raise AssertionError(f"the server did not start: {line!r} {self.stderr!r}")
        self.url = line.removeprefix("listening on ").strip()
        self.operations_url = ""
        if "--operations-port" in self._options:
            self.operations_url = self._process.stdout.readline().removeprefix("operations on ").strip()

    def sign_in(self, user: str) -> str:
        """A token for this user, made beside the running server as the command line does."""
        clock = SystemClock()
        cloud = Cloud(open_storage(self.address, clock=clock), clock=clock)
        try:
            return cloud.add_token(UserId(user), chance=random.Random(user))
        finally:
            cloud.close()

    def run_command(self, command: str, *options: str) -> str:
        """What a command of the server's module prints, run beside the running server."""
        made = subprocess.run(
            [sys.executable, "-m", "syncengine.server", command, "--database", self.address, *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
            timeout=START_SECONDS_MAX,
        )
        return made.stdout.strip()

    def backend(self, token: str) -> HttpBackend:
        """A fresh HttpBackend, closed with the server."""
        backend = HttpBackend(self.url, token=lambda: token, settings=Settings(), clock=SystemClock())
        self._backends.append(backend)
        return backend

    def all_answers(self, user: str, *, token: str) -> bytes:
        """What it says to each call that reads, as this user; by plain httpx: nothing of ours stands between."""
        asked = {"request_id": "r", "user": user, "device": "phone", "collection": "journeys"}
        with httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as client:
            answers = [
                client.get("/v1/pull", params={name: asked[name] for name in ("request_id", "user", "device")}),
                client.get("/v1/rows", params={name: asked[name] for name in ("request_id", "user", "collection")}),
                client.post("/v1/hello", json=hello(user=user).model_dump(exclude_none=True)),
            ]
        assert [each.status_code for each in answers] == [200] * 3
        return b"".join(each.content for each in answers)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def tell_to_stop(self) -> None:
        """SIGTERM, without waiting for the end; `wait` does."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """For the end; the exit status."""
        _, self.stderr = self._process.communicate(timeout=30)
        return self._process.returncode

    def kill(self) -> int:
        """SIGKILL: no code of the server runs any more."""
        return self._end(signal.SIGKILL)

    def _end(self, with_signal: signal.Signals) -> int:
        self._process.send_signal(with_signal)
        return self.wait()

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        for backend in self._backends:
            backend.close()
        if self._process.poll() is None:
            self.stop()
