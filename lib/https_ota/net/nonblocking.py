# A connection that never waits: what can't be done yet raises steps.Again, and is called again later.

import time
from errno import ETIMEDOUT

from . import http
from ..steps import AGAIN


class Connection(http.Connection):
    """As http.Connection, but open(), send(), response() and readinto() raise steps.Again instead of waiting.

    Then `waits_to_write` tells what for, `stream` is what a poller takes, and left_ms() says how long it may take;
    arrived() is to be called when the poller found it ready. Looking up the host's name still waits, as MicroPython
    has no other way.
    """

    waits_to_write = True
    _waiting = False
    _mark = 0

    @property
    def stream(self):
        """What to wait for."""
        return self._sock or self._raw

    def readinto(self, buf, limit=0):
        n = super().readinto(buf, limit)
        self._waiting = False
        return n

    def arrived(self):
        """Bytes have come, or went; be it only a piece of a TLS record."""
        self._waiting = False

    def _wait(self, to_write):
        if self._tick:
            self._tick()
        # What has been sent of a request, and read of a head.
        mark = self._sent << 16 | self._budget
        if not self._waiting or mark != self._mark:
            self._waiting = True
            self._mark = mark
            self._since = time.ticks_ms()
        self.waits_to_write = to_write
        if self.left_ms() <= 0:
            raise OSError(ETIMEDOUT)
        raise AGAIN

    def left_ms(self):
        """Milliseconds until what it waits for is overdue."""
        return self._timeout_ms - time.ticks_diff(time.ticks_ms(), self._since)


def pause(download):
    """Let download.pause_ms pass: raises steps.Again until it has."""
    d = download
    now = time.ticks_ms()
    if d.pause_from is None:
        d.pause_from = now
    d.tick()
    if time.ticks_diff(now, d.pause_from) < d.pause_ms:
        raise AGAIN
    d.pause_ms = 0
    d.pause_from = None
