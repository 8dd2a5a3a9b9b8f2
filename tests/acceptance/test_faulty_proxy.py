"""A real server, real stores, real HTTP, and between them a network that loses, repeats, keeps and reorders.

Each test ends with the same judgement: every acknowledged edit took effect at the server exactly once, in order, or
is in quarantine with its reason; nothing waits; and both devices have what the server has.
"""

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from simulator.faulty_proxy import Fate, FaultyProxy, Planned, always
from syncengine.clock import SystemClock
from syncengine.local.connection import open_server_db
from tests.acceptance.letters import Account, AppProcess, Device, check_exactly_once, place_witness, settle
from tests.conformance.server_process import ServerProcess

pytestmark = pytest.mark.acceptance


class World:
    """The devices of one user, each behind a network of its own, and the server."""

    def __init__(self, folder: Path, server: ServerProcess, *, user: str) -> None:
        self.folder = folder
        self.server = server
        self.account = Account(user=user, token=server.sign_in(user), cloud_folder=server.folder)
        self._proxies: list[FaultyProxy] = []
        self._devices: list[Device | AppProcess] = []

    def network(self, chance: random.Random | None = None) -> FaultyProxy:
        self._proxies.append(FaultyProxy(self.server.url, clock=SystemClock(), chance=chance))
        return self._proxies[-1]

    def device(self, name: str, network: FaultyProxy | None = None) -> Device:
        url = (network or self.network()).url
        device = Device(self.folder / f"{name}.db", url=url, account=self.account, name=name)
        self._devices.append(device)
        return device

    def app_process(self, name: str, network: FaultyProxy) -> AppProcess:
        app = AppProcess(self.folder / f"{name}.db", url=network.url, account=self.account, name=name)
        self._devices.append(app)
        return app

    def copy_of(self, device: Device, network: FaultyProxy) -> Device:
        """Somebody copies the file of an app that is closed, and opens the copy elsewhere."""
        device.close()
        shutil.copyfile(device.path, self.folder / "copy.db")
        device.open()
        return self.device("copy", network)

    def back_up(self) -> None:
        """A copy of the running server's database by SQLite's backup API."""
        running = open_server_db(str(self.server.folder / "cloud.db"))
        copy = apsw.Connection(str(self.folder / "backup.db"))
        with copy.backup("main", running, "main") as backup:
            backup.step()
        copy.close()
        running.close()

    def restore(self) -> None:
        """The server stops, the copy takes the place of its database, and it starts again, on another port."""
        self.server.stop()
        shutil.rmtree(self.server.folder)
        self.server.folder.mkdir(mode=0o700)
        shutil.copyfile(self.folder / "backup.db", self.server.folder / "cloud.db")
        self.server.start()
        for proxy in self._proxies:
            proxy.server_url = self.server.url

    def close(self) -> None:
        for device in self._devices:
            device.close()
        for proxy in self._proxies:
            proxy.close()


@contextmanager
def running_server(folder: Path) -> Iterator[ServerProcess]:
    place_witness(folder)
    with ServerProcess(folder) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """For tests that leave it as it is; each signs in a user of its own."""
    with running_server(tmp_path_factory.mktemp("cloud")) as server:
        yield server


@pytest.fixture
def world(server: ServerProcess, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with closing(World(tmp_path, server, user=request.node.name)) as world:
        yield world


@pytest.fixture
def own_world(tmp_path: Path) -> Iterator[World]:
    """With a server of its own, whose database may be put back."""
    with running_server(tmp_path / "cloud") as server, closing(World(tmp_path, server, user="ann")) as world:
        yield world


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.ANSWER_CUT, Fate.ANSWER_STALE], ids=lambda fate: fate.name)
def test_an_answer_that_is_lost_after_the_commit_delivers_each_edit_once(world: World, fate: Fate) -> None:
    network = world.network()
    one, two = world.device("one", network), world.device("two")
    one.write("x", "y")
    settle(one, two)
    for call in ("push", "pull", "hello"):
        network.script = Planned(call, [fate] * 3)
        for key in "abcdefg":
            one.write(f"{call}-{key}")
        one.write("x", "y")
        two.write("x", f"{call}-of-two")
        settle(one, two)
        assert network.met[call, fate] == 3
    cloud = check_exactly_once(world.account, one, two)
    assert cloud.lanes == 2


