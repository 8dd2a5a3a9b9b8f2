"""Bugs in the cloud that is shipped: receipts, rules, pages, tombstones, copies."""

from typing import Any

from simulator.mutants.surgery import BUSY, CROWDED, PLAIN, QUIET, RESTORED, STORMY, Mutant, Part, Surgery

CLOUD = "syncengine.server.cloud:Cloud"
CLOUD_MODULE = "syncengine.server.cloud"
RULES = "syncengine.server.rules"
QUESTIONS = "syncengine.server.row_questions:RowQuestions"
STORAGE = "syncengine.server.sqlite_storage:SqliteStorage"


def does_everything_again(surgery: Surgery) -> None:
    """What was answered before is not looked up."""

    from syncengine.server.cloud import Cloud

    fresh = Cloud._settled

    def repeated(self: Any, stored: Any, lane: Any, *, entries: Any, device_seq: int) -> Any:
        known = [entry for entry in entries if entry.sequence <= device_seq]
        return fresh(self, stored, lane, entries=known, values_are_good=False) if known else []

    surgery.replace(CLOUD, "_repeated", repeated)
    surgery.around(
        STORAGE,
        "write_receipts",
        lambda write: lambda self, lane, *, receipts: write(self, lane, receipts=_unknown(self, lane, receipts)),
    )


def _unknown(storage: Any, lane: Any, receipts: Any) -> list[Any]:
    highest = storage.device_sequence(lane)
    return [receipt for receipt in receipts if receipt.sequence > highest]


def says_yes_and_does_nothing(surgery: Surgery) -> None:
    """The last row of a push is not written."""

    def fewer(write: Part) -> Part:
        def written(self: Any, user: Any, *, rows: Any, group_versions: Any) -> None:
            left = dict(list(group_versions.items())[:-1])
            write(self, user, rows=rows, group_versions=left)

        return written

    surgery.around(STORAGE, "write_rows", fewer)


def forgets_deletions_at_once(surgery: Surgery) -> None:
    """No tombstone: who was away does not hear of it."""
    surgery.around(
        STORAGE,
        "changes_after",
        lambda changes: (
            lambda self, user, **more: (row for row in changes(self, user, **more) if row.body is not None)
        ),
    )


def leaves_out_the_end_of_a_page(surgery: Surgery) -> None:
    """Where a page is full, its cursor is behind the row that found no room."""

    def short(read: Part) -> Part:
        def changes(storage: Any, user: Any, *, after: Any, head: int, **more: Any) -> Any:
            page = read(storage, user, after=after, head=head, **more)
            if not page.more:
                return page
            group, version = page.last
            from dataclasses import replace

            return replace(page, last=(group + 1, version + 1))

        return changes

    surgery.around(CLOUD_MODULE, "read_changes", short)


def tells_rows_of_others(surgery: Surgery) -> None:
    def of_anybody(changes: Part) -> Part:
        def found(self: Any, user: Any, **more: Any) -> Any:
            others = sorted(other for (other,) in self._ask("tenants") if other != user)
            for other in (user, *others):
                yield from changes(self, other, **more)

        return found

    surgery.around(STORAGE, "changes_after", of_anybody)


def leaves_the_floor_where_it_was(surgery: Surgery) -> None:
    """Tombstones go, and whoever has not read of them reads on."""
    surgery.around(
        CLOUD_MODULE,
        "standing",
        lambda standing: (
            lambda position, *, epoch, head, floor, mark: standing(
                position, epoch=epoch, head=head, floor=0, mark=position.mark if position else mark
            )
        ),
    )


def does_not_know_that_it_was_restored(surgery: Surgery) -> None:
    """Neither marks nor confirmed numbers are compared."""
    from syncengine.server.cursor import Standing

    surgery.replace(CLOUD_MODULE, "standing", lambda position, **more: Standing.GOOD)
    surgery.replace(CLOUD_MODULE, "_use_up", lambda stored, lane: None)
    surgery.replace(QUESTIONS, "raise_epoch", lambda self, user, **_: None)


def takes_all_shapes_for_one(surgery: Surgery) -> None:
    surgery.replace(RULES, "same_shape", lambda shape, other: True)


def brings_deleted_rows_back(surgery: Surgery) -> None:
    def patched(case: Any) -> Any:
        from syncengine.server import rules

        if case.row is None or case.row.body is None:
            return rules._written(case, body=rules._text(case.change.set))
        return rules._merged(case, case.row)

    from syncengine.remote.wire import EntryKind
    from syncengine.server import rules

    surgery.replace(RULES, "_RULES", {**rules._RULES, EntryKind.PATCH: patched})


def lifts_without_looking(surgery: Surgery) -> None:
    """Whoever lifts last wins over what was written meanwhile."""

    def lifted(case: Any) -> Any:
        from syncengine.server import rules

        if not case.lives:
            return rules.Judged(None, skipped=True)
        left = tuple(each for each in case.row.patches if each.patch not in case.change.lifts)
        return rules.Judged(rules._written(case, body=rules._text(case.change.set), patches=left))

    surgery.replace(RULES, "_lifted", lifted)


