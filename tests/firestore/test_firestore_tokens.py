"""An ID token that is over is renewed once; then the queue is kept, and waits for another one."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulator.emulator import PROJECT, FirestoreEmulator, id_token
from syncengine import RefreshableToken
from syncengine.errors import AuthRequired
from syncengine.firestore.backend import FirestoreBackend
from syncengine.remote.tokens import RemembersRefusals
from tests.conformance.device_requests import hello, patch, pull, push, put, rows
from tests.conformance.waiting import until
from tests.firestore.between import Between
from tests.integration.sync_world import impatient

_numbers = itertools.count(1)


def fresh(user: str = "ann") -> str:
    """Another token of the same user."""
    return id_token(user, number=next(_numbers))


class Wallet:
    """The host's own token, which it renews when it is told to."""

    def __init__(self, present: str | None, *renewed: str | None) -> None:
        self.token = present
        self._renewed = iter(renewed)
        self.renewals = 0

    def renew(self) -> str | None:
        self.renewals += 1
        self.token = next(self._renewed, self.token)
        return self.token

    def callback(self) -> RefreshableToken:
        return RefreshableToken(lambda: self.token, refresh=self.renew)


Open = Callable[[Wallet], FirestoreBackend]


@pytest.fixture
def between(emulator: FirestoreEmulator) -> Iterator[Between]:
    with Between(emulator.host) as proxy:
        yield proxy


@pytest.fixture
def opened(between: Between) -> Iterator[Open]:
    backends: list[FirestoreBackend] = []

    def open_backend(wallet: Wallet) -> FirestoreBackend:
        backends.append(FirestoreBackend(PROJECT, token=wallet.callback(), emulator=between.host))
        return backends[-1]

    yield open_backend
    for backend in backends:
        backend.close()


def test_a_token_that_is_over_is_renewed_once_and_the_call_goes_through(between: Between, opened: Open) -> None:
    old, new = fresh(), fresh()
    between.ended.add(old)
    wallet = Wallet(old, new)
    backend = opened(wallet)
    assert backend.hello(hello()).device_seq == 0
    assert (set(between.tokens[1:]), between.tokens[0], wallet.renewals) == ({new}, old, 1)
    assert backend.refused_token_wait_ms() is None


@pytest.mark.parametrize("verb", ["batchGet", "commit"])
def test_a_token_that_ends_within_a_push_is_renewed_and_each_entry_is_there_once(
    between: Between, opened: Open, verb: str
) -> None:
    old, new = fresh(), fresh()
    wallet = Wallet(old, new)
    backend = opened(wallet)
    backend.push(push(put(1, "a", {"n": 1})))
    between.end_token(verb, old)
    answer = backend.push(push(patch(2, "a", {"n": 2}), put(3, "b", {"n": 3})))
    assert [(each.status, each.version) for each in answer.results] == [("applied", 2), ("applied", 3)]
    assert wallet.renewals == 1
    assert {row.key: row.body for row in backend.rows(rows()).rows} == {"a": {"n": 2}, "b": {"n": 3}}
    assert {item.key: item.version for item in backend.pull(pull()).items} == {"a": 2, "b": 3}


def test_a_host_that_renewed_it_by_itself_is_told_nothing(between: Between, opened: Open) -> None:
    old, new = fresh(), fresh()
    wallet = Wallet(old)
    backend = opened(wallet)
    assert backend.hello(hello()).device_seq == 0
    between.ended.add(old)
    wallet.token = new
    assert backend.hello(hello()).device_seq == 0
    assert wallet.renewals == 0


def offline() -> str:
    raise OSError("canary: the identity provider cannot be reached")


@pytest.mark.parametrize("how", ["none", "unusable", "the same", "over, too"])
def test_a_renewal_that_does_not_help_is_not_tried_twice(between: Between, opened: Open, how: str) -> None:
    old, other = fresh(), fresh()
    between.ended |= {old, other}
    renewed = {"none": None, "unusable": "two words", "the same": old, "over, too": other}[how]
    wallet = Wallet(old, renewed)
    with pytest.raises(AuthRequired, match="refused the token") as refused:
        opened(wallet).hello(hello())
    assert (between.tokens, wallet.renewals) == ([old, other] if how == "over, too" else [old], 1)
    assert refused.value.status == 401


def test_a_renewal_that_fails_is_a_refused_token_and_says_nothing_of_its_reason(
    between: Between, emulator: FirestoreEmulator
) -> None:
    old = fresh()
    between.ended.add(old)
    backend = FirestoreBackend(PROJECT, token=RefreshableToken(lambda: old, refresh=offline), emulator=between.host)
    with pytest.raises(AuthRequired) as refused:
        backend.hello(hello())
    backend.close()
    assert "canary" not in str(refused.value)
    assert between.tokens == [old]


def test_what_the_rules_forbid_is_not_mended_by_a_renewal(
    between: Between, emulator: FirestoreEmulator, opened: Open
) -> None:
    emulator.set_rules("service cloud.firestore { match /{all=**} { allow read, write: if false; } }")
    try:
        wallet = Wallet(fresh(), fresh())
        backend = opened(wallet)
        with pytest.raises(AuthRequired):
            backend.hello(hello())
        assert (len(between.tokens), wallet.renewals) == (1, 0)
        assert backend.refused_token_wait_ms()
    finally:
        emulator.set_shipped_rules()


def test_a_renewed_token_of_another_user_is_not_sent(between: Between, opened: Open) -> None:
    old, bobs = fresh(), fresh("bob")
    between.ended.add(old)
    backend = opened(Wallet(old, bobs))
    with pytest.raises(AuthRequired):
        backend.push(push(put(1, "a", {"n": 1})))
    assert between.tokens == [old]
    assert backend.refused_token_wait_ms() == 0  # there is another one now, and the next call says whose it is
    with pytest.raises(AuthRequired, match="another user"):
        backend.hello(hello())
    assert between.tokens == [old]
    assert backend.refused_token_wait_ms()


# An engine in the background ---------------------------------------------------------------------------------------


def test_the_queue_waits_for_a_sign_in_without_a_call_and_leaves_after_it(
    tmp_path: Path, between: Between, opened: Open
) -> None:
    old = fresh()
    between.ended.add(old)
    wallet = Wallet(old)
    backend = opened(wallet)
    assert isinstance(backend, RemembersRefusals)
    with impatient(tmp_path, backend=backend) as engine:
        engine.start()
        until(lambda: engine.status().connectivity.verdict == "auth_required")
        refused = between.tokens.count(old)
        time.sleep(1.5)  # with these settings a hundred looks
        assert (between.tokens.count(old), wallet.renewals) == (refused, 1)
        assert engine.status().outbox.waiting + engine.status().outbox.claimed == 1
        wallet.token = fresh()
        until(lambda: engine.status().outbox.waiting + engine.status().outbox.claimed == 0)
        assert [row.key for row in backend.rows(rows(collection="plans")).rows] == ["a"]
