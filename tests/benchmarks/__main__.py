"""`python -m tests.benchmarks`: ratios and differences in one run, printed, never asserted. About half an hour.

`python -m tests.benchmarks capture drain` runs some of them; `--list` says what each is about.
"""

import argparse
import sys
import traceback
from collections.abc import Callable

from tests.benchmarks import (
    apply,
    capture,
    capture_peers,
    drain,
    idle_start,
    import_memory,
    large_collection,
    peers,
    pouchdb,
    restore_point,
    server_push,
    server_push_postgresql,
    source_reading,
)

ALL: dict[str, tuple[str | None, Callable[[], None]]] = {
    "idle_start": (idle_start.__doc__, idle_start.report),
    "source_reading": (source_reading.__doc__, source_reading.report),
    "import_memory": (import_memory.__doc__, lambda: import_memory.report(few=10_000, many=100_000)),
    "peers": (peers.__doc__, lambda: peers.report(rows_many=1_000_000)),
    "restore_point": (restore_point.__doc__, lambda: restore_point.report(megabytes=100)),
    "large_collection": (large_collection.__doc__, large_collection.report),
    "capture": (capture.__doc__, capture.report),
    "capture_peers": (capture_peers.__doc__, capture_peers.report),
    "drain": (drain.__doc__, drain.report),
    "server_push": (server_push.__doc__, server_push.report),
    "server_push_postgresql": (server_push_postgresql.__doc__, server_push_postgresql.report),
    "apply": (apply.__doc__, apply.report),
    "pouchdb": (pouchdb.__doc__, pouchdb.report),
}
"""What each is about and how it is run, by name, in the order of a whole run."""


def main() -> None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="say what each is about, and run none")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - ALL.keys():
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    names = chosen.names or list(ALL)
    if chosen.list:
        for name in names:
            print(f"{name:23}{(ALL[name][0] or '').splitlines()[0]}")
        return
    failed = [name for name in names if not _ran(name)]
    if failed:
        sys.exit(f"these benchmarks failed: {', '.join(failed)}")


def _ran(name: str) -> bool:
    """Whether it came to its end; one that does not keeps none of the others from running."""
    print(f"# {name}", flush=True)
    try:
        ALL[name][1]()
    except Exception:
        traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    main()