def test_a_request_that_arrives_twice_takes_effect_once(world: World) -> None:
    network = world.network()
    one, two = world.device("one", network), world.device("two")
    network.script = always(Fate.TWICE)
    for key in "abcde":
        one.write(key)
    settle(one, two)
    network.script = always(Fate.PASSES)
    one.write("a", "b")
    two.write("c")
    one.delete("e")
    settle(one, two)
    network.deliver_late()  # the first words of a and b, and all of e, behind what came after them
    settle(one, two)
    assert {"duplicate"} == late_results(network)
    check_exactly_once(world.account, one, two)
    assert one.letters().keys() == {"a", "b", "c", "d"}


def test_requests_that_overtake_each_other_take_effect_once_and_in_the_order_of_the_edits(world: World) -> None:
    network = world.network()
    one, two = world.device("one", network), world.device("two")
    network.script = Planned("push", [Fate.HELD_BACK] * 4)
    for _ in range(4):
        one.write("a", "b")
        one.write("c")
        one.sync()
    settle(one, two)
    one.write("a", "b", "c")
    one.delete("b")
    settle(one, two)
    network.deliver_late()
    settle(one, two)
    assert len(network.late_answers) == 4
    assert {"duplicate"} == late_results(network)
    check_exactly_once(world.account, one, two)


def late_results(network: FaultyProxy) -> set[str]:
    """What the server said of entries that came late."""
    pushes = [json.loads(answer.body) for request, answer in network.late_answers if request.call == "push"]
    return {result["status"] for answer in pushes for result in answer["results"]}


def test_a_power_loss_between_claim_and_send_loses_and_doubles_nothing(world: World) -> None:
    network = world.network()
    one, two = world.app_process("one", network), world.device("two")
    for key in "abcdefgh":
        one.write(key)
    network.script = Planned("push", [Fate.PASSES, Fate.STOPPED])
    one.begin_sync()
    assert network.wait_until_stopped()
    one.kill()
    assert "claimed" in {state for _, state, _, _ in one.outbox()}
    one.start()
    one.write("a")
    one.write("i")
    settle(one, two)
    check_exactly_once(world.account, one, two)


def test_a_server_that_was_restored_from_an_older_backup_is_told_again_what_it_lost(own_world: World) -> None:
    world = own_world
    network = world.network()
    one, two = world.device("one", network), world.device("two")
    for key in "abcd":
        one.write(key)
    two.write("e", "f")
    settle(one, two)
    world.back_up()
    one.write("a", "g")
    one.delete("b")
    two.write("c", "h")
    settle(one, two)
    one.write("d", "i")
    two.write("a")
    network.script = Planned("push", [Fate.ANSWER_LOST])
    one.sync()
    world.restore()
    settle(one, two)
    check_exactly_once(world.account, one, two)
    assert one.letters().keys() == set("acdefghi")


def test_two_copies_of_one_store_go_on_as_one_device_and_lose_and_double_nothing(world: World) -> None:
    network = world.network()
    one, two = world.device("one", network), world.device("two")
    one.write("a", "b")
    two.write("c")
    settle(one, two)
    copy = world.copy_of(one, network)
    for _ in range(3):
        for device in (one, copy):
            for key in ("a", "b", "c", f"new-of-{device.name}"):
                device.write(key)
        network.script = Planned("push", [Fate.ANSWER_LOST, Fate.PASSES, Fate.HELD_BACK, Fate.ANSWER_CUT])
        settle(one, copy, two)
    network.deliver_late()
    settle(one, copy, two)
    check_exactly_once(world.account, one, copy, two)
