"""Chance, split by what it is for: to change one kind of event leaves all others of a seed as they were."""

import random


class Chance:
    """All streams of one seed. The same words give the same stream, in any process."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def stream(self, *purpose: str | int) -> random.Random:
        """A generator of its own for this purpose."""
        # A text is hashed by SHA-512 here, not by Python's hash(), which differs from process to process.
        return random.Random(f"{self.seed}/{'/'.join(map(str, purpose))}")
