"""A judge looks away: to show what only that judge notices."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simulator.mutants.catching import live_with
from simulator.mutants.surgery import Mutant, Part, Surgery
from simulator.world.ground import PromiseBroken

JUDGES = "check_"
"""What their names begin with."""
PLACES = tuple(
    f"simulator.world.{path.stem}"
    for path in sorted((Path(__file__).parents[1] / "world").glob("*.py"))
    if path.stem != "__init__"
)


@contextmanager
def blind_to(promise: str) -> Iterator[None]:
    """No judge tells of this promise until the block ends."""
    surgery = Surgery()
    try:
        for place in PLACES:
            for name, part in list(vars(importlib.import_module(place)).items()):
                if name.startswith(JUDGES) and callable(part):
                    surgery.around(place, name, lambda judge: _silent(judge, promise))
        yield
    finally:
        surgery.undo()


def _silent(judge: Part, promise: str) -> Part:
    def judged(*told: object, **more: object) -> None:
        try:
            judge(*told, **more)
        except PromiseBroken as broken:
            if broken.told[0] != promise:
                raise

    return judged


def survives_without(promise: str, mutant: Mutant, seed: int) -> bool:
    """Whether this world notices nothing of the bug when nobody judges the promise.

    What ends a world at once, as an error of the engine does, is nobody's judgement then either.
    """
    with mutant.at_work(), blind_to(promise):
        outcome = live_with(mutant, seed)
    return outcome.broken is None or outcome.broken[0] == promise
