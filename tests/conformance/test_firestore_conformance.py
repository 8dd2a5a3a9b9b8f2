"""The suite against Google's Firestore emulator, under the shipped security rules: no server of ours takes part."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.conformance.backend_suite")

from simulator.emulator import PROJECT, FirestoreEmulator, id_token  # noqa: E402
from syncengine.firestore.backend import FirestoreBackend  # noqa: E402 - rewriting must be asked for before the import
from syncengine.remote.backend import Backend  # noqa: E402
from tests.conformance.backend_suite import BackendSuite, Operator, SignIn  # noqa: E402


class FirestoreOperator:
    """What an operator does to the project's database: export it, import it again, forget tombstones."""

    def __init__(self, emulator: FirestoreEmulator) -> None:
        self._emulator = emulator

    def take_copy(self) -> None:
        self._copy = self._emulator.all_documents()

    def bring_copy_back(self) -> None:
        self._emulator.put_back(self._copy)

    def forget_deleted(self) -> None:
        backend = FirestoreBackend(PROJECT, token=lambda: id_token("ann"), emulator=self._emulator.host)
        # The emulator's clock is this machine's, to the millisecond: a day from now everything is old.
        backend.forget_deleted("ann", keep_days=-1)
        backend.close()


class TestFirestoreBackend(BackendSuite):
    @pytest.fixture
    def opened(self) -> Iterator[list[FirestoreBackend]]:
        backends: list[FirestoreBackend] = []
        yield backends
        for backend in backends:
            backend.close()

    @pytest.fixture
    def sign_in(self, emulator: FirestoreEmulator, opened: list[FirestoreBackend]) -> SignIn:
        schema_min = {"schema_min": {"stringValue": "2.0.0"}}
        window = {"name": f"{emulator.documents}/~apps/windowed-app", "fields": schema_min}
        assert emulator.commit([{"update": window}]).status_code == 200

        def sign_in(user: str) -> Backend:
            opened.append(FirestoreBackend(PROJECT, token=lambda: id_token(user), emulator=emulator.host))
            return opened[-1]

        return sign_in

    @pytest.fixture
    def stranger(self, emulator: FirestoreEmulator, opened: list[FirestoreBackend]) -> Backend:
        opened.append(FirestoreBackend(PROJECT, token=lambda: "f" * 64, emulator=emulator.host))
        return opened[-1]

    @pytest.fixture
    def operator(self, emulator: FirestoreEmulator) -> Operator:
        return FirestoreOperator(emulator)
