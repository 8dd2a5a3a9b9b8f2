"""What the benchmarks of sync against other tools share: their packages from npm, and the app that syncs walks."""
