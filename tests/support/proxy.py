"""A bad link: between a board and a server, it delays what passes and breaks connections."""

import asyncio
import collections
import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from servers import DEADLINE_S, HOST, Server


class Proxy(Server):
    """Passes TCP on to `upstream`, whose path and scheme its URLs have.

    `rtt_s` is the time that a byte and its answer need on top of what they need without it. With `window` only so many of
    the server's bytes are on their way in a round trip, as a receiver has room for no more. `cut_at=n` ends the
    connection once, in place of the server's TLS record number n, counted from 1 over all connections;
    `records` is how many there were, `was_cut` whether it came to that. With `bytes_s` the server's bytes come
    so slowly, those of each connection behind the first `fast`. `spoil` maps the number of a record to
    what makes another of it. `down_bytes` is how many came from the server.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(
        self,
        upstream: Server,
        *,
        rtt_s: float = 0,
        window: int = 0,
        cut_at: int = 0,
        bytes_s: float = 0,
        fast: int = 0,
        spoil: Mapping[int, Callable[[bytes], bytes]] | None = None,
    ) -> None:
        super().__init__(upstream.identity)
        self.bytes_s = bytes_s
        self.fast = fast
        self.spoil = dict(spoil or {})
        self.upstream = upstream
        self.rtt_s = rtt_s
        self.window = window
        self.down_bytes = 0
        self.cut_at = cut_at
        self.records = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def was_cut(self) -> bool:
        """Whether the connection was ended."""
        return 0 < self.cut_at <= self.records

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._listener = self._run(asyncio.start_server(self._accept, HOST, self.port))
        self.port = self._listener.sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self._loop is None:
            return
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    async def _end(self) -> None:
        # Those who come just now come in first: asyncio forgets them when it closes the listener.
        while tasks := asyncio.all_tasks() - self._tasks - {asyncio.current_task()}:
            await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a task that _end() finds: asyncio itself holds on to none."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(self._connect(reader, writer))

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            there, back = await asyncio.open_connection(HOST, self.upstream.port)
            ends.append(back)
            up = self._begin(self._pass(reader, back, self._pieces))
            pieces = self._pieces
            if self.cut_at or self.spoil:
                pieces = self._records
            elif self.bytes_s:
                pieces = self._slowly
            elif self.window:
                pieces = self._windowed
            # When the server's side has ended, so has the connection; the board's may end first.
            await self._pass(there, writer, pieces, down=True)
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
        finally:
            for end in ends:
                end.close()
            for end in ends:
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _pass(self, reader, writer, pieces, *, down: bool = False) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(due - loop.time())
                if not data:
                    return
                writer.write(data)

        delivery = self._begin(deliver())
        try:
            with contextlib.suppress(ConnectionError):
                async for data in pieces(reader):
                    self.down_bytes += len(data) * down
                    queue.put_nowait((loop.time() + self.rtt_s / 2, data))
            queue.put_nowait((loop.time() + self.rtt_s / 2, b""))
            await delivery
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            pass  # the other side has hung up
        finally:
            delivery.cancel()

    async def _pieces(self, reader):
        while data := await reader.read(65536):
            yield data

    async def _slowly(self, reader):
        fast = self.fast
        size = max(1, int(self.bytes_s / 50))
        while data := await reader.read(4096):
            if fast:
                yield data[:fast]
                data, fast = data[fast:], fast - len(data[:fast])
            for i in range(0, len(data), size):
                piece = data[i : i + size]
                await asyncio.sleep(len(piece) / self.bytes_s)
                yield piece

    async def _windowed(self, reader):
        loop = asyncio.get_running_loop()
        room = self.window
        flying: collections.deque[tuple[float, int]] = collections.deque()
        while data := await reader.read(room):
            room -= len(data)
            # Their acknowledgement comes a round trip after they went out, and makes room.
            flying.append((loop.time() + self.rtt_s, len(data)))
            yield data
            while not room or (flying and flying[0][0] <= loop.time()):
                due, n = flying.popleft()
                await asyncio.sleep(due - loop.time())
                room += n

    async def _records(self, reader):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(5)
                data = await reader.readexactly(int.from_bytes(head[3:], "big"))
                self.records += 1
                if self.records == self.cut_at:
                    return
                spoil = self.spoil.pop(self.records, None)
                yield spoil(head + data) if spoil else head + data

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_S)
