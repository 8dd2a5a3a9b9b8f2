"""A real server, real stores, real HTTP, and between them a network that loses, repeats, keeps and reorders.

Each test ends with the same judgement: every acknowledged edit took effect at the server exactly once, in order, or
is in quarantine with its reason; nothing waits; and both devices have what the server has.
"""

import json
import math
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from simulator.faulty_proxy import Fate, FaultyProxy, Planned, Request, Seeded, always
from syncengine.clock import SystemClock
from syncengine.local.connection import open_server_db
from tests.acceptance.letters import (
    Account,
    AppProcess,
    CloudSight,
    Device,
    check_exactly_once,
    place_witness,
    settle,
)
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
        self._start_anew(lambda: shutil.copyfile(self.folder / "backup.db", self.server.folder / "cloud.db"))

    def lose_everything(self) -> None:
        """The server's database is gone, without a copy; it starts with an empty one, and knows the user again."""
        self._start_anew(lambda: place_witness(self.server.folder))
        assert self.server.sign_in(self.account.user) == self.account.token

    def _start_anew(self, place_database: Callable[[], object]) -> None:
        self.server.stop()
        shutil.rmtree(self.server.folder)
        self.server.folder.mkdir(mode=0o700)
        place_database()
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


def test_a_push_of_what_was_destroyed_at_the_sign_out_has_no_effect_when_it_comes_late(world: World) -> None:
    network = world.network()
    one, two = world.device("one", network), world.device("two")
    one.write("a", "b")
    settle(one, two)
    network.script = Planned("push", [Fate.HELD_BACK])
    one.write("a")
    assert one.sync() != "drained"
    one.engine.logout(unsent="destroy")
    one.edits.pop()
    one.engine.switch_user(world.account.user)
    settle(one, two)
    one.write("a", "b")
    settle(one, two)
    network.deliver_late()
    settle(one, two)
    assert late_results(network) == {"reused"}
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


def test_what_the_first_device_writes_to_a_server_that_has_lost_everything_stays(own_world: World) -> None:
    world = own_world
    one, two = world.device("one"), world.device("two")
    for _ in range(4):
        one.write("often")
        one.sync()
    one.write("a")
    two.write("b")
    settle(one, two)
    world.lose_everything()
    one.write("a")
    one.sync()
    one.sync()
    settle(two, one)
    assert one.letters() == two.letters() == CloudSight(world.account).letters
    assert one.letters()["a"]["one"] == one.edits[-1].word
    assert one.letters().keys() == {"often", "a", "b"}


def test_two_copies_of_one_store_go_on_as_one_device_and_lose_and_double_nothing(world: World) -> None:
    network = world.network()
    one, two = world.device("one", network), world.device("two")
    one.write("a", "b")
    two.write("c")
    settle(one, two)
    of_copy = world.network()
    copy = world.copy_of(one, of_copy)
    for _ in range(3):
        for device in (one, copy):
            for key in ("a", "b", "c", f"new-of-{device.name}"):
                device.write(key)
        of_copy.script = Planned("push", [Fate.REFUSED])
        copy.sync()  # its edits have numbers now, which the other one uses before it
        network.script = Planned("push", [Fate.ANSWER_LOST, Fate.PASSES, Fate.HELD_BACK, Fate.ANSWER_CUT])
        settle(one, copy, two)
    network.deliver_late()
    settle(one, copy, two)
    check_exactly_once(world.account, one, copy, two)


SEEDS = range(int(os.environ.get("SYNCENGINE_FAULTY_SEEDS", "2")))
"""More of them by the environment variable; each takes some seconds."""
FAULTS = tuple(fate for fate in Fate if fate not in (Fate.PASSES, Fate.STOPPED))
FAULTY_SHARE = 0.3
SHARED_LETTERS = tuple("abcdefgh")


@pytest.mark.parametrize("seed", SEEDS)
def test_any_mixture_of_faults_loses_and_doubles_nothing(world: World, seed: int) -> None:
    mixture = Mixture(world, random.Random(seed))
    mixture.play()
    check_exactly_once(world.account, *mixture.devices)
    assert {key for device in mixture.devices for key, _, _ in device.set_aside()} == {"too-heavy"}
    for network in mixture.networks:
        assert set(FAULTS) & {fate for _, fate in network.met}


class Mixture:
    """What people and devices do in some order, while every third request goes wrong somehow."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self._world = world
        self._chance = chance
        self.networks = [world.network(random.Random(chance.random())) for _ in range(2)]
        self.one, self.two = (world.device(name, self.networks[n]) for n, name in enumerate(("one", "two")))
        self.devices = [self.one, self.two]

    def play(self) -> None:
        """All of it, until every network is well again and all that was on its way has arrived."""
        self.one.write(*SHARED_LETTERS)
        self._rest()
        self.one.write("too-heavy", weight=math.inf)  # no JSON can carry it
        self._act(30)
        self._rest()
        self.devices.append(self._world.copy_of(self.one, self.networks[0]))
        self._act(15)
        self._rest()

    def _rest(self) -> None:
        self._let_pass()
        settle(*self.devices)
        for network in self.networks:
            network.deliver_late()
        settle(*self.devices)
        self._let_fail()

    def _let_fail(self) -> None:
        for network in self.networks:
            network.script = Seeded(random.Random(self._chance.random()), share=FAULTY_SHARE, fates=FAULTS)

    def _let_pass(self) -> None:
        for network in self.networks:
            network.script = always(Fate.PASSES)

    def _act(self, times: int) -> None:
        acts = [self._write, self._sync, self._delete, self._lose_power]
        for act in self._chance.choices(acts, [8, 8, 2, 1], k=times):
            act(self._chance.choice(self.devices))

    def _write(self, device: Device) -> None:
        own = f"of-{device.name}-{self._chance.randrange(3)}"
        device.write(*self._chance.sample([*SHARED_LETTERS, own], self._chance.randrange(1, 4)))

    def _sync(self, device: Device) -> None:
        device.sync()

    def _delete(self, device: Device) -> None:
        """One that nobody else writes to: else the other's words were set aside, and had to be decided on."""
        key = f"mortal-{device.name}-{len(device.edits)}"
        device.write(key)
        if self._chance.random() < 0.7:
            device.sync()
        device.delete(key)

    def _lose_power(self, device: Device) -> None:
        """While a push is on its way there, or its answer back: the store is as it was at that moment."""
        network = self.networks[device is self.two]
        usual, fate = network.script, self._chance.choice([Fate.REFUSED, Fate.HELD_BACK, Fate.ANSWER_LOST])

        def script(request: Request) -> Fate:
            if request.call != "push" or network.script is usual:
                return Fate.PASSES
            device.keep_image()
            network.script = usual
            return fate

        device.write("a")
        network.script = script
        device.sync()
        assert network.script is usual, "nothing was pushed"
        device.go_back_to_image()
