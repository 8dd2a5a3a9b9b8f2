"""The app's only way to its server: a loopback port that a person can open, shut, slow down and cut."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

_CHUNK_BYTES = 64 * 1024
_COMMAND_SECONDS_MAX = 5.0
_REQUEST_BEGINS = (b"GET ", b"POST ")
# With a linger of 0 seconds close() sends RST, as a cable that is pulled out and a middlebox that gives up do.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Result = TypeVar("Result")


class Gate:
    """Carries bytes between its own port and the server's. Shut at first; what arrives then is reset at once.

    All methods may be called from any thread and take a bounded time. Use it in a `with` block.
    """

    def __init__(self, server_url: str, *, latency_ms: int = 0) -> None:
        host, server_port = server_url.removeprefix("http://").rsplit(":", 1)
        self._server = (host, int(server_port))
        self._latency_ms = latency_ms
        self._is_open = False
        self._lose_next_answer = False
        self._lose_to = b""
        self._answer_lost = threading.Event()
        self._lines: set[_Line] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulator-gate", daemon=True)
        self._thread.start()
        self._listener = self._do(self._listen())
        port = self._listener.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def open(self) -> None:
        """Let everything through from now on."""
        self._is_open = True

    def shut(self) -> None:
        """Reset all connections, and each new one."""
        self._is_open = False
        self._do(self._cut_all())

    def lose_next_answer(self, *, to: bytes = b"") -> None:
        """Shut at the moment when the server answers next: it has done what it was asked, and nobody hears of it.

        `to`: words in the first line of the request whose answer it is.
        """
        self._answer_lost.clear()
        self._lose_to = to
        self._lose_next_answer = True

    def wait_until_answer_is_lost(self, *, wait_ms_max: int) -> bool:
        """Whether that has happened in time."""
        return self._answer_lost.wait(wait_ms_max / 1000)

    def close(self) -> None:
        """Reset all connections and give the port back."""
        self.shut()
        self._do(self._stop_listening())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_COMMAND_SECONDS_MAX)
        self._loop.close()

    def __enter__(self) -> "Gate":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_COMMAND_SECONDS_MAX)

    # On the gate's own thread.

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._arrived, "127.0.0.1", 0)

    async def _stop_listening(self) -> None:
        self._listener.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _cut_all(self) -> None:
        for line in tuple(self._lines):
            line.cut()

    async def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = _Line(writer)
        self._lines.add(line)
        try:
            if self._is_open:
                await self._connect(line, reader)
        finally:
            line.cut()
            self._lines.discard(line)

    async def _connect(self, line: "_Line", reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            answers, server = await asyncio.open_connection(*self._server)
            line.add(server)
            await asyncio.gather(self._carry_requests(reader, server, line), self._carry_answers(answers, line))

    async def _carry_requests(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, line: "_Line"
    ) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            if data.startswith(_REQUEST_BEGINS):
                line.asked = data.partition(b"\r\n")[0]
            await asyncio.sleep(self._latency_ms / 1000)
            server.write(data)
            await server.drain()
        server.close()

    async def _carry_answers(self, answers: asyncio.StreamReader, line: "_Line") -> None:
        while data := await answers.read(_CHUNK_BYTES):
            await asyncio.sleep(self._latency_ms / 1000)
            if self._lose_next_answer and self._lose_to in line.asked:
                self._lose_next_answer = self._is_open = False
                await self._cut_all()
                self._answer_lost.set()
                return
            line.client.write(data)
            await line.client.drain()
        line.client.close()


class _Line:
    """One connection of the app and its continuation to the server."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.asked = b""
        """The first line of the request that is being answered."""
        self._ends = [client]

    def add(self, server: asyncio.StreamWriter) -> None:
        self._ends.append(server)

    def cut(self) -> None:
        """Reset both ends; what is under way is lost."""
        for end in self._ends:
            with suppress(OSError):
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.transport.abort()
