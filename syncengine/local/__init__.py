"""The file on this device: the only package that opens SQLite."""
