"""A window hears the engine on its own thread, whatever thread the engine works on, and can harm nothing."""

import asyncio
import os
import queue
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from flow_world import WalkThrough, column, filled, registry

from syncengine import Engine, Settings
from syncengine.callbacks import PROGRESS_WAITING_MAX, CallbackQueue, TkCallbacks, on_asyncio, on_qt
from syncengine.events import MigrationEnded, MigrationProgressed, MigrationStarted


def migrating(path, **given):
    """A thread that migrates as an app's worker does, and what came of it."""
    reports = []

    def work():
        settings = Settings(batch_rows=1)
        with Engine.open(path, registry=registry(WalkThrough(20), **FACTS), settings=settings, **given) as engine:
            reports.append(engine.migrate())

    return threading.Thread(target=work), reports


FACTS = {"asks_for_major": True}
ROOT = Path(__file__).resolve().parents[2]


def test_a_loop_that_polls_hears_every_event_in_order_on_its_own_thread(tmp_path):
    waiting, heard = CallbackQueue(), []
    worker, reports = migrating(
        filled(tmp_path / "app.db"),
        consent=lambda request: True,
        listener=waiting.listener(lambda event: heard.append((event, threading.get_ident()))),
    )
    worker.start()
    worker.join(20)
    assert heard == []  # nothing before the window looks
    while waiting.poll():
        pass
    assert reports[0].success
    assert {thread for _, thread in heard} == {threading.get_ident()}
    assert isinstance(heard[0][0], MigrationStarted)
    assert isinstance(heard[-1][0], MigrationEnded)


def test_an_asyncio_app_hears_and_answers_in_its_loop(tmp_path):
    path, heard, asked = filled(tmp_path / "app.db"), [], []

    async def app():
        waiting = on_asyncio(asyncio.get_running_loop())
        ended = asyncio.Event()

        def hear(event):
            heard.append((event, threading.get_ident()))
            if isinstance(event, MigrationEnded):
                ended.set()

        def ask(request):
            asked.append(threading.get_ident())
            return True

        worker, reports = migrating(path, consent=waiting.consent(ask), listener=waiting.listener(hear))
        worker.start()
        await asyncio.wait_for(ended.wait(), 20)
        await asyncio.to_thread(worker.join, 20)
        return reports

    [report] = asyncio.run(app())
    assert report.success
    assert {thread for _, thread in heard} == {*asked} == {threading.get_ident()}


@pytest.mark.parametrize(("answer", "deferred"), [(True, []), (False, ["walk"])])
def test_a_coroutine_may_ask_while_the_loop_goes_on(tmp_path, answer, deferred):
    path = filled(tmp_path / "app.db")

    async def app():
        waiting, asked = on_asyncio(asyncio.get_running_loop()), []

        async def ask(request):
            asked.append(threading.get_ident())
            await asyncio.sleep(0)
            return answer

        worker, reports = migrating(path, consent=waiting.consent(ask))
        await asyncio.to_thread(run_to_end, worker)
        return reports, asked

    reports, asked = asyncio.run(app())
    assert asked == [threading.get_ident()]
    assert [left.migration_id for left in reports[0].deferred] == deferred


def run_to_end(worker):
    worker.start()
    worker.join(20)


def test_a_coroutine_that_does_not_answer_or_cannot_be_waited_for_is_a_no(tmp_path):
    path = filled(tmp_path / "app.db")

    async def app():
        waiting = on_asyncio(asyncio.get_running_loop())

        async def never(request):
            await asyncio.Event().wait()

        worker, reports = migrating(path, consent=waiting.consent(never, wait_ms_max=50))
        await asyncio.to_thread(run_to_end, worker)
        given = {"registry": registry(WalkThrough(1), **FACTS), "consent": waiting.consent(never)}
        with Engine.open(path, **given) as engine:
            reports.append(engine.migrate())
        return reports

    late, inside = asyncio.run(app())
    assert late.deferred[0].reason == "the user declined"
    assert inside.deferred[0].reason == "the app's consent callback failed (CalledFromInside)"


class HandSignal:
    """A signal as Qt's: what is emitted on any thread is delivered by the loop of the receiver's."""

    def __init__(self):
        self.loop = queue.Queue()

    def emit(self):
        self.loop.put(None)


def test_a_qt_window_is_woken_by_its_signal_and_polls_in_its_slot(tmp_path):
    signal, heard = HandSignal(), []
    waiting = on_qt(signal)
    worker, _ = migrating(
        filled(tmp_path / "app.db"),
        consent=waiting.consent(lambda request: True),
        listener=waiting.listener(heard.append),
    )
    worker.start()
    while not any(isinstance(event, MigrationEnded) for event in heard):
        signal.loop.get(timeout=20)
        waiting.poll()
    worker.join(20)


