"""The server and the cloud written by hand from the protocol's text agree on any pushes of two devices."""

import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.world.memory_cloud import MemoryBackend, MemoryCloud
from syncengine.clock import SystemClock
from syncengine.errors import CursorGone
from syncengine.remote.json_text import read_json, write_json
from syncengine.remote.wire import EntryKind, PullAnswer, PushAnswer, PushEntry, PushRequest, RowChange, lean
from syncengine.server.cloud import Cloud
from syncengine.server.push_reading import read_push
from syncengine.server.sqlite_storage import SqliteStorage
from syncengine.vocabulary import UserId
from tests.conformance.device_requests import pull, push

KEYS = st.sampled_from(["a", "b", "c"])
SHAPES = st.sampled_from(["1.0.0", "2.0.0", "3.0.0"])
FIELDS = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 9), max_size=3)
VERSIONS = st.none() | st.integers(0, 12)
ROW_KINDS = st.sampled_from([EntryKind.PUT, EntryKind.PATCH, EntryKind.DELETE])


@st.composite
def row_changes(draw: st.DrawFn) -> RowChange:
    kind = draw(ROW_KINDS)
    return RowChange(
        kind=kind,
        collection="journeys",
        key=draw(KEYS),
        set=None if kind is EntryKind.DELETE else draw(FIELDS),
        if_version=draw(VERSIONS),
    )


@st.composite
def entries(draw: st.DrawFn) -> PushEntry:
    """Any entry; `PushEntry.sequence` is given later."""
    kind = draw(ROW_KINDS | st.sampled_from(list(EntryKind)))
    more: dict[str, object] = {}
    if kind in (EntryKind.CHANGES, EntryKind.MIGRATION):
        more["changes"] = tuple(draw(st.lists(row_changes(), min_size=1, max_size=3)))
    if kind is EntryKind.MIGRATION:
        more |= {"migration": "m", "cloud_version": draw(st.none() | SHAPES)}
    if kind is EntryKind.LIFT:
        more["lifts"] = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=2)))
    if kind in (EntryKind.PUT, EntryKind.PATCH, EntryKind.LIFT):
        more["set"] = draw(FIELDS)
    return PushEntry(
        sequence=1,
        group=draw(st.integers(1, 3)),
        kind=kind,
        collection="journeys",
        key=draw(KEYS),
        base_version=draw(st.integers(0, 12) if kind is EntryKind.LIFT else VERSIONS),
        shape_version=draw(SHAPES),
        token=draw(st.sampled_from(["t", "u"])),
        on_conflict=draw(st.sampled_from(["merge", "refuse"])),
        **more,
    )


def pushes_of(members: st.SearchStrategy[list[PushEntry]]) -> st.SearchStrategy[list]:
    return st.lists(st.tuples(st.sampled_from(["phone", "laptop"]), st.integers(0, 2), members), max_size=8)


@st.composite
def first_puts(draw: st.DrawFn) -> list[PushEntry]:
    """Puts of rows that their sender believes to be new; some were there before, or come twice."""
    keys = draw(st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=5, unique_by=lambda key: key))
    again = draw(st.sampled_from([[], [], [], keys[:1]]))
    entry = draw(entries().filter(lambda one: one.kind is EntryKind.PUT))
    return [
        entry.model_copy(
            update={
                "key": key,
                "group": draw(st.integers(1, 3)),
                "token": draw(st.sampled_from("tu")),
                "set": {"x": n},
            }
            | ({} if draw(st.integers(0, 9)) == 0 else {"base_version": None})
        )
        for n, key in enumerate(keys + again)
    ]


PUSHES = pushes_of(st.lists(entries(), max_size=5))


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with tempfile.TemporaryDirectory() as folder:
        made = Cloud(SqliteStorage(str(Path(folder) / "cloud"), clock=SystemClock()), clock=SystemClock())
        yield made
        made.close()


_users = itertools.count(1)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(PUSHES, st.integers(1, 4), st.booleans())
def test_server_and_memory_cloud_agree_on_any_pushes_and_pulls(
    cloud: Cloud, pushes: list, limit: int, as_text: bool
) -> None:
    _agree(cloud, pushes, limit=limit, as_text=as_text)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(pushes_of(first_puts() | st.lists(entries(), max_size=1)), st.integers(1, 4))
def test_server_and_memory_cloud_agree_on_rows_that_are_new_to_them(cloud: Cloud, pushes: list, limit: int) -> None:
    _agree(cloud, pushes, limit=limit, as_text=True)


def _agree(cloud: Cloud, pushes: list, *, limit: int, as_text: bool) -> None:
    user = f"user {next(_users)}"
    cloud.add_token(UserId(user), chance=random.Random(user))
    memory = MemoryCloud()
    by_hand = memory.backend(memory.sign_in(user))
    used = {"phone": 0, "laptop": 0}
    for device, again, drawn in pushes:
        # Some begin with numbers that were used before.
        first = max(1, used[device] + 1 - again)
        numbered = [entry.model_copy(update={"sequence": n}) for n, entry in enumerate(drawn, first)]
        request = push(*numbered, user=user, device=device)
        # Once more the same, and the other way in.
        ways = (_pushed_as_text, Cloud.push) if as_text else (Cloud.push, _pushed_as_text)
        for pushed in ways:
            told = pushed(cloud, UserId(user), request)
            assert _told(told) == _told(by_hand.push(request)), request
        used[device] = told.device_seq
    assert _pulled(cloud, user, limit=limit) == _pulled_by_hand(by_hand, user, limit=limit)


def _told(answer: PushAnswer) -> list[tuple[object, ...]]:
    return [(r.sequence, r.status, r.outcome, r.version, r.code, r.skipped, r.overwrote) for r in answer.results]


def _pushed_as_text(cloud: Cloud, user: UserId, request: PushRequest) -> PushAnswer:
    """The way of a request over HTTP: text in, text out."""
    text = cloud.push_text(user, read_push(write_json(lean(request))))
    return PushAnswer.model_validate(read_json(text, depth_max=64))


def _pulled(cloud: Cloud, user: str, *, limit: int) -> list[object]:
    found: list[object] = []
    cursor = None
    for _ in range(100):
        text = cloud.pull_text(UserId(user), pull(cursor, user=user, limit=limit))
        page = PullAnswer.model_validate(read_json(text, depth_max=64))
        assert page.items == cloud.pull(UserId(user), pull(cursor, user=user, limit=limit)).items
        found.append([item.model_dump() for item in page.items])
        cursor = page.cursor
        if not page.more:
            return found
    raise AssertionError("paging did not end")


def _pulled_by_hand(backend: MemoryBackend, user: str, *, limit: int) -> list[object]:
    found: list[object] = []
    cursor = None
    for _ in range(100):
        page = backend.pull(pull(cursor, user=user, limit=limit))
        found.append([item.model_dump() for item in page.items])
        cursor = page.cursor
        if not page.more:
            return found
    raise AssertionError("paging did not end")


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=80))
def test_no_text_but_its_own_is_taken_for_a_cursor(cloud: Cloud, text: str) -> None:
    user = UserId("cursors")
    cloud.add_token(user, chance=random.Random(user))
    before = cloud.pull(user, pull(user=user)).server_epoch
    if text:
        with pytest.raises(CursorGone):
            cloud.pull(user, pull(text, user=user))
    assert cloud.pull(user, pull(user=user)).server_epoch == before
