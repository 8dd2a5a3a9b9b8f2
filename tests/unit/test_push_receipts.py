"""Neighbours that fared alike share a receipt; each of them is answered and remembered as if it had its own."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from syncengine.clock import SystemClock
from syncengine.server.receipts import Receipt, Receipts, told
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.server.storage import Lane
from syncengine.vocabulary import UserId

LANE = Lane(user=UserId("ann"), device="phone", epoch=1)


@st.composite
def alone(draw: st.DrawFn) -> list[Receipt]:
    """Receipts of consecutive sequences, each its own, in the order in which they come about."""
    found: list[Receipt] = []
    version = 0
    for sequence in range(1, draw(st.integers(1, 30)) + 1):
        token = draw(st.sampled_from(["t", "t", "t", "u", None]))
        version += draw(st.sampled_from([1, 1, 1, 1, 2]))
        match draw(st.sampled_from(["applied"] * 8 + ["merged", "conflict", "rejected", "skipped"])):
            case "conflict":
                found.append(Receipt(sequence, "conflict", token))
            case "rejected":
                found.append(Receipt(sequence, "rejected", token, code="gone", message="It is gone."))
            case "skipped":
                found.append(Receipt(sequence, "applied", token, version, skipped=("k",)))
            case outcome:
                found.append(Receipt(sequence, "merged" if outcome == "merged" else "applied", token, version))
    return found


def _gathered(receipts: list[Receipt]) -> list[Receipt]:
    gathered = Receipts()
    for receipt in receipts:
        gathered.add(receipt)
    return gathered.all()


@given(alone())
def test_a_run_of_receipts_stands_for_each_of_them(receipts: list[Receipt]) -> None:
    runs = _gathered(receipts)
    assert [run.at(n) for run in runs for n in range(run.sequence, run.sequence + run.entries)] == receipts


@given(alone())
def test_a_run_is_told_one_by_one(receipts: list[Receipt]) -> None:
    runs = [(run.outcome, run) for run in _gathered(receipts)]
    assert told(runs) == told([(receipt.outcome, receipt) for receipt in receipts])


def test_thousands_that_fared_alike_share_one_receipt() -> None:
    runs = _gathered([Receipt(n, "applied", "t", n + 7) for n in range(1, 5_001)])
    assert runs == [Receipt(1, "applied", "t", 8, entries=5_000)]


def test_another_token_outcome_or_a_gap_of_versions_begins_another_run() -> None:
    receipts = [
        Receipt(1, "applied", "t", 1),
        Receipt(2, "applied", "u", 2),
        Receipt(3, "merged", "u", 3),
        Receipt(4, "merged", "u", 5),
    ]
    assert _gathered(receipts) == receipts


def test_any_range_of_stored_runs_is_found_sequence_by_sequence(tmp_path: Path) -> None:
    storage = SqliteStorage(str(tmp_path / "cloud"), clock=SystemClock())
    receipts = [Receipt(n, "applied", "t", n) for n in range(1, 5)]
    receipts += [Receipt(5, "rejected", "t", code="gone", message="It is gone.")]
    receipts += [Receipt(n, "merged", "t", n) for n in range(6, 10)]
    storage.add_token(LANE.user, token_hash="-")
    storage.write(LANE.user, lambda stored: stored.write_receipts(LANE, receipts=_gathered(receipts)))
    assert storage.device_sequence(LANE) == 9
    for first in range(1, 11):
        for last in range(first, 12):
            expected = {each.sequence: each for each in receipts if first <= each.sequence <= last}
            assert storage.receipts(LANE, first=first, last=last) == expected
    storage.close()
