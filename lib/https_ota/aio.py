# Updates beside other asyncio tasks: the same session, on connections that never wait.
#
# The event loop is held for a sector's erase and program at most; and by what can't be cut in pieces: looking up a
# host's name, a flight of the TLS handshake, the arithmetic of a signature or of a private key.

import asyncio
from asyncio import core

from micropython import const

from . import ota
from .errors import no_memory

_PAUSE_MS = const(10)  # for a source that has nothing yet, and does not tell what it waits for
_MOST_MS = const(250)  # to wait at once, so that watchdog and deadlines are looked at

_open = set()  # sessions that have begun and not ended: see abort()


class OTA:
    """As ota.OTA, with the same options, to be awaited: begin(), perform() until it returns False, finish().

    `async with` aborts unless finish() was reached, `async for event, value in OTA(...)` does all of it and tells
    what happens (see events.py). A task that is cancelled closes all and keeps the record for going on later.
    The object's other attributes are those of ota.OTA.
    """

    def __init__(self, url, **options):
        self._events = []
        self._given = options.pop("event", None)
        self._ota = ota.OTA(url, event=self._on_event, **options)
        self._keep = False  # events, for `async for`
        self._next = self._first

    def __getattr__(self, name):
        return getattr(self._ota, name)

    def _on_event(self, event, value):
        if self._keep:
            self._events.append((event, value))
        if self._given:
            self._given(event, value)

    async def begin(self):
        """As ota.OTA.begin()."""
        _open.add(self)
        return await self._drive(self._ota.begin_steps())

    async def perform(self):
        """As ota.OTA.perform(): one sector."""
        try:
            more = self._ota.step()
            while more is None:
                await self._wait()
                more = self._ota.step()
            await core.sleep_ms(0)
        except BaseException as e:
            self._fail(e)
            raise
        return more

    async def finish(self):
        """As ota.OTA.finish()."""
        await self._drive(self._ota.finish_steps())
        _open.discard(self)

    def abort(self):
        """As ota.OTA.abort()."""
        _open.discard(self)
        self._ota.abort()

    async def _drive(self, steps):
        try:
            while True:
                if next(steps):
                    await self._wait()
                else:
                    await core.sleep_ms(0)
        except StopIteration as e:
            return e.value
        except BaseException as e:
            # A task that is cancelled here leaves the steps where they are.
            self._fail(e)
            raise

    def _fail(self, e):
        self.abort()
        if isinstance(e, MemoryError):
            raise no_memory()

    async def _wait(self):
        self._ota.feed()
        if hasattr(self._ota.source, "waits_for"):
            stream, to_write, ms = self._ota.source.waits_for()
        else:
            stream, to_write, ms = None, False, _PAUSE_MS
        ms = min(ms, _MOST_MS)
        if stream is None:
            await core.sleep_ms(ms)
            return
        try:
            await asyncio.wait_for_ms(_ready(stream, to_write), max(1, ms))
        except asyncio.TimeoutError:
            pass  # the next try knows whether that was too long

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        self.abort()

    def __aiter__(self):
        self._keep = True
        return self

    async def __anext__(self):
        while not self._events:
            if self._next is None:
                raise StopAsyncIteration
            await self._next()
        return self._events.pop(0)

    async def _first(self):
        self._next = None
        if await self.begin() is not None:
            self._next = self._more
        elif self._ota.refusal:
            raise self._ota.refusal

    async def _more(self):
        if not await self.perform():
            self._next = self._last

    async def _last(self):
        self._next = None
        await self.finish()


# An awaitable of asyncio's kind: what asyncio.Stream does.
def _ready(stream, to_write):
    if to_write:
        yield core._io_queue.queue_write(stream)
    else:
        yield core._io_queue.queue_read(stream)


def abort():
    """End what is under way: for behind asyncio.run(), which leaves its tasks as they are when Ctrl-C ends it."""
    while _open:
        _open.pop().abort()


async def update(url, **options):
    """As https_ota.update(), to be awaited."""
    try:
        async with OTA(url, **options) as session:
            info = await session.begin()
            if info is not None:
                while await session.perform():
                    pass
                await session.finish()
            elif session.refusal:
                raise session.refusal
            return info
    except MemoryError:
        raise no_memory()
