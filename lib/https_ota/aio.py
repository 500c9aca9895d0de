# Updates beside other asyncio tasks: the same session, driven by the event loop.
#
# The loop is held for a sector's erase and program at most; and by what can't be cut in pieces: looking up a
# host's name, a flight of the TLS handshake, the arithmetic of a signature or of a private key.

from asyncio import core

from micropython import const

from .events import FINISH
from .ota import OTA as Blocking
from .session import DONE, FINISHED, NEW, READY, STEP, VERIFIED

_MOST_MS = const(250)  # to wait at once, so that watchdog and deadlines are looked at

_open = set()  # sessions that have begun and not ended: see abort()


class OTA(Blocking):
    """As ota.OTA, with the same options, to be awaited: begin(), perform() until it returns False, finish().

    `async with` aborts unless finish() was reached, `async for event, value in OTA(...)` does all of it and tells
    what happens (see events.py). A task that is cancelled closes all and keeps the record for going on later.
    """

    def __init__(self, url, **options):
        super().__init__(url, **options)
        self._events = None  # for `async for`
        self._next = self._first

    def _emit(self, event, value):
        if self._events is not None:
            self._events.append((event, value))
        super()._emit(event, value)

    async def begin(self):
        """As ota.OTA.begin()."""
        self._expect(NEW)
        _open.add(self)
        await self._go(READY)
        return self.info if self._at < FINISHED else None

    async def perform(self):
        """As ota.OTA.perform(): one sector."""
        if self._at != DONE:
            self._expect(READY)
            await self._go(STEP)
        return self._at != DONE

    async def verify(self):
        """As ota.OTA.verify()."""
        self._expect(DONE)
        await self._go(VERIFIED)

    async def finish(self):
        """As ota.OTA.finish()."""
        if self._at != VERIFIED:
            self._expect(DONE)
        try:
            await self._go(FINISHED)
        finally:
            self._emit(FINISH, self._at == FINISHED)

    def abort(self):
        """As ota.OTA.abort()."""
        _open.discard(self)
        super().abort()

    async def _go(self, mark):
        # As ota.OTA._run().
        try:
            for step in self._steps:
                done = self._passes(step, mark)
                if step is None:
                    await self._wait()
                else:
                    await core.sleep_ms(0)
                if done:
                    return
        except BaseException as e:
            # A task that is cancelled here leaves the work where it is.
            self._fail(e)
            raise
        self.abort()

    # To be awaited as what asyncio.Stream does is: by a generator.
    def _wait(self):
        stream, to_write, ms = self._file.waits_for()
        ms = max(1, min(ms, _MOST_MS))
        if stream is None:
            yield from core.sleep_ms(ms)
            return
        # With asyncio.wait_for(), a task that is cancelled in the moment in which that gives up goes on.
        waker = core.create_task(_wake(core.cur_task, ms))
        queue = core._io_queue
        try:
            yield (queue.queue_write if to_write else queue.queue_read)(stream)
        except OSError:
            pass  # the next try knows whether that was too long
        finally:
            waker.cancel()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        self.abort()

    def __aiter__(self):
        self._events = []
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
        elif self.refusal:
            raise self.refusal

    async def _more(self):
        if not await self.perform():
            self._next = self._last

    async def _last(self):
        self._next = None
        await self.finish()


# Ends a task's wait for a stream.
async def _wake(task, ms):
    await core.sleep_ms(ms)
    if task.data is core._io_queue:
        task.cancel()
        task.data = OSError


def abort():
    """End what is under way: for behind asyncio.run(), which leaves its tasks as they are when Ctrl-C ends it."""
    while _open:
        _open.pop().abort()


async def update(url, **options):
    """As https_ota.update(), to be awaited."""
    async with OTA(url, **options) as session:
        info = await session.begin()
        if info is not None:
            while await session.perform():
                pass
            await session.finish()
        elif session.refusal:
            raise session.refusal
        return info
