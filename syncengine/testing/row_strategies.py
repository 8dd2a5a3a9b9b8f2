"""Hypothesis strategies for rows, drawn from the pydantic models that migrations carry."""

import types
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue, ValidationError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Row = TypeVar("Row", bound=BaseModel)

JSON_INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
"""What every JSON reader keeps exactly (RFC 8259, section 6)."""
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
# A lone surrogate has no UTF-8; of strings with NULs "the result of expressions … is undefined"
# (sqlite.org/c3ref/bind_blob.html).
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.text(LETTERS, max_size=40)
_JSON = st.recursive(
    st.none() | st.booleans() | JSON_INTEGERS | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
_LETTERS_MAX = 40
_ITEMS_MAX = 5
"""Of a text, or of a list or dict, without a bound of its own."""


def row_strategy(model: type[Row], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Row]:
    """Any row of the model: every type and bound of its fields is kept, and its validators are asked.

    Values can be stored: no NaN, no infinity, no lone surrogate, no NUL, integers of 64 bits (of 53 inside JSON).
    `fields` gives strategies of your own for some fields, where rows that mean something matter more than any rows:
    `row_strategy(JourneyV2, duration=st.floats(0, 1e6))`. Raises TypeError for a name that is no field.
    """
    unknown = sorted(set(fields) - set(model.model_fields))
    if unknown:
        raise TypeError(f"{model.__name__} has no field {', '.join(unknown)}")
    made = {name: fields.get(name, _of_field(field, inside_json=False)) for name, field in model.model_fields.items()}
    rows = st.fixed_dictionaries(made).map(lambda values: _made(model, values))
    return rows.filter(lambda row: row is not None).map(_there)


def drawn(rows: st.SearchStrategy[Row], *, count: int, seed_number: int = 1) -> list[Row]:
    """`count` rows of a strategy, the same ones for the same seed."""
    found: list[Row] = []

    @seed(seed_number)
    @settings(
        max_examples=count * 2,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(rows)
    def draw(row: Row) -> None:
        found.append(row)

    draw()
    # The first ones that Hypothesis tries are its simplest: from further in they are more alike to life.
    return found[-count:]


def _made(model: type[Row], values: Mapping[str, Any]) -> Row | None:
    named = {_input_name(model.model_fields[name], name): value for name, value in values.items()}
    try:
        return model.model_validate(named)
    except ValidationError:
        return None


def _there(row: Row | None) -> Row:
    assert row is not None
    return row


def _input_name(field: "FieldInfo", name: str) -> str:
    alias = field.validation_alias or field.alias
    return alias if isinstance(alias, str) else name


def _of_field(field: "FieldInfo", *, inside_json: bool) -> st.SearchStrategy[Any]:
    return _bounded(field.annotation, field.metadata, inside_json=inside_json)


def _of_type(hint: Any, *, inside_json: bool) -> st.SearchStrategy[Any]:
    return _bounded(hint, (), inside_json=inside_json)


def _bounded(hint: Any, metadata: Iterable[Any], *, inside_json: bool) -> st.SearchStrategy[Any]:
    """A type with its `Annotated` bounds."""
    limits = _Limits(metadata)
    if hint is JsonValue or hint is Any:
        return _JSON
    if hasattr(hint, "__value__"):  # an alias made by `type`
        return _bounded(hint.__value__, metadata, inside_json=inside_json)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _bounded(parts[0], [*parts[1:], *metadata], inside_json=inside_json)
    if origin in (Union, types.UnionType):
        return st.one_of([_bounded(part, metadata, inside_json=inside_json) for part in parts])
    if origin is Literal:
        return st.sampled_from(parts)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        made = {name: _of_field(field, inside_json=True) for name, field in hint.model_fields.items()}
        return st.fixed_dictionaries(made).map(lambda values: _made(hint, values)).filter(lambda row: row is not None)
    if origin is not None or hint in (list, dict, set, frozenset, tuple):
        return _container(origin or hint, parts, limits)
    return _scalar(hint, limits, inside_json=inside_json)


class _Limits:
    """The bounds of `Annotated` and `Field`, whichever way they were written."""

    def __init__(self, metadata: Iterable[Any]) -> None:
        self.at_least: Any = None
        self.at_most: Any = None
        self.above: Any = None
        self.below: Any = None
        self.multiple_of: Any = None
        self.size_min = 0
        self.size_max: int | None = None
        self.pattern: str | None = None
        for one in metadata:
            self._take(one)

    def up_to(self, usual: int) -> int:
        """The largest size to draw."""
        return self.size_min + usual if self.size_max is None else self.size_max

    def _take(self, one: Any) -> None:
        for mine, theirs in _SPELLINGS:
            said = getattr(one, theirs, None)
            if said is not None:
                setattr(self, mine, said)


_SPELLINGS = (
    ("at_least", "ge"),
    ("at_most", "le"),
    ("above", "gt"),
    ("below", "lt"),
    ("multiple_of", "multiple_of"),
    ("size_min", "min_length"),
    ("size_max", "max_length"),
    ("pattern", "pattern"),
)


def _scalar(hint: Any, limits: _Limits, *, inside_json: bool) -> st.SearchStrategy[Any]:
    if hint is None or hint is types.NoneType:
        return st.none()
    if hint is bool:
        return st.booleans()
    if hint is int:
        return _integers(limits, inside_json=inside_json)
    if hint is float:
        return _floats(limits)
    if hint is str:
        if limits.pattern is not None:
            return st.from_regex(limits.pattern, fullmatch=True, alphabet=LETTERS)
        return st.text(LETTERS, min_size=limits.size_min, max_size=limits.up_to(_LETTERS_MAX))
    if hint is bytes:
        return st.binary(min_size=limits.size_min, max_size=limits.up_to(_LETTERS_MAX))
    return st.from_type(hint)


def _integers(limits: _Limits, *, inside_json: bool) -> st.SearchStrategy[int]:
    furthest = 2**53 - 1 if inside_json else 2**63 - 1
    low = limits.at_least if limits.at_least is not None else -furthest
    high = limits.at_most if limits.at_most is not None else furthest
    low = low if limits.above is None else max(low, limits.above + 1)
    high = high if limits.below is None else min(high, limits.below - 1)
    step = limits.multiple_of
    if step:
        return st.integers(-(-low // step), high // step).map(lambda number: number * step)
    return st.integers(int(low), int(high))


def _floats(limits: _Limits) -> st.SearchStrategy[float]:
    low = limits.above if limits.above is not None else limits.at_least
    high = limits.below if limits.below is not None else limits.at_most
    return st.floats(
        None if low is None else float(low),
        None if high is None else float(high),
        allow_nan=False,
        allow_infinity=False,
        exclude_min=limits.above is not None,
        exclude_max=limits.below is not None,
    )


def _container(kind: Any, parts: tuple[Any, ...], limits: _Limits) -> st.SearchStrategy[Any]:
    """Lists, sets, tuples and dicts; in a row they are JSON."""
    low, high = limits.size_min, limits.up_to(_ITEMS_MAX)
    if kind is tuple and parts[-1:] != (...,):
        return st.tuples(*[_of_type(part, inside_json=True) for part in parts])
    if isinstance(kind, type) and issubclass(kind, Mapping):
        keys, values = (_of_type(part, inside_json=True) for part in parts or (str, Any))
        return st.dictionaries(keys, values, min_size=low, max_size=high)
    items = _of_type(parts[0] if parts else Any, inside_json=True)
    if kind in (set, frozenset):
        found = st.sets(items, min_size=low, max_size=high)
        return found.map(kind)
    listed = st.lists(items, min_size=low, max_size=high)
    return listed.map(tuple) if kind is tuple else listed
