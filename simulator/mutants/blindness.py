"""A judge looks away: to show what only that judge notices."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
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
        for place, name in _parts():
            surgery.around(place, name, lambda judge: _silent(judge, promise))
        yield
    finally:
        surgery.undo()


def _parts() -> list[tuple[str, str]]:
    """Each judge in each module that calls it by its own name."""
    return [
        (place, name)
        for place in PLACES
        for name, part in vars(importlib.import_module(place)).items()
        if name.startswith(JUDGES) and callable(part)
    ]


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


RAISED = "live"
"""Who notices what the engine raises: the world itself, by promise P15."""


def judges() -> frozenset[str]:
    """All, by their names."""
    return frozenset(name for _, name in _parts()) | {RAISED}


def noticed_by(mutant: Mutant, seed: int) -> frozenset[str]:
    """Every judge that sees the bug in this world. None of them ends it, so that each comes to speak."""
    objected: set[str] = set()
    surgery = Surgery()
    with mutant.at_work():
        try:
            for place, name in _parts():
                surgery.around(place, name, partial(_heard, name=name, objected=objected))
            outcome = live_with(mutant, seed)
        finally:
            surgery.undo()
    return frozenset(objected | ({RAISED} if outcome.broken is not None else set()))


def _heard(judge: Part, *, name: str, objected: set[str]) -> Part:
    def judged(*told: object, **more: object) -> None:
        try:
            judge(*told, **more)
        except PromiseBroken:
            objected.add(name)

    return judged
