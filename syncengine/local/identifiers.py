"""Names of tables and columns in SQL: quoted here and nowhere else."""


class NameUnusable(ValueError):
    """No table or column can be called so; says the name, which is no row's content."""


def quoted(name: str) -> str:
    """The name as an SQL identifier. Raises NameUnusable for an empty one or one with a NUL."""
    if not name or "\0" in name:
        raise NameUnusable(f"an SQL name cannot be empty or hold a NUL, as {name!r}")
    return '"' + name.replace('"', '""') + '"'
