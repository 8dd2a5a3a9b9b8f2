"""One step of an online migration: read a page of cloud rows, decide the changes, number them, go on."""

import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from syncengine.outbox.barrier_page import Barrier, Page
from syncengine.outbox.entry import Batch, Entry
from syncengine.sync.calls import Answer, Call, Rows, RowsSaid, SeenRow

if TYPE_CHECKING:
    from syncengine.migrate.online import CloudChange, CloudMigrationExecutor
    from syncengine.outbox.queue import Outbox
    from syncengine.outbox.settlement import Also

Barriers = Callable[[str], "CloudMigrationExecutor"]
"""The executor of a migration, by its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSetAside:
    """The author's code could not decide a page; the step lies in quarantine."""

    item_id: int
    code: str


def next_page(
    outbox: "Outbox", step: Entry, *, barriers: Barriers, token: str, also: "Also | None"
) -> Generator[Call, Answer, Batch | StepSetAside | None]:
    """The step's next page, numbered and ready to be sent; None when it held nothing to change.

    The changes are frozen with their own number before they are sent, so that a lost answer repeats them as they
    were. What the author's code raises puts the step into quarantine, with what it held back behind it.
    """
    barrier = Barrier.from_json(step.barrier_json or "")
    if barrier.reads is None:
        return outbox.freeze_page(step, _no_changes(barrier), token=token)
    rows_max = outbox.store.settings.batch_rows
    said = yield Rows(user=step.owner, collection=barrier.reads, after=barrier.cursor, rows_max=rows_max)
    assert isinstance(said, RowsSaid)
    try:
        page = _decide(barrier, said, barriers(step.migration or ""), bytes_max=outbox.store.settings.push_bytes_max)
    except Exception as error:  # noqa: BLE001 - an author's code may raise anything; a person will look at it
        message = f"{type(error).__name__} while deciding the changes of a page"
        code = "cloud_changes_failed"
        return StepSetAside(item_id=outbox.set_step_aside(step, code=code, message=message), code=code)
    if page.changes:
        return outbox.freeze_page(step, page, token=token)
    outbox.go_on(step, barrier.after_page(page, skipped=()), also=also)
    return None


def _no_changes(barrier: Barrier) -> Page:
    return Page(changes=(), collection_index=barrier.collection_index, cursor=barrier.cursor, until=None)


def _decide(barrier: Barrier, said: RowsSaid, executor: "CloudMigrationExecutor", *, bytes_max: int) -> Page:
    """The changes of as many of these rows as fit in one push. Pure."""
    rows = _rows_to_decide(barrier, said)
    wanted = rows if barrier.again is None else tuple(row for row in rows if row.key in barrier.again.keys)
    changes = _changes(barrier.reads or "", wanted, executor)
    while len(wanted) > 1 and len(json.dumps(changes)) > bytes_max:
        wanted = wanted[: len(wanted) // 2]
        rows = rows[: rows.index(wanted[-1]) + 1]
        changes = _changes(barrier.reads or "", wanted, executor)
    return _page(barrier, said, rows, changes)


def _rows_to_decide(barrier: Barrier, said: RowsSaid) -> tuple[SeenRow, ...]:
    """All rows of the page; when it is read again, only as far as it went the first time."""
    if barrier.again is None or barrier.again.until is None:
        return said.rows
    until = barrier.again.until
    return tuple(row for row in said.rows if _before_or_at(row.key, until))


def _before_or_at(key: str, until: str) -> bool:
    """Pages come in byte order of their keys."""
    return key.encode() <= until.encode()


def _page(barrier: Barrier, said: RowsSaid, rows: tuple[SeenRow, ...], changes: Sequence[dict[str, Any]]) -> Page:
    whole = len(rows) == len(said.rows)
    until = rows[-1].key if rows else barrier.cursor
    is_last = whole and said.after is None
    return Page(
        changes=tuple(changes),
        collection_index=barrier.collection_index + is_last,
        cursor=None if is_last else (said.after if whole else until),
        until=until,
    )


def _changes(collection: str, rows: tuple[SeenRow, ...], executor: "CloudMigrationExecutor") -> list[dict[str, Any]]:
    from syncengine.migrate.online import CloudRow

    versions = {(collection, row.key): row.version for row in rows}
    given = [
        CloudRow(
            collection=collection,
            key=row.key,
            version=row.version,
            body=row.body,
            shape_version=row.shape_version,
        )
        for row in rows
    ]
    return [_conditional(change, versions) for change in executor.cloud_changes(given)] if given else []


def _conditional(change: "CloudChange", versions: dict[tuple[str, str], int]) -> dict[str, Any]:
    """A row that was read changes only if it is still as read; a new one is made only if it never was.

    The latter keeps what another device has moved there already, and has perhaps edited since.
    """
    unseen = 0 if change.kind == "put" else None
    return {**asdict(change), "if_version": versions.get((change.collection, change.key), unseen)}
