"""`python -m tests.benchmarks`: ratios and differences in one run, printed, never asserted. About ten minutes."""

from tests.benchmarks import (
    capture,
    drain,
    idle_start,
    import_memory,
    large_collection,
    peers,
    restore_point,
    source_reading,
)

if __name__ == "__main__":
    idle_start.report()
    capture.report()
    source_reading.report()
    import_memory.report(few=10_000, many=100_000)
    peers.report(rows_many=1_000_000)
    restore_point.report(megabytes=100)
    large_collection.report()
    drain.report()
