"""Bugs that mix users up."""

from typing import Any

from simulator.mutants.surgery import QUIET, Mutant, Part, Surgery
from syncengine.outbox.capture import writing_uncaptured

TWO: dict[str, Any] = {"users": 2, "switches_users": True, **QUIET}


def reads_for_the_first_user(surgery: Surgery) -> None:
    """Rows that come from the cloud are given to whoever is the first here by name."""

    def for_the_first(made: Part) -> Part:
        def applier(self: Any, store: Any, registry: Any, *, owner: str) -> None:
            first = store.query("SELECT owner FROM _sync_drain ORDER BY owner LIMIT 1")
            made(self, store, registry, owner=first[0][0] if first else owner)

        return applier

    surgery.around("syncengine.sync.apply:Applier", "__init__", for_the_first)


def sends_for_whoever_is_there(surgery: Surgery) -> None:
    """What another user left behind goes out with the queue of the present one."""

    def of_anybody(claim: Part) -> Part:
        def claimed(self: Any, owner: str, **more: Any) -> Any:
            with self.store.transaction():
                self.store.query(
                    "UPDATE _sync_outbox SET owner = ? WHERE state = 'waiting' AND owner <> ?", (owner, owner)
                )
            return claim(self, owner, **more)

        return claimed

    surgery.around("syncengine.outbox.queue:Outbox", "claim", of_anybody)


def counts_for_all_users_together(surgery: Surgery) -> None:
    """Numbers of one device are given without a look at whose queue it is."""

    def shared(ensure: Part) -> Part:
        def numbered(store: Any, owner: str) -> Any:
            drain = ensure(store, owner)
            highest = int(store.query("SELECT max(next_sequence) FROM _sync_drain")[0][0])
            if highest > drain.next_sequence:
                store.query("UPDATE _sync_drain SET next_sequence = ? WHERE owner = ?", (highest, owner))
                drain = ensure(store, owner)
            return drain

        return numbered

    surgery.around("syncengine.outbox.claim", "ensure_drain", shared)


def keeps_a_copy_for_the_other_user(surgery: Surgery) -> None:
    """What comes from the cloud is put into the other user's rows, too, and said to nobody."""

    def twice(apply: Part) -> Part:
        def applied(self: Any, rows: Any, **more: Any) -> Any:
            told = apply(self, rows, **more)
            with self.store.transaction(), writing_uncaptured(self.store, ("marks",)):
                self.store.query(_FOR_THE_OTHER)
            return told

        return applied

    surgery.around("syncengine.sync.apply:Applier", "apply", twice)


_FOR_THE_OTHER = (
    "INSERT OR IGNORE INTO marks (user_id, id, word)"
    " SELECT CASE user_id WHEN 'ann' THEN 'ben' ELSE 'ann' END, id, word FROM marks"
)


MUTANTS = (
    Mutant(
        name="what comes from the cloud is kept for another user as well",
        put_in=keeps_a_copy_for_the_other_user,
        caught_by=("P11",),
        plan={**QUIET, "users": 2, "switches_users": False},
    ),
    Mutant(
        name="rows are given to another user",
        put_in=reads_for_the_first_user,
        caught_by=("P11", "P10"),
        plan=TWO,
    ),
    Mutant(
        name="the queue of one user is sent for another",
        put_in=sends_for_whoever_is_there,
        caught_by=("P11", "P10"),
        plan=TWO,
    ),
    Mutant(
        name="numbers are given without a look at whose queue it is",
        put_in=counts_for_all_users_together,
        caught_by=("P10", "P15", "P3"),
        plan=TWO,
    ),
)
