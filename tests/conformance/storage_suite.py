"""What every storage of the cloud promises, as tests. Subclass it and give a fixture `open_storage`."""

import threading
from collections.abc import Callable, Iterator

import pytest

from syncengine.clock import SystemClock
from syncengine.remote.json_text import INTEGER_MAX
from syncengine.server.new_rows import NewRows
from syncengine.server.receipts import Receipt
from syncengine.server.rules import Patch, Place, Row
from syncengine.server.storage import (
    BODY_READ_AHEAD_BYTES_MAX,
    UNREAD,
    ChangedRow,
    Lane,
    Storage,
    Tenant,
    Tombstone,
    Transaction,
    UserUnknown,
)
from syncengine.vocabulary import TimestampMs, UserId

ANN, BOB = UserId("ann"), UserId("bob")
LAPTOP = Lane(user=ANN, device="laptop", epoch=1)
WALK: Place = ("walks", "w1")
DAY_MS = 24 * 60 * 60 * 1000
EVERYTHING = {"group_version": 0, "version": 0, "rows_likely": 100}

OpenStorage = Callable[[], Storage]


def row(version: int, body: str | None = '{"n": 1}', *patches: Patch) -> Row:
    return Row(version, "1.0.0", body, patches, "laptop:1", 0)


def written(storage: Storage, rows: dict[Place, Row], *, user: UserId = ANN, group: int | None = None) -> None:
    """The rows, each a group of its own unless they share `group`."""
    groups = {place: group or each.version for place, each in rows.items()}

    def write(stored: Transaction) -> None:
        stored.write_rows(user, rows=rows, group_versions=groups)
        head = max(groups.values())
        stored.write_tenant(user, head=head, cloud_version=stored.tenant(user).cloud_version)

    storage.write(user, write)


def added(storage: Storage, *places: Place, head: int) -> bool:
    """Rows of one group at these places, unless one of them is there."""
    bodies = [f'{{"of": "{key}"}}' for _, key in places]
    rows = NewRows(
        writer="phone:1",
        collections=[collection for collection, _ in places],
        keys=[key for _, key in places],
        versions=range(head + 1, head + 1 + len(places)),
        group_versions=[head + len(places)] * len(places),
        shape_versions=["2.0.0"] * len(places),
        bodies=bodies,
        sizes=[*map(len, bodies)],
    )
    return storage.write(ANN, lambda stored: stored.add_rows(ANN, rows=rows, head=head))


def read_at(storage: Storage, *places: Place, user: UserId = ANN) -> dict[Place, Row]:
    keys: dict[str, list[str]] = {}
    for collection, key in places:
        keys.setdefault(collection, []).append(key)
    return storage.read(user, lambda stored: stored.read_rows(user, keys=keys))


def changes(storage: Storage, *, user: UserId = ANN, **after: int) -> list[ChangedRow]:
    return storage.read(user, lambda stored: list(stored.changes_after(user, **{**EVERYTHING, **after})))


class SteppedClock(SystemClock):
    """Goes on only when a test says so."""

    ms = 1_750_000_000_000

    def now_ms(self) -> TimestampMs:
        return TimestampMs(self.ms)


