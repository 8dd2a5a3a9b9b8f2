"""One voice for all who tell a part of the story."""


def tell(who: str, what: str) -> None:
    """One line: who it is about, and what happened."""
    print(f"{who:<9} {what}", flush=True)
