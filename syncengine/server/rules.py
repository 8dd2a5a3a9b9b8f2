"""What a change makes of a row: merge, keep beside, replace, refuse. Pure; the cloud runs no code of any app.

A row has one body in one shape. What is written under another shape lies beside it until a device that knows both
shapes lifts it.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple

import orjson

from syncengine.remote.wire import Document, EntryKind
from syncengine.server.judge import GONE, ROW_BYTES_MAX, ROW_TOO_LARGE, EntryRejected
from syncengine.vocabulary import SchemaVersion

Place = tuple[str, str]
"""Collection and key."""

Status = Literal["applied", "merged", "conflict"]


class Patch(NamedTuple):
    """One write beside a row; `patch` is the version that the row got with it, `body` its JSON."""

    patch: int
    kind: str
    shape_version: str
    body: str


class Row(NamedTuple):
    """One row at the cloud. `body` is JSON; None: a tombstone."""

    version: int
    shape_version: str
    body: str | None
    patches: tuple[Patch, ...]
    writer: str
    """Who changed it last: a device and its epoch."""
    stood_on: int
    """Its version before that writer's latest changes in a row; 0: there was none."""


class Change(NamedTuple):
    """One change of one row, whatever entry it came in."""

    kind: EntryKind
    set: Document | None
    shape_version: str
    base_version: int | None
    writer: str
    refuse: bool = False
    """Only on the row that the writer saw."""
    lifts: tuple[int, ...] = ()
    of_migration: bool = False
    """Its author knows both shapes, and has compared the versions: nothing is kept beside."""


class Judged(NamedTuple):
    """The row after a change (None: it stays as it is), and what to tell."""

    row: Row | None
    status: Status = "applied"
    skipped: bool = False
    overwrote: Document | None = None
    """What another had written since, where this change put something else: whoever made it records the conflict."""


class Case(NamedTuple):
    """A change before its row."""

    row: Row | None
    change: Change
    version: int
    """What the row gets if it changes."""
    stands: bool
    """Whether nobody else has changed the row since the version that the writer saw."""

    @property
    def lives(self) -> bool:
        return self.row is not None and self.row.body is not None


def new_row(body: Document | None, *, shape_version: str, version: int, writer: str) -> Row:
    """What a put makes where there neither is a row nor was one. Raises EntryRejected."""
    return Row(version, shape_version, _text(body), (), writer, 0)


def judged(row: Row | None, change: Change, *, version: int) -> Judged:
    """What `change` makes of `row`, which gets `version`. Raises EntryRejected."""
    case = Case(row, change, version, stands_on(row, change))
    if change.kind is EntryKind.LIFT:
        return _lifted(case)
    if change.refuse and _is_conflict(case):
        return Judged(None, "conflict")
    made = _RULES[change.kind](case)
    was_merged = case.lives and not case.stands and change.base_version is not None
    return Judged(made, "merged" if was_merged else "applied", overwrote=_overwritten(case))


def needs_body(row: Row | None, change: Change) -> bool:
    """Whether the rule reads what the row holds. A body that it does not read may be left on the disk."""
    if row is None or row.body is None or change.kind is EntryKind.LIFT:
        return False
    if change.kind is EntryKind.DELETE:
        return not stands_on(row, change)
    return change.kind is EntryKind.PATCH or not _replaces(row, change, stands=stands_on(row, change))


def stands_on(row: Row | None, change: Change) -> bool:
    """Whether nobody else has changed the row since the version that the writer saw.

    A device sends its next entries before it has heard what versions the last ones got: its own changes do not count.
    """
    if row is None or change.base_version == row.version:
        return True
    return row.writer == change.writer and row.stood_on <= (change.base_version or 0) < row.version


def is_older(shape: str, other: str) -> bool:
    """Whether the first shape version is lower."""
    return shape != other and _parsed(shape) < _parsed(other)


def same_shape(shape: str, other: str) -> bool:
    """Whether both name one version: "2" is "2.0.0"."""
    return shape == other or _parsed(shape) == _parsed(other)


def _is_conflict(case: Case) -> bool:
    """Who puts a row without having seen its tombstone has nothing to decide."""
    if case.row is None or (case.row.body is None and case.change.base_version is None):
        return False
    return not case.stands


def _put(case: Case) -> Row:
    row, change = case.row, case.change
    if row is None or row.body is None:
        return _written(case, body=_text(change.set))
    if _replaces(row, change, stands=case.stands):
        return _written(case, body=_text(change.set), patches=_not_shown(row, change))
    return _merged(case, row)


def _replaces(row: Row, change: Change, *, stands: bool) -> bool:
    """An older shape never replaces a newer one: it lacks fields that its writer cannot know of."""
    if change.kind is not EntryKind.PUT:
        return False
    return change.of_migration or (stands and not is_older(change.shape_version, row.shape_version))


