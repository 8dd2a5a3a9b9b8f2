"""Values that a repair rule changed on the way up are given back on the way down, where nobody has edited them."""

from typing import TYPE_CHECKING, Any

import orjson

from syncengine.local.identifiers import quoted
from syncengine.migrate.row_codec import encode_mapping
from syncengine.migrate.work import key_columns

if TYPE_CHECKING:
    from syncengine.migrate.rebuild import RebuildingExecutor
    from syncengine.migrate.repair import Repair
    from syncengine.migrate.rollback_undoing import Undoing


def give_back(executor: "RebuildingExecutor", undoing: "Undoing") -> int:
    """Put originals into the table, which has the older shape again; how many.

    A value counts as edited when it is none that the rules make of the original; then it stays as it is.
    """
    store, name, given = undoing.store, executor.collection, 0
    for rule_field in dict.fromkeys(rule.field for rule in executor.repairs):
        rules = [rule for rule in executor.repairs if rule.field == rule_field]
        for owner, row_key, original in store.rows(
            "rollback", "originals", collection=name, migration=undoing.step.id, field=rule_field
        ):
            given += _given_back(undoing, name, rule_field, (owner, row_key), original, rules)
        store.run("rollback", "forget_originals", collection=name, migration=undoing.step.id, field=rule_field)
    return given


def _given_back(
    undoing: "Undoing", name: str, column: str, place: tuple[str, str], original: Any, rules: "list[Repair]"
) -> bool:
    keys = key_columns(undoing.collection(name))
    where = " AND ".join(f"CAST({quoted(key)} AS TEXT) = ?" for key in keys)
    values = place[2 - len(keys) :]
    found = undoing.store.query(f"SELECT {quoted(column)} FROM {quoted(name)} WHERE {where}", values)
    if not found or found[0][0] not in _made_of(original, rules):
        return False
    undoing.store.query(f"UPDATE {quoted(name)} SET {quoted(column)} = ? WHERE {where}", (original, *values))
    return True


def _made_of(original: Any, rules: "list[Repair]") -> list[Any]:
    """What the rules, each once and in their order, can have made of a column's value."""
    made: list[Any] = []
    value = _parsed(original)
    for rule in rules:
        try:
            value = rule.function(value)
        except Exception:  # noqa: BLE001  (an author's function that raises has repaired nothing)
            return made
        made.append(encode_mapping({"": value})[""])
    return made


def _parsed(value: Any) -> Any:
    """JSON columns are seen parsed by the rules; a text that is no list or object is a text."""
    if not isinstance(value, str) or not value.startswith(("[", "{")):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
