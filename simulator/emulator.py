"""Google's own Firestore emulator as a process on a free port, with the shipped security rules."""

import base64
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from simulator.processes import ProcessFailed
from syncengine import firestore
from syncengine.clock import Clock, SystemClock

RULES = Path(firestore.__file__).parent / "firestore.rules"
JAR = Path("/usr/lib/google-cloud-sdk/platform/cloud-firestore-emulator/cloud-firestore-emulator.jar")
MAIN = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
JAVA = ("java", "-Duser.language=en", "-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
PROJECT = "demo-sync"
START_MS_MAX = 90_000


def lacking() -> str | None:
    """Why the emulator cannot be started here; None when it can. FIRESTORE_EMULATOR_JAR is another place for it."""
    if not jar().exists():
        return "Google's Firestore emulator is not installed (Debian: google-cloud-cli-firestore-emulator)"
    return None if shutil.which("java") else "Java is not installed, which Google's Firestore emulator needs"


def jar() -> Path:
    return Path(os.environ.get("FIRESTORE_EMULATOR_JAR", JAR))


def id_token(user: str, *, project: str = PROJECT, number: int = 0) -> str:
    """As Firebase gives it, but unsigned: the emulator takes it, and the security rules see this user.

    Another `number` gives another token.
    """
    claims = {
        "iss": f"https://securetoken.google.com/{project}",
        "aud": project,
        "sub": user,
        "user_id": user,
        "iat": 1_700_000_000 + number,
        "exp": 4_102_444_800,
    }
    parts = [_part({"alg": "none", "typ": "JWT"}), _part(claims), ""]
    return ".".join(parts)


class FirestoreEmulator:
    """Running after construction at `host`; `wipe` empties it. In memory: nothing outlives it."""

    def __init__(self, log: Path, *, port: int | None = None, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self.host = f"127.0.0.1:{port or _free_port()}"
        self.documents = f"projects/{PROJECT}/databases/(default)/documents"
        name, _, at = self.host.partition(":")
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*JAVA, "-cp", str(jar()), MAIN, "--host", name, "--port", at],
                stdout=output,
                stderr=output,
            )
        # Without a proxy from the environment, and as the project's owner: rules do not apply.
        self.owner = httpx.Client(
            base_url=f"http://{self.host}", headers={"Authorization": "Bearer owner"}, timeout=60, trust_env=False
        )
        try:
            self._wait(log)
            self.set_shipped_rules()
        except BaseException:
            self.stop()
            raise

    def set_shipped_rules(self, *, own: str = "") -> None:
        """The rules that we ship, with matches of the app's own where it would add them."""
        shipped = RULES.read_text(encoding="utf-8")
        begin = "match /databases/{database}/documents {"
        self.set_rules(shipped.replace(begin, begin + own))

    def set_rules(self, rules: str) -> None:
        """Security rules from now on."""
        answer = self.owner.put(
            f"/emulator/v1/projects/{PROJECT}:securityRules", json={"rules": {"files": [{"content": rules}]}}
        )
        assert answer.status_code == 200, answer.text

    def wipe(self) -> None:
        """No documents are left."""
        answer = self.owner.delete(f"/emulator/v1/projects/{PROJECT}/databases/(default)/documents")
        assert answer.status_code == 200, answer.text

    def commit(self, writes: list[dict[str, Any]], *, token: str = "owner") -> httpx.Response:
        """As it comes back."""
        return self.owner.post(
            f"/v1/{self.documents}:commit", json={"writes": writes}, headers={"Authorization": f"Bearer {token}"}
        )

    def all_documents(self) -> list[dict[str, Any]]:
        """Every document with its name and fields."""
        found: list[dict[str, Any]] = []
        parents = [self.documents]
        while parents:
            parent = parents.pop()
            for collection in self._collections(parent):
                for document in self._listed(parent, collection):
                    parents.append(document["name"])
                    if "updateTime" in document:
                        found.append(document)
        return found

    def put_back(self, documents: list[dict[str, Any]]) -> None:
        """The database is as it was when `all_documents` gave these."""
        self.wipe()
        for first in range(0, len(documents), 100):
            writes = [
                {"update": {"name": each["name"], "fields": each.get("fields", {})}}
                for each in documents[first : first + 100]
            ]
            answer = self.commit(writes)
            assert answer.status_code == 200, answer.text

    def stop(self) -> None:
        self.owner.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _collections(self, parent: str) -> list[str]:
        answer = self.owner.post(f"/v1/{quote(parent)}:listCollectionIds", json={"pageSize": 1000})
        assert answer.status_code == 200, answer.text
        found: list[str] = answer.json().get("collectionIds", [])
        return found

    def _listed(self, parent: str, collection: str) -> list[dict[str, Any]]:
        documents: list[dict[str, Any]] = []
        page = ""
        while True:
            asked = {"pageSize": "300", "showMissing": "true", "pageToken": page}
            answer = self.owner.get(f"/v1/{quote(parent)}/{collection}", params=asked)
            assert answer.status_code == 200, answer.text
            documents += answer.json().get("documents", [])
            page = answer.json().get("nextPageToken", "")
            if not page:
                return documents

    def _wait(self, log: Path) -> None:
        until_ms = self._clock.monotonic_ms() + START_MS_MAX
        while self._clock.monotonic_ms() < until_ms and self._process.poll() is None:
            try:
                if self.owner.get("/").text.strip() == "Ok":
                    return
            except httpx.TransportError:
                self._clock.pause(100)
        raise ProcessFailed(f"The emulator did not start: {log.read_text(errors='replace')[-2000:]}")


def _part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
