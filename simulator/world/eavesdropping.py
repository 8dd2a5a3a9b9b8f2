"""Everything that the engine logs while a world lives, for the judge of secrets."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

OF_THE_ENGINE = "syncengine"


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(level=logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.getMessage()} {record.__dict__}")


@contextmanager
def overheard() -> Iterator[list[str]]:
    """What is logged during the block, with all that travels beside a message."""
    logger, ear = logging.getLogger(OF_THE_ENGINE), _Ear()
    level, passes_on = logger.level, logger.propagate
    logger.addHandler(ear)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield ear.said
    finally:
        logger.removeHandler(ear)
        logger.setLevel(level)
        logger.propagate = passes_on
