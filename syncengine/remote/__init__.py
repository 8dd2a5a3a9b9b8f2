"""The cloud as seen from here: the protocol, the backends, the connectivity probe. Never touches SQLite."""
