"""What every backend promises, as tests. Subclass it and give a fixture `cloud` with sign_in() and backend()."""

from collections.abc import Callable
from typing import Protocol

import pytest

from syncengine.errors import AuthRequired, BackendUnreachable, CursorGone, SequenceGap
from syncengine.remote.backend import Backend
from syncengine.remote.json_text import INTEGER_MAX
from syncengine.remote.wire import Action, PullItem, PushAnswer, PushEntry, RowChange
from syncengine.server.cursor import Position, written_cursor
from syncengine.vocabulary import UserId
from tests.conformance.device_requests import (
    change,
    changes,
    delete,
    hello,
    lift,
    migration,
    patch,
    pull,
    push,
    put,
    rows,
    void,
)

SignIn = Callable[[str], Backend]
MakeEntry = Callable[..., PushEntry]

CursorOf = Callable[[int], str]
"""A cursor of ann's that a database gave which is not there any more, in a life of this number."""

LAPTOP = "laptop"
OLD, NEW = "1.0.0", "2.0.0"


class Operator(Protocol):
    """What may happen to a cloud behind its back, for all users at once."""

    def take_copy(self) -> None: ...

    def bring_copy_back(self) -> None:
        """The database is again as it was when the copy was taken."""

    def forget_deleted(self) -> None:
        """Tombstones go, however young."""


def statuses(answer: PushAnswer) -> list[str]:
    return [result.status for result in answer.results]


def bodies(backend: Backend, *, user: str = "ann") -> dict[str, dict]:
    return {row.key: row.body for row in backend.rows(rows(user=user, limit=1000)).rows}


def beside(item: PullItem) -> list[tuple[int, str, dict, str]]:
    return [(each.patch, each.kind.value, each.set, each.shape_version) for each in item.patches]