class StorageSuite:
    """Inherited by one class for each database; `open_storage` opens the same database again and again."""

    @pytest.fixture
    def clock(self) -> SteppedClock:
        return SteppedClock()

    @pytest.fixture
    def storage(self, open_storage: OpenStorage) -> Iterator[Storage]:
        opened = open_storage()
        for user in (ANN, BOB):
            opened.add_token(user, token_hash=f"hash of {user}'s")
        yield opened
        opened.close()

    def test_a_token_stands_for_its_user_however_often_it_is_given(self, storage: Storage) -> None:
        storage.add_token(ANN, token_hash="hash of ann's")
        storage.add_token(ANN, token_hash="hash of another")
        assert [storage.user_of_token(f"hash of {which}") for which in ("ann's", "another", "bob's")] == [
            ANN,
            ANN,
            BOB,
        ]
        assert storage.user_of_token("hash of nobody's") is None
        assert storage.users() == [ANN, BOB]

    def test_a_user_is_welcome_without_a_token_and_a_known_one_stays_where_he_is(self, storage: Storage) -> None:
        cleo = UserId("cleo")
        for _ in range(2):
            storage.welcome(cleo)
            written(storage, {WALK: row(1)}, user=cleo)
        assert storage.users() == [ANN, BOB, cleo]
        first = storage.read(cleo, lambda stored: stored.tenant(cleo))
        storage.welcome(cleo)
        assert storage.read(cleo, lambda stored: stored.tenant(cleo)) == first
        assert read_at(storage, WALK) == {}

    def test_a_user_whom_the_database_does_not_know_is_told_apart_and_nothing_is_written(
        self, storage: Storage
    ) -> None:
        nobody = UserId("nobody")
        with pytest.raises(UserUnknown):
            written(storage, {WALK: row(1)}, user=nobody)
        with pytest.raises(UserUnknown):
            storage.read(nobody, lambda stored: stored.tenant(nobody))
        assert storage.users() == [ANN, BOB]
        storage.welcome(nobody)
        assert read_at(storage, WALK, user=nobody) == {}

    def test_whoever_opens_the_database_signs_cursors_alike(
        self, storage: Storage, open_storage: OpenStorage
    ) -> None:
        again = open_storage()
        assert again.cursor_key() == storage.cursor_key()
        assert len(storage.cursor_key()) == 32
        again.close()

    def test_a_new_user_stands_at_zero_and_a_known_one_stays_where_he_is(self, storage: Storage) -> None:
        def advance(stored: Transaction) -> None:
            stored.write_tenant(ANN, head=7, cloud_version="2.0.0")

        before = storage.read(ANN, lambda stored: stored.tenant(ANN))
        assert (before.head, before.floor, before.cloud_version) == (0, 0, None)
        storage.write(ANN, advance)
        storage.add_token(ANN, token_hash="one more")
        after = storage.read(ANN, lambda stored: stored.tenant(ANN))
        assert after == Tenant(server_epoch=before.server_epoch, epoch_head=0, head=7, floor=0, cloud_version="2.0.0")
        assert storage.read(BOB, lambda stored: stored.tenant(BOB)).head == 0

    def test_how_much_a_user_has_adds_up_and_is_nobody_elses(self, storage: Storage) -> None:
        for more in ((3, 300), (-1, -50), (0, 7)):
            storage.write(
                ANN,
                lambda stored, of=more: stored.write_tenant(
                    ANN, head=1, cloud_version=None, rows_more=of[0], bytes_more=of[1]
                ),
            )
        found = storage.read(ANN, lambda stored: stored.tenant(ANN))
        assert (found.rows, found.bytes) == (2, 257)
        bobs = storage.read(BOB, lambda stored: stored.tenant(BOB))
        assert (bobs.rows, bobs.bytes) == (0, 0)

    def test_another_life_has_a_higher_epoch_also_where_the_clock_stands(self, storage: Storage) -> None:
        epochs = []
        for _ in range(3):
            storage.write(ANN, lambda stored: stored.raise_epoch(ANN))
            epochs.append(storage.read(ANN, lambda stored: stored.tenant(ANN)).server_epoch)
        assert epochs == sorted(set(epochs))

    def test_another_life_begins_where_the_rows_stand(self, storage: Storage) -> None:
        written(storage, {WALK: row(7)})
        storage.write(ANN, lambda stored: stored.raise_epoch(ANN))
        written(storage, {WALK: row(8)})
        stands = storage.read(ANN, lambda stored: stored.tenant(ANN))
        assert (stands.epoch_head, stands.head) == (7, 8)

    def test_rows_come_back_as_they_were_written_living_and_dead(self, storage: Storage) -> None:
        rows = {
            WALK: row(1, '{"n": 9007199254740993, "x": 0.1, "t": "\\u0000 \\"café\\" 😀"}'),
            ("walks", "gone"): row(2, None),
            ("places", "w1"): Row(3, "2.1.0", "{}", (), "phone:2", 1),
        }
        written(storage, rows)
        assert read_at(storage, *rows, ("walks", "never was"), ("nothing", "x")) == rows

    def test_a_row_that_is_written_again_is_replaced(self, storage: Storage) -> None:
        written(storage, {WALK: row(1)})
        written(storage, {WALK: Row(2, "2.0.0", '{"n": 2}', (), "phone:1", 1)})
        assert read_at(storage, WALK) == {WALK: Row(2, "2.0.0", '{"n": 2}', (), "phone:1", 1)}
        assert [each.version for each in changes(storage)] == [2]

    def test_new_rows_are_added_together(self, storage: Storage) -> None:
        written(storage, {WALK: row(1)})
        assert added(storage, ("walks", "w2"), ("places", "w1"), head=1)
        assert read_at(storage, WALK, ("walks", "w2"), ("places", "w1")) == {
            WALK: row(1),
            ("walks", "w2"): Row(2, "2.0.0", '{"of": "w2"}', (), "phone:1", 0),
            ("places", "w1"): Row(3, "2.0.0", '{"of": "w1"}', (), "phone:1", 0),
        }
        assert [(each.key, each.group_version, each.bytes) for each in changes(storage)][1:] == [
            ("w2", 3, 12),
            ("w1", 3, 12),
        ]

    @pytest.mark.parametrize("body", ['{"n": 1}', None])
    def test_no_row_is_added_where_one_of_them_is_there_or_was(self, storage: Storage, body: str | None) -> None:
        before = {("walks", "w0"): row(1), WALK: row(2, body)}
        written(storage, before)
        written(storage, {("walks", "w2"): row(9)}, user=BOB)
        assert not added(storage, ("walks", "w2"), WALK, ("walks", "w3"), head=2)
        assert read_at(storage, ("walks", "w0"), WALK, ("walks", "w2"), ("walks", "w3")) == before
        assert [each.key for each in changes(storage)] == ["w0", "w1"]
        assert [each.key for each in changes(storage, user=BOB)] == ["w2"]

    def test_no_row_is_added_where_one_comes_twice(self, storage: Storage) -> None:
        assert not added(storage, WALK, ("walks", "w2"), WALK, head=0)
        assert changes(storage) == []

    def test_only_rows_with_a_group_version_are_written(self, storage: Storage) -> None:
        rows = {WALK: row(1), ("walks", "w2"): row(2)}
        storage.write(ANN, lambda stored: stored.write_rows(ANN, rows=rows, group_versions={WALK: 1}))
        assert read_at(storage, *rows) == {WALK: row(1)}

    def test_a_large_body_is_left_where_it_is_until_it_is_asked_for(self, storage: Storage) -> None:
        body = '{"text": "' + "x" * BODY_READ_AHEAD_BYTES_MAX + '"}'
        written(storage, {WALK: row(1, body)})
        assert read_at(storage, WALK)[WALK].body is UNREAD
        assert storage.read(ANN, lambda stored: stored.body(ANN, place=WALK)) == body
        assert changes(storage)[0].body == body

    def test_how_large_living_rows_are_is_told_without_reading_them(self, storage: Storage) -> None:
        large = '{"text": "' + "x" * BODY_READ_AHEAD_BYTES_MAX + '"}'
        rows = {
            WALK: row(1, large),
            ("walks", "gone"): row(2, None),
            ("places", "w1"): row(3, "{}", Patch(3, "put", "2.0.0", '{"n": 1}')),
        }
        written(storage, rows)
        asked = [*rows, ("walks", "never was")]
        found = storage.read(ANN, lambda stored: stored.bytes_of(ANN, places=asked))
        assert found == {WALK: len(large), ("places", "w1"): 10}
        assert storage.read(BOB, lambda stored: stored.bytes_of(BOB, places=asked)) == {}

    def test_keys_are_told_apart_by_every_letter(self, storage: Storage) -> None:
        keys = ["a", "A", "á", "a ", "ａ", "z", "Z", "ß", "ss", "😀", "'; --", '{",}\\', "%s", "NULL"]
        written(storage, {("walks", key): row(n) for n, key in enumerate(keys, 1)})
        found = read_at(storage, *(("walks", key) for key in keys))
        assert {key: each.version for (_, key), each in found.items()} == {key: n for n, key in enumerate(keys, 1)}

        def page(after: str) -> list[str]:
            return storage.read(
                ANN,
                lambda stored: [each.key for each in stored.page(ANN, collection="walks", after=after, limit=100)],
            )

        assert page("") == sorted(keys, key=str.encode)
        assert page("a") == sorted((key for key in keys if key.encode() > b"a"), key=str.encode)

    def test_a_page_has_living_rows_of_one_collection_up_to_its_limit(self, storage: Storage) -> None:
        rows = {("walks", f"w{n:02d}"): row(n + 1, None if n == 3 else f'{{"n": {n}}}') for n in range(10)}
        written(storage, {**rows, ("places", "w04"): row(99)})

        def page(stored: Transaction) -> list[tuple[str, int, str, int, dict[str, object]]]:
            return [tuple(each) for each in stored.page(ANN, collection="walks", after="w01", limit=3)]

        assert storage.read(ANN, page) == [
            ("w02", 3, "1.0.0", 8, {"n": 2}),
            ("w04", 5, "1.0.0", 8, {"n": 4}),
            ("w05", 6, "1.0.0", 8, {"n": 5}),
        ]

    def test_changes_come_in_the_order_of_their_commits_with_tombstones(self, storage: Storage) -> None:
        written(storage, {WALK: row(1), ("walks", "w2"): row(2)})
        written(storage, {("places", "p"): row(3), WALK: row(4, None)}, group=4)
        found = changes(storage)
        assert [(each.key, each.version, each.group_version, each.body) for each in found] == [
            ("w2", 2, 2, '{"n": 1}'),
            ("p", 3, 4, '{"n": 1}'),
            ("w1", 4, 4, None),
        ]
        assert (found[0].collection, found[0].shape_version, found[0].bytes, found[0].patches) == (
            "walks",
            "1.0.0",
            8,
            0,
        )

    @pytest.mark.parametrize("rows_likely", [1, 2, 3, 1_000])
    def test_changes_go_on_from_any_place_and_past_what_was_likely(self, storage: Storage, rows_likely: int) -> None:
        written(storage, {("walks", f"w{n}"): row(n) for n in range(1, 8)}, group=7)
        written(storage, {("walks", f"w{n}"): row(n, '{"t": "' + "y" * 100_000 + '"}') for n in range(8, 15)})
        for after in ((0, 0), (7, 3), (7, 7), (10, 10), (14, 14)):
            found = changes(storage, group_version=after[0], version=after[1], rows_likely=rows_likely)
            assert [each.version for each in found] == [*range(after[1] + 1, 15)]

    def test_what_lies_beside_a_row_comes_with_it_in_its_order(self, storage: Storage) -> None:
        patches = tuple(
            Patch(n, kind, f"{n}.0.0", f'{{"n": {n}}}') for n, kind in ((2, "patch"), (3, "put"), (10, "patch"))
        )
        rows = {WALK: row(10, "{}", *patches), ("walks", "w2"): row(11, "{}", Patch(11, "put", "2.0.0", "{}"))}

        def write(stored: Transaction) -> None:
            stored.write_rows(ANN, rows=rows, group_versions={place: each.version for place, each in rows.items()})
            stored.write_patches(ANN, patches={place: each.patches for place, each in rows.items()})

        storage.write(ANN, write)
        assert read_at(storage, *rows) == rows
        assert [each.patches for each in changes(storage)] == [3, 1]

        def between(after: tuple[int, int], last: tuple[int, int]) -> dict[Place, tuple[Patch, ...]]:
            return storage.read(ANN, lambda stored: stored.patches_between(ANN, after=after, last=last))

        assert between((0, 0), (11, 11)) == {place: each.patches for place, each in rows.items()}
        assert between((0, 0), (10, 10)) == {WALK: patches}
        assert list(between((10, 10), (11, 11))) == [("walks", "w2")]

        def lift(stored: Transaction) -> None:
            lifted = {WALK: row(12, "{}", patches[2])}
            stored.write_rows(ANN, rows=lifted, group_versions={WALK: 12})
            stored.write_patches(ANN, patches={WALK: (patches[2],), ("walks", "w2"): ()})

        storage.write(ANN, lift)
        assert read_at(storage, WALK)[WALK].patches == (patches[2],)

    def test_marks_are_found_by_any_version_of_their_commit(self, storage: Storage) -> None:
        for last_version in (3, 9):
            storage.write(ANN, lambda stored, last=last_version: stored.write_mark(ANN, last_version=last))
        marks = storage.read(ANN, lambda stored: [stored.mark_at(ANN, version=n) for n in (0, 1, 3, 4, 9, 10)])
        assert marks[0] == 0
        assert marks[5] == 0
        assert marks[1] == marks[2] != marks[3] == marks[4]
        assert all(0 < mark <= INTEGER_MAX for mark in marks[1:5])

    def test_receipts_of_runs_are_found_one_by_one(self, storage: Storage) -> None:
        receipts = [
            Receipt(1, "applied", "token", 5, entries=3),
            Receipt(4, "rejected", None, code="gone", message="It is gone."),
            Receipt(5, "merged", "t2", 8, overwrote={"title": "a café", "n": 1}),
            Receipt(6, "applied", "t3", None, skipped=("w1", "w2")),
            Receipt(7, "applied", "t4", None, skipped=()),
            Receipt(8, "conflict", "t5"),
        ]
        storage.write(ANN, lambda stored: stored.write_receipts(LAPTOP, receipts=receipts))
        one_by_one = {n: each.at(n) for each in receipts for n in range(each.sequence, each.sequence + each.entries)}

        def found(first: int, last: int) -> dict[int, Receipt]:
            return storage.read(ANN, lambda stored: stored.receipts(LAPTOP, first=first, last=last))

        for first in range(1, 9):
            for last in range(first, 9):
                expected = {n: each for n, each in one_by_one.items() if first <= n <= last}
                assert {n: each._replace(skipped=each.skipped or None) for n, each in found(first, last).items()} == {
                    n: each._replace(skipped=each.skipped or None) for n, each in expected.items()
                }
        assert storage.read(ANN, lambda stored: stored.device_sequence(LAPTOP)) == 8

    def test_each_lane_has_numbers_of_its_own(self, storage: Storage) -> None:
        others = (
            Lane(user=ANN, device="laptop", epoch=2),
            Lane(user=ANN, device="phone", epoch=1),
            Lane(user=BOB, device="laptop", epoch=1),
        )
        storage.write(ANN, lambda stored: stored.write_receipts(LAPTOP, receipts=[Receipt(5, "applied", "t", 1)]))
        for lane in others:
            assert storage.read(lane.user, lambda stored, of=lane: stored.device_sequence(of)) == 0
            assert storage.read(lane.user, lambda stored, of=lane: stored.receipts(of, first=1, last=9)) == {}

    def test_a_lane_whose_numbers_are_all_used_up_says_so(self, storage: Storage) -> None:
        storage.write(ANN, lambda stored: stored.write_receipts(LAPTOP, receipts=[Receipt(INTEGER_MAX, "lost")]))
        assert storage.read(ANN, lambda stored: stored.device_sequence(LAPTOP)) == INTEGER_MAX

    def test_all_numbers_of_epochs_that_have_ended_are_used_up_and_their_receipts_stay(
        self, storage: Storage
    ) -> None:
        def lane(epoch: int, *, user: UserId = ANN, device: str = "laptop") -> Lane:
            return Lane(user=user, device=device, epoch=epoch)

        def used_up(of: Lane) -> int:
            return storage.read(of.user, lambda stored: stored.device_sequence(of))

        storage.write(ANN, lambda stored: stored.write_receipts(lane(2), receipts=[Receipt(5, "applied", "t", 1)]))
        for ended in (3, 2):
            storage.write(ANN, lambda stored, epoch=ended: stored.end_epochs(lane(epoch)))
        assert [used_up(lane(epoch)) for epoch in (1, 2, 3, 4)] == [INTEGER_MAX] * 3 + [0]
        assert storage.read(ANN, lambda stored: stored.receipts(lane(2), first=5, last=9)).keys() == {5}
        assert used_up(lane(1, device="phone")) == used_up(lane(1, user=BOB)) == 0

    def test_tombstones_are_forgotten_by_age_and_the_floor_rises_over_them(
        self, storage: Storage, clock: SteppedClock
    ) -> None:
        written(storage, {WALK: row(1, None), ("walks", "living"): row(2)})
        storage.write(ANN, lambda stored: stored.write_mark(ANN, last_version=2))
        clock.ms += 2 * DAY_MS
        written(storage, {("walks", "later"): row(3, None)})
        storage.write(ANN, lambda stored: stored.write_mark(ANN, last_version=3))

        def old(stored: Transaction) -> list[Tombstone]:
            return stored.old_tombstones(ANN, before_ms=clock.now_ms() - DAY_MS, rows_max=10)

        found = storage.write(ANN, old)
        assert found == [Tombstone(WALK, 1)]
        storage.write(ANN, lambda stored: stored.forget(ANN, tombstones=found))
        assert [each.key for each in changes(storage)] == ["living", "later"]
        assert storage.read(ANN, lambda stored: stored.tenant(ANN)).floor == 1
        assert storage.read(ANN, old) == []
        assert storage.read(ANN, lambda stored: stored.mark_at(ANN, version=2)) > 0

    def test_what_raises_has_written_nothing(self, storage: Storage) -> None:
        def fail(stored: Transaction) -> None:
            stored.write_rows(ANN, rows={WALK: row(1)}, group_versions={WALK: 1})
            stored.write_receipts(LAPTOP, receipts=[Receipt(1, "applied", "t", 1)])
            stored.write_tenant(ANN, head=1, cloud_version=None)
            raise ValueError("on purpose")

        with pytest.raises(ValueError, match="on purpose"):
            storage.write(ANN, fail)
        assert read_at(storage, WALK) == {}
        assert storage.read(ANN, lambda stored: (stored.tenant(ANN).head, stored.device_sequence(LAPTOP))) == (0, 0)

    def test_what_was_written_is_there_when_the_database_is_opened_again(
        self, storage: Storage, open_storage: OpenStorage
    ) -> None:
        written(storage, {WALK: row(1)})
        again = open_storage()
        assert read_at(again, WALK) == {WALK: row(1)}
        again.close()

    def test_two_users_with_the_same_names_never_meet(self, storage: Storage) -> None:
        for user in (ANN, BOB):
            written(storage, {WALK: row(1, f'{{"of": "{user}"}}', Patch(1, "put", "2.0.0", "{}"))}, user=user)
            storage.write(
                user,
                lambda stored, of=user: stored.write_patches(
                    of, patches={WALK: (Patch(1, "put", "2.0.0", f'{{"of": "{of}"}}'),)}
                ),
            )
        storage.write(BOB, lambda stored: stored.forget(BOB, tombstones=[Tombstone(("walks", "other"), 1)]))
        for user in (ANN, BOB):
            found = read_at(storage, WALK, user=user)[WALK]
            assert (found.body, found.patches[0].body) == (f'{{"of": "{user}"}}',) * 2
            assert [each.body for each in changes(storage, user=user)] == [f'{{"of": "{user}"}}']

    def test_a_reader_never_sees_a_version_before_all_lower_ones(
        self, storage: Storage, open_storage: OpenStorage
    ) -> None:
        """Four writers through two openings; a reader goes on from where it stands and has to see every version."""
        writers, each = 4, 12
        openings = [storage, open_storage()]
        seen: list[int] = []

        def write(number: int) -> None:
            for _ in range(each):
                openings[number % 2].write(ANN, one_more)

        def one_more(stored: Transaction) -> None:
            version = stored.tenant(ANN).head + 1
            rows = {("walks", f"w{version}"): row(version)}
            stored.write_rows(ANN, rows=rows, group_versions=dict.fromkeys(rows, version))
            stored.write_tenant(ANN, head=version, cloud_version=None)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        while len(seen) < writers * each and (any(thread.is_alive() for thread in threads) or not seen):
            seen += _versions_after(openings[1], seen[-1] if seen else 0)
        for thread in threads:
            thread.join()
        seen += _versions_after(openings[1], seen[-1] if seen else 0)
        openings[1].close()
        assert seen == [*range(1, writers * each + 1)]

    def test_a_reader_has_one_state_however_others_write(self, storage: Storage, open_storage: OpenStorage) -> None:
        other = open_storage()
        written(storage, {WALK: row(1)})

        def read(stored: Transaction) -> tuple[int, int]:
            before = stored.tenant(ANN).head
            written(other, {("walks", "w2"): row(2)})
            return before, len(list(stored.changes_after(ANN, **EVERYTHING)))

        assert storage.read(ANN, read) == (1, 1)
        assert len(changes(storage)) == 2
        other.close()


def _versions_after(storage: Storage, version: int) -> list[int]:
    return [each.version for each in changes(storage, group_version=version, version=version)]
