"""What people do with a device: which rows they write, and how. Every value that they write is a word of its own."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from simulator.world.app import Shape
from simulator.world.words import word

if TYPE_CHECKING:
    from simulator.world.device import Device

SHARED_KEYS = 4
"""Keys that every device may give to a note of its own."""
SHARED_SHARE = 0.2
MOVED_SHARE = 0.4
"""So many changes of a row that refers to another one let it refer to a third."""
HABITS = (("make", 5), ("change", 8), ("change_many", 2), ("group", 2), ("delete", 2), ("make_again", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of one row, by its columns."""

    kind: str
    collection: str
    key: str
    number: int
    values: dict[str, Any]
    words: tuple[str, ...] = ()
    replaces: bool = False
    """A new row in the place of one of the same key."""
    by_itself: bool = False
    """The database does it, as a foreign key says, because of a change before it."""


def sql_of(change: Change, *, user: str) -> tuple[str, tuple[Any, ...]]:
    """The statement that a person's app would run."""
    names = list(change.values)
    match change.kind:
        case "put":
            columns, marks = ", ".join(("user_id", "id", *names)), ", ".join("?" * (len(names) + 2))
            sql = f"INSERT OR REPLACE INTO {change.collection} ({columns}) VALUES ({marks})"
            return sql, (user, change.key, *change.values.values())
        case "patch":
            changed = ", ".join(f"{name} = ?" for name in names)
            sql = f"UPDATE {change.collection} SET {changed} WHERE user_id = ? AND id = ?"
            return sql, (*change.values.values(), user, change.key)
        case _:
            return f"DELETE FROM {change.collection} WHERE user_id = ? AND id = ?", (user, change.key)


class People:
    """Whoever uses one device."""

    def __init__(self, device: "Device", chance: random.Random, *, few_keys: bool = False) -> None:
        self._device = device
        self._few_keys = few_keys
        self._chance = chance

    def next_changes(self) -> list[Change]:
        """What is written in the next local transaction; nothing where there is no row to change."""
        habits, weights = zip(*HABITS, strict=True)
        habit = self._chance.choices(habits, weights=weights)[0]
        name = self._collection()
        keys = self._device.keys(name)
        if not self._device.app.shapes[name].is_made:
            return [self.changed_row(name, self._chance.choice(keys))] if keys else []
        match habit:
            case "make":
                return self._made(name, self._new_key())
            case "group":
                number = self._chance.randint(1, 4)
                return [*self._made(name, self._new_key()), *(self._new_mark() for _ in range(number))]
            case "delete" | "change_many" if keys and self._device.app.shapes[name].takes_along:
                return self._deleted(name, self._chance.choice(keys))
            case "change" if keys:
                return [self.changed_row(name, self._chance.choice(keys))]
            case "change_many" if keys:
                chosen = self._chance.sample(keys, min(len(keys), 3))
                return [self.changed_row(name, key) for key in chosen]
            case "delete" if keys:
                return self._deleted(name, self._chance.choice(keys))
            case "make_again" if keys:
                key = self._chance.choice(keys)
                deleted = self._deleted(name, key)
                return [*deleted, self.new_row(name, key)] if deleted else []
        return []

    def changes_going_on(self) -> list[Change]:
        """A new row, and a change of one that is there, when all is well again."""
        name = self._device.app.written[0]
        keys = self._device.keys(name)
        new = self.new_row(name, f"new-{self._device.name}")
        return [new, self.changed_row(name, keys[0])] if keys else [new]

    def _collection(self) -> str:
        written = self._device.app.written
        return written[0] if len(written) == 1 else self._chance.choice(written)

    def _made(self, name: str, key: str) -> list[Change]:
        """A new row, or another one in the place of what has this key; then what went with that."""
        new, replaces = self.new_row(name, key), key in self._device.keys(name)
        return [replace(new, replaces=replaces), *self._gone_with(name, key)]

    def new_row(self, name: str, key: str) -> Change:
        shape = self._device.app.shapes[name]
        change = self._written("put", name, key, shape.columns[self._device.version])
        also = shape.also(self._device.version, key)
        return replace(change, values={**change.values, **also, **(self._parent(shape) if shape.parent else {})})

    def _parent(self, shape: Shape) -> dict[str, Any]:
        """One of those that there are; now and then none."""
        parents = self._device.keys(shape.parent)
        return {"up": self._chance.choice([*parents, *parents, None])}

    def changed_row(self, name: str, key: str) -> Change:
        shape = self._device.app.shapes[name]
        fields = shape.columns[self._device.version]
        chosen = self._chance.sample(fields, min(self._chance.randint(1, 2), len(fields)))
        change = self._written("patch", name, key, sorted(chosen))
        if shape.parent and self._chance.random() < MOVED_SHARE:
            return replace(change, values={**change.values, **self._parent(shape)})
        return change

    def _new_mark(self) -> Change:
        marks = self._device.app.marks
        fields = self._device.app.shapes[marks].columns[self._device.version]
        return self._written("put", marks, f"m-{self._device.name}-{self._next_number()}", fields)

    def _deleted(self, name: str, key: str) -> list[Change]:
        """The row, and what goes with it; nothing where rows here do not let it go."""
        if any(self._device.children(child, key) for child in self._device.app.shapes[name].stays_for):
            return []
        return [self._without(name, key), *self._gone_with(name, key)]

    def _gone_with(self, name: str, key: str) -> list[Change]:
        along = self._device.app.shapes[name].takes_along
        gone = [(child, each) for child in sorted(along) for each in self._device.children(child, key)]
        return [replace(self._without(child, each), by_itself=True) for child, each in gone]

    def _without(self, name: str, key: str) -> Change:
        return Change(kind="delete", collection=name, key=key, number=self._next_number(), values={})

    def _new_key(self) -> str:
        if self._chance.random() < (1.0 if self._few_keys else SHARED_SHARE):
            shared = f"shared-{self._chance.randrange(SHARED_KEYS)}"
            return f"{self._device.user}-{shared}" if self._device.app.keys_name_users else shared
        return f"n-{self._device.name}-{self._device.edits_made}"

    def _next_number(self) -> int:
        self._device.edits_made += 1
        return self._device.edits_made

    def _written(self, kind: str, collection: str, key: str, columns: Sequence[str]) -> Change:
        number = self._next_number()
        shape = self._device.app.shapes[collection]
        values, words = {}, []
        for name in columns:
            parts = [word(self._device.user, self._device.name, number, part) for part in shape.fields_of(name)]
            values[name] = shape.value(name, parts)
            words += parts
        return Change(kind=kind, collection=collection, key=key, number=number, values=values, words=tuple(words))