def _not_shown(row: Row, change: Change) -> tuple[Patch, ...]:
    """Patches that the writer of a whole row cannot have read. A migration reads bodies only, so it keeps all."""
    if change.of_migration:
        return row.patches
    return tuple(each for each in row.patches if is_older(change.shape_version, each.shape_version))


def _patch(case: Case) -> Row:
    """Never brings a row back."""
    if case.row is None or case.row.body is None:
        raise EntryRejected(GONE)
    return _merged(case, case.row)


def _merged(case: Case, row: Row) -> Row:
    """Fields over the row's, or beside it where they are of another shape."""
    change = case.change
    if not change.of_migration and not same_shape(change.shape_version, row.shape_version):
        return _beside(case, row)
    shape = row.shape_version if is_older(change.shape_version, row.shape_version) else change.shape_version
    return _written(case, body=_over(row.body or "{}", change.set), patches=row.patches, shape=shape)


def _beside(case: Case, row: Row) -> Row:
    """The last write beside takes another one of its shape in, so that few lie there however long nobody lifts."""
    change = case.change
    patches, kind, body = row.patches, change.kind.value, _text(change.set)
    if patches and same_shape(patches[-1].shape_version, change.shape_version):
        body = _over(patches[-1].body, change.set)
        kind = EntryKind.PUT.value if EntryKind.PUT.value in (kind, patches[-1].kind) else kind
        patches = patches[:-1]
    patches = (*patches, Patch(case.version, kind, change.shape_version, body))
    if sum(len(each.body) for each in patches) > ROW_BYTES_MAX:
        raise EntryRejected(ROW_TOO_LARGE)
    return _written(case, body=row.body, patches=patches, shape=row.shape_version)


def _overwritten(case: Case) -> Document | None:
    """Values of others that the change takes the place of, unseen; of a delete the whole row."""
    row, change = case.row, case.change
    if row is None or row.body is None or change.of_migration:
        return None
    if not same_shape(change.shape_version, row.shape_version) and change.kind is not EntryKind.DELETE:
        return _overwritten_beside(case, row)
    if case.stands:
        return None
    if change.kind is EntryKind.DELETE:
        return _object(row.body)
    return _replaced(_object(row.body), change)


def _overwritten_beside(case: Case, row: Row) -> Document | None:
    """Whoever writes another shape than the document's cannot read what lies beside it, whatever version it saw."""
    change = case.change
    if _is_its_writers(case, row) or _replaces(row, change, stands=case.stands):
        return None
    last = row.patches[-1] if row.patches else None
    if last is None or not same_shape(last.shape_version, change.shape_version):
        return None
    return _replaced(_object(last.body), change)


def _is_its_writers(case: Case, row: Row) -> bool:
    """Whether the latest changes of the row are those of the writer itself."""
    return case.stands and row.writer == case.change.writer


def _replaced(had: Document, change: Change) -> Document | None:
    return {name: had[name] for name, new in (change.set or {}).items() if name in had and had[name] != new} or None


def _object(text: str) -> Document:
    document: Document = orjson.loads(text)
    return document


def _delete(case: Case) -> Row:
    return _written(case, body=None)


def _lifted(case: Case) -> Judged:
    """Compare and set: whoever comes second changes nothing, so any number of devices lift once."""
    row, change = case.row, case.change
    if row is None or not case.lives or row.version != change.base_version:
        return Judged(None, skipped=True)
    beside = {each.patch for each in row.patches}
    if not beside.issuperset(change.lifts) or is_older(change.shape_version, row.shape_version):
        return Judged(None, skipped=True)
    left = tuple(each for each in row.patches if each.patch not in change.lifts)
    return Judged(_written(case, body=_text(change.set), patches=left))


def _written(case: Case, *, body: str | None, patches: tuple[Patch, ...] = (), shape: str | None = None) -> Row:
    return Row(
        case.version,
        shape or case.change.shape_version,
        body,
        patches,
        case.change.writer,
        _stood_on(case),
    )


def _stood_on(case: Case) -> int:
    if case.row is None:
        return 0
    return case.row.stood_on if _is_its_writers(case, case.row) else case.row.version


def _text(body: Document | None) -> str:
    return _stored(orjson.dumps(body))


def _over(text: str, changed: Document | None) -> str:
    """The JSON of an object with other fields over its own."""
    return _stored(orjson.dumps({**orjson.loads(text), **(changed or {})}))


def _stored(raw: bytes) -> str:
    if len(raw) > ROW_BYTES_MAX:
        raise EntryRejected(ROW_TOO_LARGE)
    return raw.decode()


@lru_cache(maxsize=1_000)
def _parsed(shape: str) -> SchemaVersion:
    return SchemaVersion.parse(shape)


_RULES: dict[EntryKind, Callable[[Case], Row]] = {
    EntryKind.PUT: _put,
    EntryKind.PATCH: _patch,
    EntryKind.DELETE: _delete,
}
