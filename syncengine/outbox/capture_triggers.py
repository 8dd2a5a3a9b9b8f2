"""The text of the triggers that write every edit of a collection to the outbox; pure, from the table's columns.

Built-in SQL of SQLite 3.37 only, so that the `sqlite3` command line and any other program is captured, too. Values
are written as JSON that says exactly what the row holds:

- integers, text and NULL as they are;
- a REAL with as many digits as bring it back bit for bit (`_REAL` says where that cannot be);
- a number that is not finite as `{"$real": "inf"}` or `"-inf"`, which is like no other value and is never sent;
- a blob as `{"$hex": "<hex>"}`, all that SQLite 3.37 can do; `row_body` makes `{"$blob": "<base64>"}` of it.

`json_object` makes a body at once where it can: it takes at most 127 arguments (sqlite.org/limits.html) and no blobs,
and writes 15 digits of a REAL in older versions. Otherwise, and for what an update changed, bodies are joined from
pieces.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from syncengine.local.identifiers import quoted

PREFIX = "_sync_capture_"
TABLES_KEPT = 64
"""The triggers of the same few tables are made again and again."""

Expression = str
"""A piece of SQL that has a value."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that an edit is read from. `holds` are the types that its values may have; `finds_numbers`: one that
    is a number is equal to its text."""

    name: str
    holds: frozenset[str]
    finds_numbers: bool = False


ANYTHING = frozenset({"integer", "real", "text", "blob"})


def types_in(declared: str, *, strict: bool) -> frozenset[str]:
    """Which types a column of this declared type may hold, besides NULL.

    STRICT tables keep to it (sqlite.org/stricttables.html); elsewhere only TEXT affinity excludes something: numbers
    become text (sqlite.org/datatype3.html#determination_of_column_affinity).
    """
    kind = declared.upper()
    if strict:
        exact = {"INT": "integer", "INTEGER": "integer", "REAL": "real", "TEXT": "text", "BLOB": "blob"}
        return frozenset({exact[kind]}) if kind in exact else ANYTHING
    return frozenset({"text", "blob"}) if _has_text_affinity(kind) else ANYTHING


def finds_numbers(declared: str) -> bool:
    """Whether a number in such a column is equal to its text, which the column makes a number of."""
    kind = declared.upper()
    is_left_alone = kind in {"", "ANY"} or ("INT" not in kind and "BLOB" in kind)
    return not is_left_alone and not _has_text_affinity(kind)


def _has_text_affinity(kind: str) -> bool:
    return "INT" not in kind and any(word in kind for word in ("CHAR", "CLOB", "TEXT"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedTable:
    """What the triggers of one collection are made from."""

    name: str
    key: str
    owner: Column
    shape_version: str
    columns: tuple[Column, ...]
    """In the table's order, without the owner and what SQLite computes."""


def trigger_names(collection: str) -> tuple[str, ...]:
    """What the triggers of a collection are called."""
    return tuple(f"{PREFIX}{collection}_{event}" for event in ("insert", "update", "rekey", "delete"))


@lru_cache(maxsize=TABLES_KEPT)
def triggers_of(table: CapturedTable) -> Mapping[str, str]:
    """The CREATE TRIGGER statements by name.

    A row without owner or key is nobody's and is passed over. Where the key or the owner changes, the old row is
    deleted and the new one put; else an update writes what it changed, and one that changes nothing writes nothing.
    """
    insert, update, rekey, delete = trigger_names(table.name)
    stays = f"{_is_same(table.key)} AND {_is_same(table.owner.name)}"
    return {
        insert: _trigger(insert, table, "INSERT", _belongs(table, "NEW"), [_put(table)]),
        update: _trigger(
            update,
            table,
            "UPDATE",
            f"{_belongs(table, 'NEW')} AND {stays} AND {_any_changed(table)}",
            [_patch(table)],
        ),
        rekey: _trigger(
            rekey,
            table,
            "UPDATE",
            f"NOT ({stays})",
            [_delete(table, where=_belongs(table, "OLD")), _put(table, where=_belongs(table, "NEW"))],
        ),
        delete: _trigger(delete, table, "DELETE", _belongs(table, "OLD"), [_delete(table)]),
    }


def _trigger(name: str, table: CapturedTable, event: str, when: Expression, statements: list[str]) -> str:
    # Exactly as SQLite keeps it, so that it can be compared with what is there.
    body = " ".join(f"{statement};" for statement in statements)
    return f"CREATE TRIGGER {quoted(name)} AFTER {event} ON {quoted(table.name)} WHEN {when} BEGIN {body} END"


# What is written.


def _put(table: CapturedTable, *, where: Expression = "") -> str:
    return _entry(table, "put", "NEW", set_json=row_json(table, "NEW"), where=where)


def _delete(table: CapturedTable, *, where: Expression = "") -> str:
    return _entry(table, "delete", "OLD", before_json=row_json(table, "OLD"), where=where)


def _patch(table: CapturedTable) -> str:
    return _entry(table, "patch", "NEW", set_json=_changed(table, "NEW"), before_json=_changed(table, "OLD"))


def _entry(
    table: CapturedTable,
    kind: str,
    row: str,
    *,
    set_json: Expression = "NULL",
    before_json: Expression = "NULL",
    where: Expression = "",
) -> str:
    values = (
        _NUMBER,
        _as_text(row, table.owner),
        literal(kind),
        literal(table.name),
        key_text(table, row),
        set_json,
        before_json,
        literal(table.shape_version),
        _NOW,
        "1",
    )
    return (
        "INSERT INTO _sync_outbox (entry_id, owner, kind, collection, row_key, set_json, before_json, shape_version, "
        "created_ms, fresh) "
        + (f"SELECT {', '.join(values)} WHERE {where}" if where else f"VALUES ({', '.join(values)})")
    )


def _as_text(row: str, column: Column) -> Expression:
    value = f"{row}.{quoted(column.name)}"
    # The outbox makes a text of a number itself, and refuses a blob.
    return f"CAST({value} AS TEXT)" if "blob" in column.holds else value


def key_text(table: CapturedTable, row: str) -> Expression:
    """The text that names a row at the cloud. Of a key that no text finds, as a BLOB is, one that is never sent: else
    x'61' would be taken for 'a'."""
    column = next(column for column in table.columns if column.name == table.key)
    value = f"{row}.{quoted(column.name)}"
    if column.holds in ({"text"}, {"integer"}):
        return value
    nameless = f"char(26) || quote({value})"
    if column.holds == {"text", "blob"}:
        return f"CASE typeof({value}) WHEN 'blob' THEN {nameless} ELSE {value} END"
    text = f"CAST({value} AS TEXT)"
    comes_back = f"WHEN 'real' THEN CASE WHEN CAST({text} AS REAL) = {value} THEN {text} ELSE {nameless} END"
    numbers = f" WHEN 'integer' THEN {text} {comes_back}" if column.finds_numbers else ""
    return f"CASE typeof({value}) WHEN 'text' THEN {value}{numbers} ELSE {nameless} END"


_NEXT = (
    # As _sync_newest_entry says it; here without the view, which SQLite would look up for each edit.
    "max(ifnull((SELECT max(entry_id) FROM _sync_outbox), 0), ifnull((SELECT entry_id FROM _sync_last_entry), 0)) + 1"
)
_NUMBER = (
    # Behind an open entry SQLite gives the next itself: what leaves the outbox closes the newest that stays.
    f"CASE (SELECT fresh FROM _sync_outbox ORDER BY entry_id DESC LIMIT 1) WHEN 1 THEN NULL ELSE {_NEXT} END"
)
_NOW = "CAST(julianday() * 86400000 - 210866759999999.5 AS INTEGER)"
"""Milliseconds since 1970, which began with Julian day 2440587.5: other functions make a text first."""


def row_json(table: CapturedTable, row: str) -> Expression:
    """A whole row under this name, as an insert of it is queued."""
    joined = _row_joined(table, row)
    if len(table.columns) > OBJECT_COLUMNS_MAX or not all(column.holds in _OF_JSON for column in table.columns):
        return joined
    at_once = _row_at_once(table, row)
    reals = [f"{row}.{quoted(column.name)}" for column in table.columns if column.holds == {"real"}]
    if not reals:
        return at_once
    are_finite = _joined([f"{real} IS NOT 9e999 AND {real} IS NOT -9e999" for real in reals], " AND ")
    return f"CASE WHEN {_OBJECT_KEEPS_REALS} AND {are_finite} THEN {at_once} ELSE {joined} END"


def _row_at_once(table: CapturedTable, row: str) -> Expression:
    """For columns of one type each: one call takes half the time of the pieces."""
    pairs = [f"{literal(column.name)}, {_plain(f'{row}.{quoted(column.name)}', column)}" for column in table.columns]
    return f"json_object({', '.join(pairs)})"


def _plain(value: Expression, column: Column) -> Expression:
    return _TEXT_ALONE.format(value) if column.holds == {"text"} else value


def _row_joined(table: CapturedTable, row: str) -> Expression:
    pieces: list[Expression] = []
    for place, column in enumerate(table.columns):
        pieces.append(literal(("," if place else "{") + _json_name(column.name)))
        pieces.append(_json_value(f"{row}.{quoted(column.name)}", column.holds))
    return _joined([*pieces, "'}'"], " || ")


def _changed(table: CapturedTable, row: str) -> Expression:
    pieces = [
        f"CASE WHEN {_is_changed(column)} THEN {literal(',' + _json_name(column.name))} || "
        f"{_json_value(f'{row}.{quoted(column.name)}', column.holds)} ELSE '' END"
        for column in table.columns
        if column.name != table.key
    ]
    return f"'{{' || substr({_joined(pieces, ' || ')}, 2) || '}}'" if pieces else "'{}'"


# Values.

_REAL = (
    # quote() is the shortest that comes back, but exactly so only from 3.53 on. Before, 17 digits are not enough in
    # 3.40, and 19 are, except for numbers above 1e110 and below 1e-90 in 3.47 to 3.51: those write no form exactly.
    "CASE WHEN sqlite_version() >= '3.53' THEN quote({0}) ELSE printf('%!.19g', {0}) END"
)
_OBJECT_KEEPS_REALS = "sqlite_version() >= '3.54'"
"""Before, json_object() writes 15 digits of a REAL."""
OBJECT_COLUMNS_MAX = 63
"""A function takes 127 arguments in every version (sqlite.org/limits.html)."""
_OF_JSON = (frozenset({"integer"}), frozenset({"real"}), frozenset({"text"}))
_NOT_FINITE = 'WHEN {0} > 0 THEN \'{{"$real":"inf"}}\' ELSE \'{{"$real":"-inf"}}\' END'
_FINITE_OR_NOT = f"CASE WHEN abs({{0}}) < 9e999 THEN {_REAL} {_NOT_FINITE}"
_FINITE_NULL_OR_NOT = f"CASE WHEN abs({{0}}) < 9e999 THEN {_REAL} WHEN {{0}} IS NULL THEN 'null' {_NOT_FINITE}"
_TEXT_ALONE = (
    # What json() and its like have just made is marked as JSON in NEW (sqlite.org/json1.html#interface_overview), and
    # would be written as it is; || makes a text of it that is only a text.
    "{0} || ''"
)
_TEXT = f"json_quote({_TEXT_ALONE})"
_HEX = "'{{\"$hex\":\"' || hex({0}) || '\"}}'"


def _json_value(value: Expression, holds: frozenset[str]) -> Expression:
    """The JSON text of a value that has one of these types, or is NULL."""
    if holds == {"integer"}:
        return f"ifnull({value}, 'null')"
    if holds == {"real"}:
        return _FINITE_NULL_OR_NOT.format(value)
    if holds == {"blob"}:
        return f"CASE WHEN {value} IS NULL THEN 'null' ELSE {_HEX.format(value)} END"
    if holds == {"text"}:
        return _TEXT.format(value)
    real = f" WHEN 'real' THEN {_FINITE_OR_NOT.format(value)}" if "real" in holds else ""
    return (
        f"CASE typeof({value}) WHEN 'text' THEN {_TEXT.format(value)} WHEN 'blob' THEN {_HEX.format(value)}{real} "
        f"ELSE ifnull({value}, 'null') END"
    )


def _json_name(name: str) -> str:
    return json.dumps(name, ensure_ascii=False) + ":"


def literal(text: str) -> Expression:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


# Comparisons: by bytes, whatever the column's COLLATE.


def _belongs(table: CapturedTable, row: str) -> Expression:
    return f"{row}.{quoted(table.owner.name)} <> '' AND {row}.{quoted(table.key)} IS NOT NULL"


def _is_same(name: str) -> Expression:
    return f"OLD.{quoted(name)} IS NEW.{quoted(name)} COLLATE BINARY"


def _is_changed(column: Column) -> Expression:
    old, new = f"OLD.{quoted(column.name)}", f"NEW.{quoted(column.name)}"
    differs = f"{old} IS NOT {new} COLLATE BINARY"
    if {"integer", "real"} <= column.holds:
        # 1 is 1.0 in a comparison.
        return f"({differs} OR typeof({old}) <> typeof({new}))"
    return differs


def _any_changed(table: CapturedTable) -> Expression:
    return _joined([_is_changed(column) for column in table.columns if column.name != table.key] or ["0"], " OR ")


def _joined(pieces: Sequence[Expression], operator: str) -> Expression:
    """As a balanced tree: SQLite takes expressions of at most 1,000 levels, and tables of 2,000 columns."""
    if len(pieces) == 1:
        return pieces[0]
    middle = len(pieces) // 2
    return f"({_joined(pieces[:middle], operator)}{operator}{_joined(pieces[middle:], operator)})"
