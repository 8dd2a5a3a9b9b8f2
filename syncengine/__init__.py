"""Offline-first local sync engine: migrations, outbox and cloud sync over one SQLite file."""
