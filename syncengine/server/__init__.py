"""The reference cloud: protocol 1 over one SQLite file. Start it with `python -m syncengine.server`."""