def takes_a_copy_for_the_same_device(surgery: Surgery) -> None:
    """Only numbers are compared, not the tokens beside them: the second copy's entries count as done."""
    surgery.around(
        CLOUD_MODULE,
        "_told_again",
        lambda told: lambda entry, receipt: ("duplicate", receipt) if receipt else told(entry, receipt),
    )


def counts_one_too_many(surgery: Surgery) -> None:
    """hello says one number more than it has."""

    surgery.around(
        CLOUD,
        "hello",
        lambda hello: lambda self, user, request: _one_more(hello(self, user, request)),
    )


def _one_more(answer: Any) -> Any:
    return answer.model_copy(update={"device_seq": answer.device_seq + 1})


UPGRADES: dict[str, Any] = {"upgrades": True, "all_upgrade_at_end": True, **QUIET}


def refuses_deletions_for_want_of_room(surgery: Surgery) -> None:
    def refuse(refuse_over_quota: Part) -> Part:
        def refused(tenant: Any, *, rows_more: int, **limits: Any) -> None:
            refuse_over_quota(tenant, rows_more=max(rows_more, 1), **limits)

        return refused

    surgery.around(CLOUD_MODULE, "refuse_over_quota", refuse)


def counts_rows_that_are_deleted_for_ever(surgery: Surgery) -> None:
    def write(write_tenant: Part) -> Part:
        return lambda self, user, *, rows_more, **more: write_tenant(self, user, rows_more=max(rows_more, 0), **more)

    surgery.around(QUESTIONS, "write_tenant", write)


def takes_every_request(surgery: Surgery) -> None:
    surgery.replace("syncengine.server.pace:Pace", "wait_s", lambda self, user: 0)


def never_fills_a_bucket_again(surgery: Surgery) -> None:
    surgery.replace("syncengine.server.pace", "_MINUTE_MS", 1e12)


MUTANTS = (
    Mutant(name="what came before is done again", put_in=does_everything_again, caught_by=("P3",), plan=STORMY),
    Mutant(
        name="the cloud confirms what it did not write",
        put_in=says_yes_and_does_nothing,
        caught_by=("P10", "P2"),
        plan=QUIET,
    ),
    Mutant(name="a deletion leaves no trace", put_in=forgets_deletions_at_once, caught_by=("P10",), plan=QUIET),
    Mutant(
        name="a row between two pages is left out",
        put_in=leaves_out_the_end_of_a_page,
        caught_by=("P10",),
        plan={"batch_entries": 1, **QUIET},
    ),
    Mutant(
        name="rows of one user are told to another",
        put_in=tells_rows_of_others,
        caught_by=("P11", "P10"),
        plan={"users": 2, **QUIET},
    ),
    Mutant(
        name="the floor stays when tombstones go",
        put_in=leaves_the_floor_where_it_was,
        caught_by=("P10",),
        plan={"forgets_tombstones": True, "partitions": True, "edits_per_device": 14, **QUIET},
    ),
    Mutant(
        name="a restored cloud goes on as if nothing had been",
        put_in=does_not_know_that_it_was_restored,
        caught_by=("P10", "P2", "P14", "P15"),
        plan=RESTORED,
    ),
    Mutant(
        name="all shapes are one to the cloud",
        put_in=takes_all_shapes_for_one,
        caught_by=("P2", "P10", "P15"),
        plan=UPGRADES,
    ),
    Mutant(
        name="a part of a row brings it back",
        put_in=brings_deleted_rows_back,
        caught_by=("P2", "P10", "P15"),
        plan={"edits_per_device": 14, **QUIET},
    ),
    Mutant(
        name="a lift overwrites what came meanwhile",
        put_in=lifts_without_looking,
        caught_by=("P10", "P2"),
        plan={**UPGRADES, "devices": 4, "edits_per_device": 14},
    ),
    Mutant(
        name="two copies of a store pass for one device",
        put_in=takes_a_copy_for_the_same_device,
        caught_by=("P3", "P2", "P14", "P10"),
        plan={**PLAIN, "power_share": 0.0, "clones": True, "restores_cloud": False},
    ),
    Mutant(
        name="hello counts one too many",
        put_in=counts_one_too_many,
        caught_by=("P3", "P10", "P15"),
        plan=STORMY,
    ),
    Mutant(
        name="a deletion is refused for want of room",
        put_in=refuses_deletions_for_want_of_room,
        caught_by=("P3", "P10"),
        plan=CROWDED,
    ),
    Mutant(
        name="rows that are deleted count for ever",
        put_in=counts_rows_that_are_deleted_for_ever,
        caught_by=("P3",),
        plan=CROWDED,
    ),
    Mutant(
        name="every request is taken",
        put_in=takes_every_request,
        caught_by=("P3",),
        plan=BUSY,
    ),
    Mutant(
        name="who has asked too often may never ask again",
        put_in=never_fills_a_bucket_again,
        caught_by=("P3",),
        plan=BUSY,
    ),
)
