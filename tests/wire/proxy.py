"""A TCP proxy with weather: delay, rate, cuts, silence. What passes through it stays encrypted end to end."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

BLOCK = 16 << 10


@dataclass
class Weather:
    """How bad the line is; may be changed while connections live.

    Args:
        delay: seconds that every block is late, each way.
        rate: bytes per second of one direction of a connection; 0 for no limit.
        cut_every: reset all connections whenever so many bytes have passed, both ways together; 0 for never.
        cuts: how many resets remain.
        silent: nothing passes, and nobody is told.
        closed: new connections are reset at once.
    """

    delay: float = 0.0
    rate: float = 0.0
    cut_every: int = 0
    cuts: int = 1 << 30
    silent: bool = False
    closed: bool = False


class Proxy:
    """A proxy to one server, on a thread of its own; a context manager.

    Args:
        port: the server's port on this machine.
        weather: how bad the line is; fair by default.
    """

    def __init__(self, port: int, weather: Weather | None = None) -> None:
        self.weather = weather or Weather()
        self.up = self.down = 0  # bytes that were passed on to the server, and to clients
        self.port = 0
        self.made_cuts = 0
        self._target = port
        self._until_cut = self.weather.cut_every
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        listening = socket.socket()
        # connections inherit it: what waits in a kernel's buffer has passed the line as far as its sender sees
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * BLOCK)
        listening.bind(("127.0.0.1", 0))
        self._server = self._ask(asyncio.start_server(self._serve, sock=listening, limit=BLOCK))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._ask(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self) -> None:
        """Reset every connection now."""
        self._ask(self._cut())

    def _ask(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _end(self) -> None:
        self._server.close()
        await self._cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.weather.closed:
            writer.transport.abort()
            return
        both = {writer}
        with suppress(OSError, asyncio.CancelledError):
            await self._greet(reader, writer)
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
            both.add(server_writer)
            self._open |= both
            await asyncio.gather(
                self._pass_on(reader, server_writer, self._count_up),
                self._pass_on(server_reader, writer, self._count_down),
            )
        self._open -= both
        for one in both:
            one.transport.abort()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say what comes before anything is passed on: nothing."""

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None]
    ) -> None:
        with suppress(OSError):
            while block := await reader.read(self._at_once()):
                while self.weather.silent:  # noqa: ASYNC110 - the test sets it from another thread
                    await asyncio.sleep(0.02)
                if self.weather.delay or self.weather.rate:
                    await asyncio.sleep(self.weather.delay + len(block) / (self.weather.rate or float("inf")))
                count(len(block))
                writer.write(block)
                await writer.drain()
                await self._maybe_cut(len(block))
            if writer.can_write_eof():
                writer.write_eof()

    def _at_once(self) -> int:
        """How much is passed on at once: no more than is left before a cut, which then falls on its very byte."""
        return min(BLOCK, max(self._until_cut, 1)) if self.weather.cut_every and self.weather.cuts > 0 else BLOCK

    async def _maybe_cut(self, passed: int) -> None:
        weather = self.weather
        if not weather.cut_every or weather.cuts <= 0:
            return
        self._until_cut = min(self._until_cut, weather.cut_every) if self._until_cut > 0 else weather.cut_every
        self._until_cut -= passed
        if self._until_cut <= 0:
            weather.cuts -= 1
            self.made_cuts += 1
            await self._cut()

    def _count_up(self, count: int) -> None:
        self.up += count

    def _count_down(self, count: int) -> None:
        self.down += count


class Tunnel(Proxy):
    """The same as a proxy that clients ask for a tunnel, as a hospital's does; `asked` lists where to."""

    def __init__(self, port: int, weather: Weather | None = None) -> None:
        super().__init__(port, weather)
        self.asked: list[str] = []

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.decode().splitlines()[0])
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
