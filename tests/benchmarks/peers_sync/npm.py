"""Packages from the npm registry in a temporary folder, without running any of their install scripts."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

HERE = Path(__file__).parent


def have_node() -> bool:
    """Whether there is anything to compare with."""
    return bool(shutil.which("node") and shutil.which("npm"))


def install(folder: Path) -> None:
    """`package.json` and the scripts beside it, ready to run in `folder`."""
    for path in (HERE / "package.json", *HERE.glob("*.mjs")):
        shutil.copy(path, folder)
    _npm(["install", "--ignore-scripts", "--no-audit", "--no-fund"], folder)


def unpack(package: str, folder: Path) -> Path:
    """Only what the package itself holds, without what it depends on."""
    named = _npm(["pack", "--ignore-scripts", package], folder).split()[-1]
    with tarfile.open(folder / named) as packed:
        packed.extractall(folder, filter="data")
    return folder / "package"


def _npm(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        ["npm", *arguments, "--loglevel", "error"],
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_UPDATE_NOTIFIER": "1"},
    )
    return done.stdout
