"""Runs a script in a network of its own, where links, addresses and routes can be taken away. Needs no rights.

unshare(1) makes a user as root of new namespaces; in the network one there is only `lo`, and it is down.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 60

BEGIN = """
import json, subprocess

def ip(*commands):
    subprocess.run(["ip", "-batch", "-"], input="\\n".join(commands), text=True, check=True)
"""


@functools.cache
def _why_not() -> str:
    tried = subprocess.run(
        ["unshare", "--map-root-user", "--net", "--mount", "ip", "link", "add", "v0", "type", "veth"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tried.stderr.strip() if tried.returncode else ""


def run_in_namespace(script: str) -> Any:
    """What the script prints last, as JSON. In it `ip("link set lo up", "link del v0")` changes the network."""
    if sys.platform != "linux" or _why_not():
        pytest.skip(f"this machine grants no network of our own: {sys.platform} {_why_not()}")
    ran = subprocess.run(
        ["unshare", "--map-root-user", "--net", "--mount", sys.executable, "-c", BEGIN + script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])