@pytest.fixture
def display(monkeypatch):
    """A screen for a window: the one that there is, or one of Xvfb's own."""
    if os.environ.get("DISPLAY"):
        yield
        return
    if shutil.which("Xvfb") is None:
        pytest.skip("there is no display for a window, and no Xvfb to make one")
    reading, writing = os.pipe()
    screen = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-nolisten", "tcp"], pass_fds=(writing,), stderr=subprocess.DEVNULL
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as said:
            monkeypatch.setenv("DISPLAY", f":{said.readline().strip()}")
        yield
    finally:
        screen.terminate()
        screen.wait(timeout=30)


@pytest.mark.usefixtures("display")
def test_a_tk_window_hears_every_event_and_asks_in_its_main_loop(tmp_path):
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    # In a process of its own: what is left of a window must not be collected by another test's thread (Tcl aborts).
    code = "import sys; from tests.integration.test_callbacks import show_window; show_window(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "integration")])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "app.db")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "success True\n"), done.stderr


def show_window(path):
    """The whole life of a window beside a worker that migrates."""
    import tkinter  # where there is one

    root = tkinter.Tk()
    waiting, heard = TkCallbacks(root), []

    def hear(event):
        heard.append(event)
        assert threading.current_thread() is threading.main_thread()
        if isinstance(event, MigrationEnded):
            root.quit()

    worker, reports = migrating(
        filled(path), consent=waiting.consent(lambda request: True), listener=waiting.listener(hear)
    )
    worker.start()
    root.mainloop()
    worker.join(20)
    waiting.stop()
    waiting.stop()
    root.destroy()
    print("success", reports[0].success)


class HandRoot:
    """A window's timer, run by hand."""

    def __init__(self):
        self.due = {}

    def after(self, ms, func):
        assert threading.current_thread() is threading.main_thread()
        self.due[name := f"after#{len(self.due)}"] = func
        return name

    def after_cancel(self, name):
        del self.due[name]

    def tick(self):
        due, self.due = self.due, {}
        for func in due.values():
            func()


def test_a_timer_of_the_window_is_set_from_its_own_thread_alone_and_ends_with_stop(tmp_path):
    root, heard = HandRoot(), []
    waiting = TkCallbacks(root)
    worker, _ = migrating(
        filled(tmp_path / "app.db"), consent=lambda request: True, listener=waiting.listener(heard.append)
    )
    worker.start()
    worker.join(20)
    while not heard:
        root.tick()
    assert isinstance(heard[0], MigrationStarted)
    waiting.stop()
    assert root.due == {}


def test_an_answer_that_does_not_come_in_time_is_none(tmp_path):
    waiting = CallbackQueue()
    worker, reports = migrating(
        filled(tmp_path / "app.db"), consent=waiting.consent(lambda request: True, wait_ms_max=50)
    )
    worker.start()
    worker.join(20)
    assert [deferred.migration_id for deferred in reports[0].deferred] == ["walk"]


def test_a_dialog_that_raises_is_no_answer_and_the_other_callbacks_go_on(caplog):
    waiting, heard = CallbackQueue(), []

    def raises(event):
        raise RuntimeError("a secret")

    waiting.listener(raises)("one")
    waiting.listener(heard.append)("two")
    assert waiting.poll() == 2
    assert heard == ["two"]
    assert "secret" not in caplog.text
    answers = []
    ask = waiting.consent(raises, wait_ms_max=20_000)
    thread = threading.Thread(target=lambda: answers.append(ask("?")))
    thread.start()
    while thread.is_alive():
        waiting.poll()
    assert answers == [False]


def test_a_window_that_is_gone_harms_no_migration(tmp_path, caplog):
    def gone():
        raise RuntimeError("wrapped C/C++ object has been deleted")

    waiting = CallbackQueue(wake=gone)
    given = {"registry": registry(column("c")), "listener": waiting.listener(lambda event: None)}
    with Engine.open(filled(tmp_path / "app.db"), **given) as engine:
        assert engine.migrate().success
    assert "cannot be woken" in caplog.text


def test_a_window_that_never_looks_loses_progress_only_and_holds_a_bounded_queue():
    waiting, heard = CallbackQueue(), []
    hear = waiting.listener(heard.append)
    hear(MigrationStarted(migration="m", total=None))
    for number in range(PROGRESS_WAITING_MAX + 500):
        hear(MigrationProgressed(migration="m", done=number, total=None))
    hear(MigrationEnded(migration="m", success=True))
    while waiting.poll():
        pass
    assert len(heard) == PROGRESS_WAITING_MAX + 2
    assert isinstance(heard[-1], MigrationEnded)
