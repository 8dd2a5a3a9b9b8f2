"""All measurements that end soon: `python -m tests.benchmarks`. Ratios in one run, printed, never asserted."""

from tests.benchmarks import conversion, idle_start

if __name__ == "__main__":
    idle_start.report()
    conversion.report()
