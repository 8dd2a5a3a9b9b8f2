"""What every backend promises, as tests. Subclass it and give a fixture `cloud` with sign_in() and backend()."""

from collections.abc import Callable

import pytest

from syncengine.errors import AuthRequired, BackendUnreachable, SequenceGap
from syncengine.remote.backend import Backend
from syncengine.remote.wire import Action, PushAnswer
from tests.conformance.device_requests import change, delete, hello, migration, patch, pull, push, put, rows, void

SignIn = Callable[[str], Backend]


def statuses(answer: PushAnswer) -> list[str]:
    return [result.status for result in answer.results]


def bodies(backend: Backend, *, user: str = "ann") -> dict[str, dict]:
    return {row.key: row.body for row in backend.rows(rows(user=user, limit=1000)).rows}


class BackendSuite:
    """Inherited by one class; its fixture `sign_in` gives a Backend for a user's name that is new to the cloud."""

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

    def test_a_put_replaces_the_whole_row(self, sign_in: SignIn) -> None:
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

    def test_a_patched_row_keeps_the_newer_of_the_two_shapes(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.push(push(put(1, "a", {}, shape="10.0.0"), patch(2, "a", {"x": 1}, shape="9.0.0")))
        assert ann.rows(rows()).rows[0].shape_version == "10.0.0"

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

    def test_health_needs_no_token_and_repeats_the_nonce(self, stranger: Backend) -> None:
        assert stranger.health("n-123").nonce == "n-123"

    def test_a_closed_backend_says_that_it_is_unreachable(self, sign_in: SignIn) -> None:
        ann = sign_in("ann")
        ann.close()
        with pytest.raises(BackendUnreachable):
            ann.hello(hello())