class BackendSuite:
    """Inherited by one class; its fixture `sign_in` gives a Backend for a user's name that is new to the cloud.

    `stranger` is a Backend whose token nobody knows, `operator` the one of this cloud, which keeps `windowed-app`
    of a schema below 2.0.0 from reading.
    """

    @pytest.fixture
    def cursor_of_another_cloud(self) -> CursorOf:
        """As all clouds write it but those that have their own form."""
        return lambda life: written_cursor(
            Position(epoch=life, group_version=9, version=9, mark=5), user=UserId("ann"), key=b"of another database"
        )

    def test_a_new_device_starts_at_sequence_zero(self, sign_in: SignIn) -> None:
        answer = sign_in("ann").hello(hello())
        assert (answer.device_seq, answer.cloud_version, answer.action) == (0, None, Action.OK)
        assert answer.limits.entries_max > 0

    def test_each_entry_takes_effect_in_order_and_gets_a_growing_version(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        answer = ann.push(push(put(1, "a", {"x": 1}), patch(2, "a", {"y": 2}), put(3, "b", {"z": 3})))
        assert statuses(answer) == ["applied"] * 3
        assert [result.version for result in answer.results] == [1, 2, 3]
        assert answer.device_seq == 3
        assert bodies(ann) == {"a": {"x": 1, "y": 2}, "b": {"z": 3}}

    def test_a_devices_own_next_put_replaces_the_whole_row(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 1}), put(2, "a", {"y": 2})))
        assert bodies(ann) == {"a": {"y": 2}}

    def test_sending_again_after_a_lost_answer_changes_nothing_and_repeats_the_outcomes(
        self, sign_in: SignIn
    ) -> None:
        ann = sign_in("ann")
        entries = (put(1, "a", {"n": 1}), patch(2, "gone", {"n": 2}), put(3, "a", {"n": 3}))
        first = ann.push(push(*entries))
        ann.push(push(put(4, "a", {"n": 4})))
        again = ann.push(push(*entries))
        assert statuses(first) == ["applied", "rejected", "applied"]
        assert statuses(again) == ["duplicate"] * 3
        assert [result.outcome for result in again.results] == ["applied", "rejected", "applied"]
        assert [(r.version, r.code) for r in again.results] == [(r.version, r.code) for r in first.results]
        assert again.device_seq == 4
        assert bodies(ann) == {"a": {"n": 4}}

    def test_a_push_may_begin_with_known_sequences_and_go_on_with_new_ones(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"n": 1})))
        answer = ann.push(push(put(1, "a", {"n": "another body"}), put(2, "b", {"n": 2})))
        assert statuses(answer) == ["duplicate", "applied"]
        assert bodies(ann) == {"a": {"n": 1}, "b": {"n": 2}}

    @pytest.mark.parametrize("sequences", [(2,), (1, 3), (1, 1), (2, 1)])
    def test_a_gap_is_refused_whole_with_the_sequence_expected(
        self, sign_in: SignIn, sequences: tuple[int, ...]
    ) -> None:
        ann = sign_in("ann")
        with pytest.raises(SequenceGap) as refused:
            ann.push(push(*(put(sequence, "a", {}) for sequence in sequences)))
        assert refused.value.expected == (1 if sequences[0] == 2 else 2)
        assert ann.hello(hello()).device_seq == 0
        assert bodies(ann) == {}

    def test_a_rejected_member_rejects_its_group_and_no_other(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        answer = ann.push(
            push(
                put(1, "before", {}, group=1),
                put(2, "a", {}, group=2),
                patch(3, "missing", {}, group=2),
                put(4, "b", {}, group=2),
                put(5, "after", {}, group=3),
            )
        )
        assert statuses(answer) == ["applied", "rejected", "rejected", "rejected", "applied"]
        assert [r.code for r in answer.results] == [None, "group_rejected", "gone", "group_rejected", None]
        assert set(bodies(ann)) == {"before", "after"}
        assert answer.device_seq == 5

    def test_a_rejected_entry_uses_up_its_sequence(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(patch(1, "missing", {})))
        assert ann.hello(hello()).device_seq == 1
        assert statuses(ann.push(push(put(2, "a", {})))) == ["applied"]

    def test_a_void_entry_uses_up_its_sequence_and_changes_nothing(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        answer = ann.push(push(void(1), put(2, "a", {})))
        assert statuses(answer) == ["applied", "applied"]
        assert (answer.results[0].version, answer.results[1].version) == (None, 1)

    def test_a_deleted_row_is_not_listed_cannot_be_patched_and_can_be_put_again(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        answer = ann.push(push(put(1, "a", {"n": 1}), delete(2, "a"), patch(3, "a", {"n": 3})))
        assert statuses(answer) == ["applied", "applied", "rejected"]
        assert answer.results[2].code == "gone"
        assert bodies(ann) == {}
        ann.push(push(put(4, "a", {"n": 4})))
        assert bodies(ann) == {"a": {"n": 4}}

    def test_a_migration_changes_only_rows_that_are_still_at_the_version_it_saw(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "old", {"m": 1}), put(2, "moved", {"m": 2}), put(3, "moved", {"m": 3})))
        answer = ann.push(
            push(
                migration(
                    4,
                    change("put", "old", {"s": 60}, if_version=1),
                    change("put", "moved", {"s": 120}, if_version=2),
                    change("delete", "never", if_version=7),
                    change("put", "new", {"s": 0}, if_version=0),
                )
            )
        )
        assert statuses(answer) == ["applied"]
        assert answer.results[0].skipped == ("moved", "never")
        assert bodies(ann) == {"old": {"s": 60}, "moved": {"m": 3}, "new": {"s": 0}}

    def test_a_migration_with_one_impossible_change_changes_nothing(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        answer = ann.push(
            push(migration(1, change("put", "a", {}), change("patch", "missing", {}), cloud_version="2.0.0"))
        )
        assert (answer.results[0].status, answer.results[0].code) == ("rejected", "gone")
        assert bodies(ann) == {}
        assert ann.hello(hello()).cloud_version is None

    def test_the_cloud_version_is_shared_by_the_users_devices_and_never_lowered(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(migration(1, cloud_version="10.0.0"), migration(2, cloud_version="9.0.0")))
        assert ann.hello(hello(device="laptop")).cloud_version == "10.0.0"

    def test_two_users_with_the_same_device_id_and_keys_never_meet(self, sign_in: SignIn) -> None:
        ann, bob = sign_in("ann"), sign_in("bob")
        ann.push(push(put(1, "a", {"canary": "only ann"}), migration(2, cloud_version="3.0.0")))
        answer = bob.hello(hello(user="bob"))
        assert (answer.device_seq, answer.cloud_version) == (0, None)
        assert bodies(bob, user="bob") == {}
        entries = (put(1, "a", {"of": "bob"}), patch(2, "a", {"n": 1}))
        assert statuses(bob.push(push(*entries, user="bob"))) == ["applied"] * 2
        assert bodies(ann) == {"a": {"canary": "only ann"}}
        assert bodies(bob, user="bob") == {"a": {"of": "bob", "n": 1}}

    def test_a_token_of_one_user_carries_nothing_of_another_users_queue(self, sign_in: SignIn) -> None:
        eve, bob = sign_in("eve"), sign_in("bob")
        bob.push(push(put(1, "a", {"of": "bob"}), user="bob"))
        calls = (
            lambda: eve.hello(hello(user="bob")),
            lambda: eve.push(push(put(1, "a", {"of": "bob"}), user="bob")),
            lambda: eve.push(push(put(2, "b", {"of": "bob"}), user="bob")),
            lambda: eve.rows(rows(user="bob")),
            lambda: eve.pull(pull(user="bob")),
        )
        for call in calls:
            with pytest.raises(AuthRequired) as refused:
                call()
            assert "another user" in str(refused.value)
            assert "bob" not in str(refused.value)
            assert "eve" not in str(refused.value)
        assert (eve.hello(hello(user="eve")).device_seq, bodies(eve, user="eve")) == (0, {})
        assert bob.hello(hello(user="bob")).device_seq == 1
        assert bodies(bob, user="bob") == {"a": {"of": "bob"}}

    def test_devices_and_epochs_of_one_user_have_sequences_of_their_own(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {}), put(2, "b", {})))
        assert ann.hello(hello(device="laptop")).device_seq == 0
        assert ann.hello(hello(epoch=2)).device_seq == 0
        assert statuses(ann.push(push(put(1, "c", {}), epoch=2))) == ["applied"]
        assert ann.hello(hello()).device_seq == 2

    def test_pages_give_each_living_row_once_in_key_order(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        keys = ["Z", "a", "ab", "é", "日", "😀", "~"]
        ann.push(push(*(put(n, key, {"n": n}) for n, key in enumerate(keys, 1))))
        seen, after = [], None
        for _ in range(10):
            page = ann.rows(rows(after=after, limit=2))
            seen += [row.key for row in page.rows]
            after = page.next
            if after is None:
                break
        assert seen == sorted(keys)
        assert ann.rows(rows(collection="places")).rows == ()

    def test_a_full_last_page_has_no_next_one(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {}), put(2, "b", {})))
        assert ann.rows(rows(limit=2)).next is None

    @pytest.mark.parametrize(
        ("key", "body", "code"),
        [
            ("big", {"text": "x" * 1_000_001}, "row_too_large"),
            ("", {}, "bad_key"),
            ("line\nbreak", {}, "bad_key"),
            ("k" * 1_025, {}, "bad_key"),
        ],
    )
    def test_a_bad_row_is_rejected_by_itself_and_its_neighbours_are_not(
        self, sign_in: SignIn, key: str, body: dict, code: str
    ) -> None:
        ann = sign_in("ann")
        answer = ann.push(push(put(1, "left", {}), put(2, key, body), put(3, "right", {})))
        assert statuses(answer) == ["applied", "rejected", "applied"]
        assert answer.results[1].code == code
        assert answer.results[1].message is not None
        assert "line" not in answer.results[1].message
        assert set(bodies(ann)) == {"left", "right"}

    def test_a_row_that_grows_too_large_by_patches_is_rejected(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        half = "x" * 600_000
        answer = ann.push(push(put(1, "a", {"one": half}), patch(2, "a", {"two": half})))
        assert answer.results[1].code == "row_too_large"
        assert bodies(ann) == {"a": {"one": half}}

    def test_pages_of_changes_keep_groups_whole_and_end_at_the_head(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(*(put(n, f"k{n}", {"n": n}, group=n // 3) for n in range(1, 10))))
        pages, cursor = [], None
        for _ in range(10):
            page = ann.pull(pull(cursor, limit=2))
            pages.append([item.key for item in page.items])
            cursor = page.cursor
            if not page.more:
                break
        assert pages == [["k1", "k2"], ["k3", "k4", "k5"], ["k6", "k7", "k8"], ["k9"]]
        assert ann.pull(pull(cursor)).items == ()

    def test_an_empty_push_is_answered(self, sign_in: SignIn) -> None:
        assert sign_in("ann").push(push()).results == ()

    def test_values_come_back_exactly(self, sign_in: SignIn) -> None:
        body = {
            "int": 2**63 - 1,
            "least": -(2**63),
            "float": 0.1 + 0.2,
            "text": 'é日😀 "quoted" \\ /',
            "none": None,
            "nested": {"list": [True, False, [], {}]},
        }
        ann = sign_in("ann")
        ann.push(push(put(1, "a", body)))
        assert bodies(ann) == {"a": body}
        assert isinstance(bodies(ann)["a"]["int"], int)

    def test_an_unknown_token_is_refused_everywhere(self, stranger: Backend) -> None:
        with pytest.raises(AuthRequired):
            stranger.hello(hello())
        with pytest.raises(AuthRequired):
            stranger.push(push(put(1, "a", {})))
        with pytest.raises(AuthRequired):
            stranger.rows(rows())
        with pytest.raises(AuthRequired):
            stranger.pull(pull())

    def test_health_needs_no_token_and_repeats_the_nonce(self, stranger: Backend) -> None:
        assert stranger.health("n-123").nonce == "n-123"

    def test_a_closed_backend_says_that_it_is_unreachable(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.close()
        with pytest.raises(BackendUnreachable, match="closed"):
            ann.hello(hello())

    # Two writers.

    def test_another_writers_put_without_the_rows_version_sets_its_fields_over_the_rows(
        self, sign_in: SignIn
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 1, "y": 1})))
        told = ann.push(push(put(1, "a", {"y": 2}), device=LAPTOP))
        assert statuses(told) == ["applied"]
        assert bodies(ann) == {"a": {"x": 1, "y": 2}}

    def test_another_writers_put_on_the_version_that_it_saw_replaces_the_row(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 1, "y": 1})))
        assert statuses(ann.push(push(put(1, "a", {"y": 2}, base=1), device=LAPTOP))) == ["applied"]
        assert bodies(ann) == {"a": {"y": 2}}

    @pytest.mark.parametrize("make", [put, patch])
    def test_an_edit_on_an_older_version_is_merged_and_says_so(self, sign_in: SignIn, make: MakeEntry) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 1, "y": 1}), patch(2, "a", {"x": 2})))
        told = ann.push(push(make(1, "a", {"y": 9}, base=1), device=LAPTOP))
        assert [(r.status, r.version) for r in told.results] == [("merged", 3)]
        assert bodies(ann) == {"a": {"x": 2, "y": 9}}
        again = ann.push(push(make(1, "a", {"y": 9}, base=1), device=LAPTOP))
        assert [(r.status, r.outcome, r.version) for r in again.results] == [("duplicate", "merged", 3)]

    def test_an_answer_says_what_unseen_values_an_entry_took_the_place_of(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 1, "y": 1, "z": 1}), put(2, "b", {"x": 1})))
        ann.push(push(patch(1, "a", {"x": 2, "y": 2}, base=1), patch(2, "b", {"x": 2}, base=2), device=LAPTOP))
        sent = push(
            patch(3, "a", {"y": 3, "z": 3}, base=1), put(4, "b", {"x": 2, "new": 0}, base=2), patch(5, "a", {"x": 9})
        )
        told = ann.push(sent)
        # Equal values are not replaced; what the device has put there itself it knows.
        assert [result.overwrote for result in told.results] == [{"y": 2, "z": 1}, None, {"x": 2}]
        assert [result.overwrote for result in ann.push(sent).results] == [{"y": 2, "z": 1}, None, {"x": 2}]

    def test_an_answer_to_a_delete_of_an_unseen_version_has_the_row(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 1}), put(2, "b", {"x": 1})))
        ann.push(push(patch(1, "a", {"x": 2}, base=1), device=LAPTOP))
        told = ann.push(push(delete(3, "a", base=1), delete(4, "b", base=2)))
        assert [result.overwrote for result in told.results] == [{"x": 2}, None]

    @pytest.mark.parametrize("base", [1, 2])
    def test_an_answer_says_what_another_wrote_beside_a_row_in_the_same_older_shape(
        self, sign_in: SignIn, base: int
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"new": 1}, shape=NEW)))
        ann.push(push(patch(1, "a", {"x": 1, "y": 1, "z": 1}, shape=OLD, base=1), device=LAPTOP))
        # No writer of an older shape can read what lies there, whatever version of the row it was shown.
        sent = push(patch(1, "a", {"x": 2, "y": 1}, shape=OLD, base=base), device="tablet")
        assert [result.overwrote for result in ann.push(sent).results] == [{"x": 1}]
        own = push(patch(2, "a", {"x": 3}, shape=OLD, base=3), device="tablet")
        assert [result.overwrote for result in ann.push(own).results] == [None]
        other_shape = push(patch(2, "a", {"x": 4}, shape="0.5.0", base=3), device=LAPTOP)
        assert [result.overwrote for result in ann.push(other_shape).results] == [None]

    def test_an_answer_to_several_changes_says_of_each_row_what_it_took_the_place_of(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 1}), put(2, "b", {"x": 1}), put(3, "c", {"x": 1})))
        ann.push(push(patch(1, "a", {"x": 2}, base=1), device=LAPTOP))
        parts = (
            change("put", "b", {"x": 5}),
            change("put", "new", {"x": 5}),
            change("put", "c", {"x": 1}),
            change("delete", "a"),
        )
        told = ann.push(push(changes(1, "a", *parts, base=1), device="tablet"))
        assert [result.overwrote for result in told.results] == [{"0": {"x": 1}, "3": {"x": 2}}]

    @pytest.mark.parametrize("refuse", [False, True])
    def test_a_devices_own_edits_do_not_count_against_the_version_that_it_saw(
        self, sign_in: SignIn, refuse: bool
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 0}), device=LAPTOP))
        seen = {"base": 1, "refuse": refuse}
        told = ann.push(push(patch(1, "a", {"x": 1}, **seen), patch(2, "a", {"y": 2}, **seen)))
        told_next = ann.push(push(patch(3, "a", {"z": 3}, **seen)))
        assert statuses(told) + statuses(told_next) == ["applied"] * 3
        ann.push(push(patch(2, "a", {"x": 7}), device=LAPTOP))
        last = ann.push(push(patch(4, "a", {"z": 4}, **seen)))
        assert statuses(last) == ["conflict" if refuse else "merged"]

    def test_a_refused_conflict_changes_nothing_and_uses_up_its_sequence(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 1}), patch(2, "a", {"x": 2})))
        entries = (
            put(1, "a", {"x": 8}, base=1, refuse=True),
            patch(2, "a", {"x": 9}, base=1, refuse=True),
            delete(3, "a", base=1, refuse=True),
            patch(4, "a", {"x": 9}, refuse=True),
        )
        told = ann.push(push(*entries, device=LAPTOP))
        assert statuses(told) == ["conflict"] * 4
        assert [result.version for result in told.results] == [None] * 4
        assert bodies(ann) == {"a": {"x": 2}}
        assert ann.hello(hello(device=LAPTOP)).device_seq == 4
        again = ann.push(push(*entries, device=LAPTOP))
        assert [(r.status, r.outcome) for r in again.results] == [("duplicate", "conflict")] * 4
        assert statuses(ann.push(push(patch(5, "a", {"x": 9}, base=2, refuse=True), device=LAPTOP))) == ["applied"]

    def test_a_conflict_in_a_group_hands_back_the_whole_group(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 1}), patch(2, "a", {"x": 2})))
        told = ann.push(
            push(
                put(1, "b", {}, group=7),
                patch(2, "a", {"x": 9}, base=1, refuse=True, group=7),
                put(3, "c", {}, group=8),
                device=LAPTOP,
            )
        )
        assert statuses(told) == ["conflict", "conflict", "applied"]
        assert set(bodies(ann)) == {"a", "c"}
        assert told.results[2].version == 3

    def test_whoever_saw_a_row_before_it_was_deleted_has_a_conflict_and_whoever_never_saw_it_none(
        self, sign_in: SignIn
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 1}), delete(2, "a")))
        saw = ann.push(push(put(1, "a", {"x": 9}, base=1, refuse=True), device=LAPTOP))
        never = ann.push(push(put(2, "a", {"x": 5}, refuse=True), device=LAPTOP))
        nowhere = ann.push(push(put(3, "new", {}, base=7, refuse=True), device=LAPTOP))
        assert statuses(saw) + statuses(never) + statuses(nowhere) == ["conflict", "applied", "applied"]
        assert bodies(ann) == {"a": {"x": 5}, "new": {}}

    # Two shapes.

    def test_a_patch_of_another_shape_lies_beside_the_row_and_raises_its_version(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"seconds": 60}, shape=NEW)))
        told = ann.push(push(patch(1, "a", {"minutes": 2}, shape=OLD), device=LAPTOP))
        item = ann.pull(pull()).items[0]
        assert [(r.status, r.version) for r in told.results] == [("applied", 2)]
        assert (item.version, item.shape_version, item.body) == (2, NEW, {"seconds": 60})
        assert beside(item) == [(2, "patch", {"minutes": 2}, OLD)]
        assert bodies(ann) == {"a": {"seconds": 60}}

    def test_patches_lie_in_order_and_neighbours_of_one_shape_become_one(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(
            push(
                put(1, "a", {"b": 2}, shape="2.0.0"),
                patch(2, "a", {"x": 1, "y": 1}, shape="1.0.0"),
                patch(3, "a", {"y": 2}, shape="1.0.0"),
                patch(4, "a", {"z": 3}, shape="3.0.0"),
                patch(5, "a", {"y": 4}, shape="1.0.0"),
            )
        )
        assert beside(ann.pull(pull()).items[0]) == [
            (3, "patch", {"x": 1, "y": 2}, "1.0.0"),
            (4, "patch", {"z": 3}, "3.0.0"),
            (5, "patch", {"y": 4}, "1.0.0"),
        ]

    def test_a_put_of_a_newer_shape_on_the_version_seen_replaces_row_and_older_patches(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        entries = (
            put(1, "a", {"n": 2}, shape="2.0.0"),
            patch(2, "a", {"n": 1}, shape="1.0.0"),
            patch(3, "a", {"n": 4}, shape="4.0.0"),
        )
        ann.push(push(*entries))
        ann.push(push(put(1, "a", {"n": 3}, shape="3.0.0", base=3), device=LAPTOP))
        item = ann.pull(pull()).items[0]
        assert (item.shape_version, item.body) == ("3.0.0", {"n": 3})
        assert beside(item) == [(3, "patch", {"n": 4}, "4.0.0")]

    @pytest.mark.parametrize(("shape", "base"), [(OLD, 1), (OLD, None), ("3.0.0", None)])
    def test_a_put_that_has_not_seen_the_row_or_is_of_an_older_shape_erases_nothing(
        self, sign_in: SignIn, shape: str, base: int | None
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"kept": 1}, shape=NEW)))
        told = ann.push(push(put(1, "a", {"whole": 1}, shape=shape, base=base), device=LAPTOP))
        item = ann.pull(pull()).items[0]
        assert statuses(told) == ["applied"]
        assert (item.shape_version, item.body) == (NEW, {"kept": 1})
        assert beside(item) == [(2, "put", {"whole": 1}, shape)]

    def test_a_delete_takes_the_row_and_what_lies_beside_it_whatever_the_shape(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {}, shape=NEW), patch(2, "a", {"x": 1}, shape=OLD)))
        ann.push(push(delete(1, "a", shape=OLD), device=LAPTOP))
        item = ann.pull(pull()).items[0]
        assert (item.version, item.body, item.patches) == (3, None, ())
        ann.push(push(put(2, "a", {"y": 1}), device=LAPTOP))
        assert ann.pull(pull()).items[0].patches == ()

    def test_what_lies_beside_a_row_is_no_larger_than_a_row(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        half = "x" * 600_000
        told = ann.push(
            push(
                put(1, "a", {}, shape="2.0.0"),
                patch(2, "a", {"one": half}, shape="1.0.0"),
                patch(3, "a", {"two": half}, shape="3.0.0"),
            )
        )
        assert [result.code for result in told.results] == [None, None, "row_too_large"]
        assert len(ann.pull(pull()).items[0].patches) == 1

    def test_a_migration_that_rewrites_a_row_leaves_what_lies_beside_it(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"m": 1}), patch(2, "a", {"s": 60}, shape="3.0.0")))
        ann.push(push(migration(3, change("put", "a", {"s": 1}, if_version=2))))
        item = ann.pull(pull()).items[0]
        assert (item.shape_version, item.body) == ("2.0.0", {"s": 1})
        assert beside(item) == [(2, "patch", {"s": 60}, "3.0.0")]

    # Lifting.

    def test_however_many_devices_lift_the_first_one_does(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"seconds": 60}, shape=NEW), patch(2, "a", {"minutes": 2}, shape=OLD)))
        lifted = lift(1, "a", {"seconds": 120}, lifts=(2,), base=2, shape=NEW)
        first = ann.push(push(lifted, device=LAPTOP))
        second = ann.push(push(lifted, device="tablet"))
        assert [(r.status, r.version, r.skipped) for r in first.results] == [("applied", 3, None)]
        assert [(r.status, r.version, r.skipped) for r in second.results] == [("applied", None, ("a",))]
        item = ann.pull(pull()).items[0]
        assert (item.version, item.body, item.patches) == (3, {"seconds": 120}, ())

    def test_a_lift_takes_only_the_patches_that_it_names(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(
            push(
                put(1, "a", {"n": 0}, shape="2.0.0"),
                patch(2, "a", {"n": 1}, shape="1.0.0"),
                patch(3, "a", {"n": 3}, shape="3.0.0"),
                lift(4, "a", {"n": 1}, lifts=(2,), base=3, shape="2.0.0"),
            )
        )
        item = ann.pull(pull()).items[0]
        assert item.body == {"n": 1}
        assert [each.patch for each in item.patches] == [3]

    @pytest.mark.parametrize("named", [(2,), (2, 4), (99,)])
    def test_a_lift_of_another_rows_patch_changes_neither_row(self, sign_in: SignIn, named: tuple[int, ...]) -> None:
        ann = sign_in("ann")
        ann.push(
            push(
                put(1, "a", {}, shape=NEW),
                patch(2, "a", {"x": 1}, shape=OLD),
                put(3, "b", {}, shape=NEW),
                patch(4, "b", {"x": 2}, shape=OLD),
            )
        )
        told = ann.push(push(lift(5, "b", {"stolen": 1}, lifts=named, base=4, shape=NEW)))
        assert told.results[0].skipped == ("b",)
        items = {item.key: item for item in ann.pull(pull()).items}
        assert [each.patch for each in items["a"].patches + items["b"].patches] == [2, 4]
        assert bodies(ann) == {"a": {}, "b": {}}

    def test_a_lift_made_before_another_edit_of_the_row_is_skipped(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"s": 60}, shape=NEW), patch(2, "a", {"m": 2}, shape=OLD)))
        ann.push(push(patch(1, "a", {"title": "kept"}, shape=NEW, base=2), device="tablet"))
        told = ann.push(push(lift(1, "a", {"s": 120}, lifts=(2,), base=2, shape=NEW), device=LAPTOP))
        assert [(r.status, r.skipped) for r in told.results] == [("applied", ("a",))]
        item = ann.pull(pull()).items[0]
        assert (item.body, len(item.patches)) == ({"s": 60, "title": "kept"}, 1)

    def test_a_lift_to_an_older_shape_than_the_rows_is_skipped(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {}, shape=NEW), patch(2, "a", {"x": 1}, shape=OLD)))
        told = ann.push(push(lift(3, "a", {"x": 1}, lifts=(2,), base=2, shape=OLD)))
        assert told.results[0].skipped == ("a",)
        assert ann.pull(pull()).items[0].shape_version == NEW

    @pytest.mark.parametrize("lacks", [{"lifts": None, "base": 1}, {"lifts": (1,), "base": None}])
    def test_a_lift_names_its_version_and_its_patches(self, sign_in: SignIn, lacks: dict) -> None:
        told = sign_in("ann").push(push(lift(1, "a", {}, **lacks)))
        assert told.results[0].code == "bad_entry"

    # Several changes in one entry.

    def test_the_changes_of_one_entry_take_effect_together(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "whole", {"left": 1, "right": 2})))
        told = ann.push(
            push(
                changes(
                    2,
                    "whole",
                    change("delete", "whole"),
                    change("put", "left", {"n": 1}),
                    change("put", "right", {"n": 2}),
                    base=1,
                )
            )
        )
        assert [(r.status, r.version) for r in told.results] == [("applied", 4)]
        assert bodies(ann) == {"left": {"n": 1}, "right": {"n": 2}}
        assert len(ann.pull(pull(limit=1)).items) == 3

    @pytest.mark.parametrize(
        ("bad", "code"),
        [
            (change("patch", "missing", {"n": 1}), "gone"),
            (change("put", "", {"n": 1}), "bad_key"),
            (change("put", "b", None), "bad_entry"),
            (change("put", "b", None, if_version=7), "bad_entry"),
            (change("patch", "missing", {"n": 1}, if_version=0), "gone"),
            (change("put", "b", {"x": "y" * 1_000_001}), "row_too_large"),
        ],
    )
    def test_one_bad_change_undoes_all_of_its_entry_and_its_group(
        self, sign_in: SignIn, bad: RowChange, code: str
    ) -> None:
        ann = sign_in("ann")
        told = ann.push(
            push(
                put(1, "neighbour", {}, group=1),
                changes(2, "a", change("put", "a", {}), bad, change("put", "c", {}), group=1),
                put(3, "other", {}, group=2),
            )
        )
        assert [r.code for r in told.results] == ["group_rejected", code, None]
        assert set(bodies(ann)) == {"other"}
        assert told.results[2].version == 1

    def test_a_change_for_another_version_than_its_row_has_is_left_alone_and_named(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "whole", {"n": 3}), put(2, "quicker", {"n": 9}), put(3, "old", {}), delete(4, "old")))
        told = ann.push(
            push(
                changes(
                    1,
                    "whole",
                    change("patch", "whole", {"n": 1}),
                    change("put", "quicker", {"n": 1}, if_version=0),
                    change("put", "old", {"n": 1}, if_version=0),
                    change("delete", "never", if_version=7),
                    change("put", "new", {"n": 1}, if_version=0),
                    base=1,
                ),
                device=LAPTOP,
            )
        )
        assert [(r.status, r.version, r.skipped) for r in told.results] == [
            ("applied", 6, ("quicker", "old", "never"))
        ]
        assert bodies(ann) == {"whole": {"n": 1}, "quicker": {"n": 9}, "new": {"n": 1}}

    def test_a_change_for_the_version_that_its_row_has_replaces_it_as_one_who_has_seen_it(
        self, sign_in: SignIn
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 1, "y": 1}), put(2, "b", {"x": 1, "y": 1})))
        asked = changes(1, "c", change("put", "a", {"x": 2}, if_version=1), change("put", "b", {"x": 2}))
        told = ann.push(push(asked, device=LAPTOP))
        assert [(r.status, r.skipped) for r in told.results] == [("applied", None)]
        assert bodies(ann) == {"a": {"x": 2}, "b": {"x": 2, "y": 1}}

    def test_an_entry_whose_changes_are_all_left_alone_changes_nothing_and_uses_up_its_sequence(
        self, sign_in: SignIn
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 1})))
        asked = changes(
            1, "b", change("put", "a", {"x": 2}, if_version=0), change("put", "a", {"x": 3}, if_version=9)
        )
        for status in ("applied", "duplicate"):
            told = ann.push(push(asked, device=LAPTOP))
            assert [(r.status, r.version, r.skipped) for r in told.results] == [(status, None, ("a", "a"))]
        assert bodies(ann) == {"a": {"x": 1}}
        assert told.device_seq == 1

    def test_changes_on_a_row_that_another_has_edited_are_refused_where_asked(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"x": 1}), patch(2, "a", {"x": 2})))
        split = (change("patch", "a", {"x": 9}), change("put", "b", {}))
        asked = changes(1, "a", *split, base=1, refuse=True)
        assert statuses(ann.push(push(asked, device=LAPTOP))) == ["conflict"]
        assert bodies(ann) == {"a": {"x": 2}}
        assert statuses(ann.push(push(changes(2, "a", *split, base=1), device=LAPTOP))) == ["merged"]
        assert bodies(ann) == {"a": {"x": 9}, "b": {}}

    # Two copies of one store.

    def test_the_same_number_with_another_token_is_another_copys_and_nothing_behind_it_is_done(
        self, sign_in: SignIn
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"of": "one"}, token="one"), put(2, "b", {"of": "one"}, token="one")))
        told = ann.push(
            push(
                put(1, "a", {"of": "one"}, token="one"),
                put(2, "b", {"of": "two"}, token="two"),
                put(3, "c", {"of": "two"}, token="two"),
            )
        )
        assert statuses(told) == ["duplicate", "reused", "reused"]
        assert ann.hello(hello()).device_seq == 2
        assert bodies(ann) == {"a": {"of": "one"}, "b": {"of": "one"}}
        anew = (put(1, "b", {"of": "two"}, token="two"), put(2, "c", {"of": "two"}, token="two"))
        assert statuses(ann.push(push(*anew, epoch=2))) == ["applied"] * 2

    # Pulling.

    def test_a_pull_brings_each_row_once_as_it_is_now_in_the_order_of_commits(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        assert ann.pull(pull()).items == ()
        ann.push(push(put(1, "a", {"n": 1}), put(2, "b", {"n": 2}), delete(3, "a"), patch(4, "b", {"n": 4})))
        page = ann.pull(pull())
        assert [(item.key, item.version, item.body) for item in page.items] == [("a", 3, None), ("b", 4, {"n": 4})]
        assert not page.more
        ann.push(push(put(5, "c", {"n": 5})))
        assert [item.key for item in ann.pull(pull(page.cursor)).items] == ["c"]

    def test_a_group_larger_than_a_page_stays_whole(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(
            push(put(1, "before", {}), *(put(n, f"k{n}", {}, group=2) for n in range(2, 42)), put(42, "after", {}))
        )
        sizes, cursor = [], None
        for _ in range(5):
            page = ann.pull(pull(cursor, limit=10))
            sizes.append(len(page.items))
            cursor = page.cursor
            if not page.more:
                break
        assert sizes == [1, 40, 1]

    def test_what_changes_between_two_pages_is_brought_by_a_later_one(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(*(put(n, f"k{n}", {"n": n}) for n in range(1, 7))))
        first = ann.pull(pull(limit=3))
        ann.push(push(patch(7, "k1", {"n": 70}), delete(8, "k5")))
        rest = ann.pull(pull(first.cursor))
        assert [item.key for item in first.items] == ["k1", "k2", "k3"]
        assert [(item.key, item.body) for item in rest.items] == [
            ("k4", {"n": 4}),
            ("k6", {"n": 6}),
            ("k1", {"n": 70}),
            ("k5", None),
        ]

    def test_a_cursor_that_is_not_this_users_is_gone_and_harms_nobody(self, sign_in: SignIn) -> None:
        ann, bob = sign_in("ann"), sign_in("bob")
        ann.push(push(put(1, "a", {"canary": 1}), put(2, "b", {})))
        bob.push(push(put(1, "a", {}), user="bob"))
        ours = bob.pull(pull(user="bob"))
        of_ann = ann.pull(pull()).cursor
        changed = of_ann[:-2] + ("AA" if of_ann[-2:] != "AA" else "BB")
        for cursor in (of_ann, changed, "x", "é", "0", "A" * 512, "=" * 54):
            with pytest.raises(CursorGone) as gone:
                bob.pull(pull(cursor, user="bob"))
            assert gone.value.reason == "other_epoch"
        assert bob.pull(pull(ours.cursor, user="bob")).items == ()
        assert bob.hello(hello(user="bob", cursor=of_ann)).action is Action.RESYNC
        assert bob.hello(hello(user="bob", cursor=ours.cursor)).action is Action.OK
        assert bob.hello(hello(user="bob")).server_epoch == ours.server_epoch

    def test_hello_tells_head_and_life_as_pulling_does(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {}), put(2, "b", {})))
        page, said = ann.pull(pull()), ann.hello(hello(confirmed=2))
        assert (said.head, said.floor, said.server_epoch, said.action) == (2, 0, page.server_epoch, Action.OK)

    # What an operator does.

    def test_a_cursor_from_before_forgotten_tombstones_reads_from_the_start(
        self, sign_in: SignIn, operator: Operator
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {}), put(2, "b", {})))
        old = ann.pull(pull()).cursor
        ann.push(push(delete(3, "a"), put(4, "c", {})))
        fresh = ann.pull(pull()).cursor
        operator.forget_deleted()
        with pytest.raises(CursorGone) as gone:
            ann.pull(pull(old))
        assert gone.value.reason == "below_floor"
        said = ann.hello(hello(cursor=old))
        assert (said.action, said.floor, said.head) == (Action.RESYNC, 3, 4)
        assert [item.key for item in ann.pull(pull()).items] == ["b", "c"]
        assert ann.pull(pull(fresh)).items == ()
        assert ann.hello(hello(cursor=fresh)).action is Action.OK
        told = ann.push(push(patch(5, "a", {}), put(6, "a", {"back": 1}, base=1, refuse=True)))
        assert [(r.status, r.code) for r in told.results] == [("rejected", "gone"), ("applied", None)]

    def test_a_reading_from_the_start_goes_on_below_forgotten_tombstones(
        self, sign_in: SignIn, operator: Operator
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {}), put(2, "b", {}), put(3, "c", {}), delete(4, "c")))
        operator.forget_deleted()
        first = ann.pull(pull(limit=1))
        assert ann.hello(hello(cursor=first.cursor)).action is Action.OK
        last = ann.pull(pull(first.cursor, limit=1))
        assert [item.key for item in (*first.items, *last.items)] == ["a", "b"]
        assert ann.pull(pull(last.cursor)).items == ()
        ann.push(push(delete(5, "a")))
        operator.forget_deleted()
        with pytest.raises(CursorGone) as gone:
            ann.pull(pull(first.cursor, limit=1))
        assert gone.value.reason == "below_floor"

    def test_a_cursor_ahead_of_a_restored_cloud_begins_another_life(
        self, sign_in: SignIn, operator: Operator
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {})))
        operator.take_copy()
        ann.push(push(put(2, "b", {})))
        ahead = ann.pull(pull())
        operator.bring_copy_back()
        with pytest.raises(CursorGone) as gone:
            ann.pull(pull(ahead.cursor))
        assert gone.value.reason == "other_epoch"
        anew = ann.pull(pull())
        assert anew.server_epoch > ahead.server_epoch
        assert (ahead.epoch_head, anew.epoch_head) == (0, 1)
        ann.push(push(put(1, "c", {}), device=LAPTOP))
        assert ann.pull(pull(anew.cursor)).epoch_head == 1
        assert [item.key for item in anew.items] == ["a"]
        assert [item.key for item in ann.pull(pull(anew.cursor)).items] == ["c"]

    def test_a_restored_cloud_that_counted_on_is_told_from_the_one_that_gave_the_cursor(
        self, sign_in: SignIn, operator: Operator
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {})))
        kept = ann.pull(pull())
        operator.take_copy()
        ann.push(push(put(2, "lost", {})))
        other = ann.pull(pull())
        operator.bring_copy_back()
        assert ann.pull(pull(kept.cursor)).server_epoch == kept.server_epoch
        ann.push(push(put(1, "new", {}), put(2, "newer", {}), device=LAPTOP))
        assert ann.hello(hello(cursor=kept.cursor)).action is Action.OK
        said = ann.hello(hello(cursor=other.cursor))
        assert said.action is Action.RESYNC
        assert said.server_epoch > other.server_epoch
        with pytest.raises(CursorGone):
            ann.pull(pull(kept.cursor))

    def test_a_cursor_between_two_pages_is_of_another_life_where_the_cloud_lost_what_stood_behind_it(
        self, sign_in: SignIn, operator: Operator
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "deleted", {}), put(2, "b", {})))
        operator.take_copy()
        ann.push(push(delete(3, "deleted")))
        between = ann.pull(pull(limit=1))
        assert ([item.key for item in between.items], between.more) == (["b"], True)
        assert ann.hello(hello(cursor=between.cursor)).action is Action.OK
        operator.bring_copy_back()
        said = ann.hello(hello(cursor=between.cursor))
        assert said.action is Action.RESYNC
        assert said.server_epoch > between.server_epoch
        with pytest.raises(CursorGone) as gone:
            ann.pull(pull(between.cursor))
        assert gone.value.reason == "other_epoch"
        assert [item.key for item in ann.pull(pull()).items] == ["deleted", "b"]

    def test_a_cloud_that_lost_what_it_had_confirmed_begins_another_life_once(
        self, sign_in: SignIn, operator: Operator
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {}, token="t")))
        operator.take_copy()
        ann.push(push(put(2, "b", {}, token="t"), put(3, "c", {}, token="t")))
        before = ann.hello(hello(confirmed=3))
        operator.bring_copy_back()
        first, second = ann.hello(hello(confirmed=3)), ann.hello(hello(confirmed=3))
        assert (before.action, first.action) == (Action.OK, Action.RESYNC)
        assert first.server_epoch == second.server_epoch > before.server_epoch
        assert ann.pull(pull()).epoch_head == 1
        assert (first.device_seq, second.device_seq) == (1, INTEGER_MAX)

    def test_devices_that_lost_by_one_restore_begin_one_life(self, sign_in: SignIn, operator: Operator) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {})))
        operator.take_copy()
        ann.push(push(put(2, "b", {})))
        ann.push(push(put(1, "c", {}), device=LAPTOP))
        cursor = ann.pull(pull()).cursor
        operator.bring_copy_back()
        first = ann.hello(hello(confirmed=2, cursor=cursor))
        ann.push(push(put(1, "d", {}), epoch=2))
        second = ann.hello(hello(confirmed=1, cursor=cursor, device=LAPTOP))
        assert (first.action, second.action) == (Action.RESYNC, Action.RESYNC)
        assert second.server_epoch == first.server_epoch
        assert ann.hello(hello(confirmed=1, cursor=cursor, device=LAPTOP)).device_seq == INTEGER_MAX
        page = ann.pull(pull())
        assert (page.server_epoch, page.epoch_head) == (first.server_epoch, 1)
        assert [(item.key, item.version) for item in page.items] == [("a", 1), ("d", 2)]

    def test_devices_of_a_database_that_was_lost_whole_begin_no_further_life_in_the_new_one(
        self, sign_in: SignIn, cursor_of_another_cloud: CursorOf
    ) -> None:
        ann = sign_in("ann")
        lost = cursor_of_another_cloud(1)
        first = ann.hello(hello(confirmed=4, cursor=lost))
        ann.push(push(put(1, "a", {}), epoch=2))
        second = ann.hello(hello(confirmed=1, cursor=lost, device=LAPTOP))
        assert (first.action, second.action) == (Action.RESYNC, Action.RESYNC)
        assert second.server_epoch == first.server_epoch
        assert ann.hello(hello(confirmed=1, cursor=lost, device=LAPTOP)).device_seq == INTEGER_MAX
        page = ann.pull(pull())
        assert (page.epoch_head, [item.version for item in page.items]) == (0, [1])

    def test_an_older_database_put_back_after_a_newer_one_begins_another_life(
        self, sign_in: SignIn, cursor_of_another_cloud: CursorOf
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {}), device="tablet"))
        before = ann.hello(hello())
        said = ann.hello(hello(confirmed=4, cursor=cursor_of_another_cloud(before.server_epoch + 1)))
        assert said.server_epoch > before.server_epoch
        assert ann.pull(pull()).epoch_head == 1

    def test_a_life_that_a_device_knows_and_that_is_later_than_the_clouds_is_followed_by_a_later_one_once(
        self, sign_in: SignIn, cursor_of_another_cloud: CursorOf
    ) -> None:
        """Whatever the clocks say that lives are counted by."""
        ann = sign_in("ann")
        known = ann.hello(hello()).server_epoch + 1_000_000_000_000
        said = ann.hello(hello(cursor=cursor_of_another_cloud(known)))
        assert (said.action, said.server_epoch) == (Action.RESYNC, known + 1)
        ann.push(push(put(1, "a", {})))
        for device in ("laptop", "tablet"):
            again = ann.hello(hello(confirmed=3, cursor=cursor_of_another_cloud(known), device=device))
            assert (again.action, again.server_epoch) == (Action.RESYNC, known + 1)
        page = ann.pull(pull())
        assert (page.epoch_head, [item.version for item in page.items]) == (0, [1])

    def test_a_late_push_of_a_lane_whose_numbers_were_lost_does_nothing(
        self, sign_in: SignIn, operator: Operator
    ) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"n": 1}, token="t")))
        operator.take_copy()
        ann.push(push(put(2, "a", {"n": 2}, token="t")))
        operator.bring_copy_back()
        ann.hello(hello(confirmed=2))
        ann.push(push(put(1, "a", {"n": 4}, token="u"), epoch=2))
        late = push(put(2, "a", {"n": 2}, token="t"), put(3, "a", {"n": 3}, token="t"))
        assert statuses(ann.push(late)) == ["reused"] * 2
        assert statuses(ann.push(push(put(3, "a", {"n": 3}, token="t")))) == ["reused"]
        assert statuses(ann.push(push(put(1, "a", {"n": 1}, token="t")))) == ["duplicate"]
        assert [item.body for item in ann.pull(pull()).items] == [{"n": 4}]
        assert statuses(ann.push(push(put(2, "b", {}, token="u"), epoch=2))) == ["applied"]

    def test_a_late_push_of_an_epoch_that_its_device_has_ended_does_nothing(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {"n": 1}, token="t"), epoch=3))
        said = ann.hello(hello(epoch=4, ended=3))
        assert (said.action, said.device_seq) == (Action.OK, 0)
        ann.push(push(put(1, "a", {"n": 4}, token="u"), epoch=4))
        late = push(put(1, "a", {"n": 1}, token="t"), put(2, "a", {"n": 2}, token="t"), epoch=3)
        assert statuses(ann.push(late)) == ["duplicate", "reused"]
        assert statuses(ann.push(push(put(1, "a", {"n": 0}, token="s"), epoch=2))) == ["reused"]
        assert [item.body for item in ann.pull(pull()).items] == [{"n": 4}]
        assert ann.hello(hello(epoch=3)).device_seq == ann.hello(hello(epoch=1)).device_seq == INTEGER_MAX

    def test_an_epoch_ends_for_its_device_alone_and_once(self, sign_in: SignIn) -> None:
        ann, bob = sign_in("ann"), sign_in("bob")
        before = ann.hello(hello(epoch=8, ended=7))
        ann.hello(hello(epoch=4, ended=3))
        assert ann.hello(hello(epoch=7)).device_seq == INTEGER_MAX
        assert ann.hello(hello(epoch=8, ended=7)).server_epoch == before.server_epoch
        assert statuses(ann.push(push(put(1, "a", {}), epoch=8))) == ["applied"]
        assert statuses(ann.push(push(put(1, "b", {}), device=LAPTOP))) == ["applied"]
        assert statuses(bob.push(push(put(1, "c", {}), user="bob"))) == ["applied"]

    def test_an_app_older_than_the_window_hands_over_its_queue_and_is_told_not_to_read(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        assert ann.hello(hello(app="windowed-app", cursor="x")).action is Action.DRAIN_ONLY
        assert ann.hello(hello(app="another-app")).action is Action.OK
        ann.push(push(put(1, "a", {"s": 1}, shape=NEW)))
        assert statuses(ann.push(push(patch(1, "a", {"m": 2}, shape=OLD), device=LAPTOP))) == ["applied"]
        assert len(ann.pull(pull()).items[0].patches) == 1
