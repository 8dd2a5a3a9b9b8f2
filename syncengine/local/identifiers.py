"""Names of tables and columns in SQL: quoted here and nowhere else."""


def quoted(name: str) -> str:
    """The name as an SQL identifier. Raises ValueError for an empty one or one with a NUL."""
    if not name or "\0" in name:
        raise ValueError("an SQL name cannot be empty or hold a NUL")
    return '"' + name.replace('"', '""') + '"'
