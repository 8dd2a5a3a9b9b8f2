"""What took effect at the cloud stays there until something else is written over it.

Read from the witness alone: each row's effects in their order say which value each of its fields must have in the
end.
"""

from collections import defaultdict
from collections.abc import Iterable

from simulator.world.cloud import Effect, WorldCloud
from simulator.world.ground import PromiseBroken
from simulator.world.ledger import Ledger
from simulator.world.words import field_of, words_in

Place = tuple[str, str, str]
"""User, collection and key."""


def check_last_words(ledger: Ledger, cloud: WorldCloud, *, without: frozenset[str]) -> None:
    """P2: each row has of each field what was written last. `without`: fields that newer shapes have no room for.

    A write in another shape than the row's lies beside it until a device puts it in, over whatever was written in
    between: so such a write may be the last word, too. After the cloud was restored nobody can tell.
    """
    if cloud.life:
        return
    present = {
        (user, item.collection, item.key): words_in(item.model_dump_json())
        for user in cloud.users
        for item in cloud.documents(user)
    }
    for place, effects in _by_row(ledger, cloud.effects).items():
        for field, allowed in _last_words(effects).items():
            if field in without or allowed & present.get(place, frozenset()):
                continue
            user, _, key = place
            raise PromiseBroken(f"P2: of {key} of {user} {sorted(allowed)} took effect, and something older is there")


def _by_row(ledger: Ledger, effects: Iterable[Effect]) -> dict[Place, list[Effect]]:
    rows: dict[Place, list[Effect]] = defaultdict(list)
    several: set[Place] = set()
    for effect in effects:
        rows[effect.user, effect.collection, effect.key].append(effect)
        if effect.kind in ("changes", "migration"):
            # What becomes of each of its rows is not in the witness.
            several.update((effect.user, effect.collection, ledger.by_word[each].key) for each in effect.words)
            several.add((effect.user, effect.collection, effect.key))
    return {place: found for place, found in rows.items() if place not in several}


def _last_words(effects: Iterable[Effect]) -> dict[str, set[str]]:
    """By field: the words of which one has to be there."""
    last: dict[str, str] = {}
    beside: dict[str, set[str]] = defaultdict(set)
    unsaid: list[frozenset[str]] = []
    """Of each whole row beside, the fields that it says; it may say defaults of all others, which are no words."""
    shape = ""
    for effect in effects:
        if effect.kind == "delete":
            last, beside, unsaid, shape = {}, defaultdict(set), [], ""
        elif effect.kind == "put":
            last = {}  # it may say defaults, which are nobody's words, of the others
            if shape and effect.shape != shape:
                unsaid.append(frozenset(map(field_of, effect.words)))
        elif effect.kind == "lift":
            shape = effect.shape
        for each in effect.words:
            last[field_of(each)] = each
            if shape and effect.shape != shape:
                beside[field_of(each)].add(each)
        shape = shape or effect.shape
    known = {field for field in last if all(field in said for said in unsaid)}
    return {field: {last[field]} | beside[field] for field in sorted(known)}
