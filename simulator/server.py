"""The shipped server as it is, but it ends when its stdin ends: `python -m simulator.server --port 0 --data DIR`."""

import os
import signal
import sys
import threading

from syncengine.server.__main__ import main as serve


def _end_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(serve())
