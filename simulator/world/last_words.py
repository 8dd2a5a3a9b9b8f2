"""What took effect at the cloud stays there until something else is written over it.

Read from the witness alone: each row's effects in their order say which value each of its fields must have in the
end.
"""

from collections import defaultdict
from collections.abc import Iterable

from simulator.world.app import Shape, WorldApp
from simulator.world.cloud import Effect, WorldCloud
from simulator.world.ground import PromiseBroken
from simulator.world.ledger import Ledger
from simulator.world.words import field_of, words_in

Place = tuple[str, str, str]
"""User, collection and key."""


def check_last_words(ledger: Ledger, cloud: WorldCloud, *, app: WorldApp) -> None:
    """P2: each row has of each field what was written last, but for fields that newer shapes have no room for.

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
        for field, allowed in _last_words(effects, app.shapes[place[1]]).items():
            if field in app.gone or allowed & present.get(place, frozenset()):
                continue
            user, _, key = place
            raise PromiseBroken(f"P2: of {key} of {user} {sorted(allowed)} took effect, and something older is there")


def _by_row(ledger: Ledger, effects: Iterable[Effect]) -> dict[Place, list[Effect]]:
    rows: dict[Place, list[Effect]] = defaultdict(list)
    several: set[Place] = set()
    for effect in effects:
        if effect.kind == "void":
            continue  # a number of nobody's
        rows[effect.user, effect.collection, effect.key].append(effect)
        if effect.kind in ("changes", "migration"):
            # What becomes of each of its rows is not in the witness.
            several.update((effect.user, effect.collection, ledger.by_word[each].key) for each in effect.words)
            several.add((effect.user, effect.collection, effect.key))
    return {place: found for place, found in rows.items() if place not in several}


def _last_words(effects: Iterable[Effect], columns: Shape) -> dict[str, set[str]]:
    """By field: the words of which one has to be there; none where something that is no word was written since."""
    last: dict[str, str] = {}
    beside: dict[str, set[str]] = defaultdict(set)
    unsaid: list[frozenset[str]] = []
    """Of each whole row beside, the fields that it says; it may say defaults of all others, which are no words."""
    doubtful: set[str] = set()
    """Fields to which something beside the row writes what is no word; it may be put in at any time."""
    shape = ""
    for effect in effects:
        if effect.kind == "delete":
            last, beside, unsaid, doubtful, shape = {}, defaultdict(set), [], set(), ""
        elif effect.kind == "lift":
            shape = effect.shape
            continue  # it says again what took effect before, and what was put in beside it
        is_beside = bool(shape) and effect.shape != shape
        if effect.kind == "put" and is_beside:
            unsaid.append(frozenset(map(field_of, effect.words)))
        for field in _wordless(effect, columns):
            last.pop(field, None)
            doubtful |= {field} if is_beside else set()
        for each in effect.words:
            last[field_of(each)] = each
            if is_beside:
                beside[field_of(each)].add(each)
        shape = shape or effect.shape
    known = {field for field in last if all(field in said for said in unsaid)} - doubtful
    return {field: {last[field]} | beside[field] for field in sorted(known)}


def _wordless(effect: Effect, columns: Shape) -> set[str]:
    """Fields to which it wrote what is no word: nothing, or a default."""
    written = {field for name in effect.values for field in columns.fields_of(name)}
    return written - set(map(field_of, effect.words))
