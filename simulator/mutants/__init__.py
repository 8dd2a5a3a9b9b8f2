"""Bugs that the engine could have, put into it on purpose: worlds that do not notice one of them prove nothing."""

from simulator.mutants import cloud, outbox, reading, seen_by_one, stores, upgrades, users
from simulator.mutants.surgery import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *outbox.MUTANTS,
    *reading.MUTANTS,
    *upgrades.MUTANTS,
    *users.MUTANTS,
    *cloud.MUTANTS,
    *stores.MUTANTS,
    *seen_by_one.MUTANTS,
)

_BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


def mutant_of(name: str) -> Mutant:
    """The bug of which the sentence is true. Raises KeyError."""
    return _BY_NAME[name]


__all__ = ["MUTANTS", "Mutant", "mutant_of"]
