"""`python -m tests.benchmarks`: ratios and differences in one run, printed, never asserted. About two minutes."""

from tests.benchmarks import conversion, idle_start, import_memory, restore_point

if __name__ == "__main__":
    idle_start.report()
    conversion.report()
    import_memory.report(few=10_000, many=100_000)
    restore_point.report(megabytes=100)
