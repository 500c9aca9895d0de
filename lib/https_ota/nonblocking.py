# A connection that never waits: what can't be done yet raises steps.Again, and is called again later.

import gc
import time
from errno import EINPROGRESS, ETIMEDOUT
from select import POLLERR, POLLHUP, POLLOUT, poll

from micropython import const

from . import http
from .steps import AGAIN

_CONN_EOF = const(-29312)  # MBEDTLS_ERR_SSL_CONN_EOF
_VERIFY_FAILED = const(-9984)  # MBEDTLS_ERR_X509_CERT_VERIFY_FAILED

# Where the connection stands.
_TCP = const(0)
_TLS = const(1)
_OPEN = const(2)


class Connection(http.Connection):
    """As http.Connection, but open(), send(), response() and readinto() raise steps.Again instead of waiting.

    Then `waits_to_write` tells what for, and `stream` is what a poller takes. Looking up the host's name still
    waits, as MicroPython has no other way.
    """

    _FILLS = False

    def _connect(self, address):
        self._state = _TCP
        self._waiting = False
        self._mark = 0
        self.waits_to_write = True
        self._raw.setblocking(False)
        try:
            self._raw.connect(address)
        except OSError as e:
            if e.errno != EINPROGRESS:
                raise

    @property
    def stream(self):
        """What to wait for."""
        return self._sock or self._raw

    def open(self):
        try:
            if self._state == _TCP:
                self._end_connect()
            if self._state == _TLS:
                self._handshake()
        except (OSError, ValueError) as e:
            self._fail(e)

    def _end_connect(self):
        poller = poll()
        poller.register(self._raw, POLLOUT)
        events = poller.poll(0)
        if not events:
            self._wait(True)
        if events[0][1] & (POLLERR | POLLHUP):
            self._raw.recv(1)  # raises the error
            raise OSError(ETIMEDOUT)
        self._waiting = False
        if self._answered:
            self._answered()
        host, _, context, _ = self._peer
        if context is None:
            self._sock = self._raw
            self._state = _OPEN
            return
        gc.collect()  # a handshake wants large blocks
        self._sock = context.wrap_socket(
            self._raw, server_hostname=host, do_handshake_on_connect=False
        )
        self._sock.setblocking(False)
        self._state = _TLS

    def _handshake(self):
        # Reading drives it. There is nothing to be read before the first request.
        got = self._sock.readinto(self._one)
        if got is not None:
            raise OSError(ETIMEDOUT if got else _CONN_EOF)
        if self._sock.getpeercert(True) is None:
            self._wait(False)
        self._waiting = False
        self._state = _OPEN

    def _fail(self, e):
        # Without blocking, mbedTLS only says that it did not like a certificate. Asked once more, it says why.
        if e.args and e.args[0] == _VERIFY_FAILED:
            self.close()
            http.Connection(*self._peer).close()
        super()._fail(e)

    def readinto(self, buf, limit=0):
        n = super().readinto(buf, limit)
        self._waiting = False
        return n

    def _wait(self, to_write):
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
        return int(self._peer[3] * 1000) - time.ticks_diff(time.ticks_ms(), self._since)


def pause(download):
    """Let download.pause_ms pass: raises steps.Again until it has."""
    d = download
    now = time.ticks_ms()
    if d.pause_from is None:
        d.pause_from = now
    if d.feed:
        d.feed()
    if d.deadline_s:
        d.check_deadline()
    if time.ticks_diff(now, d.pause_from) < d.pause_ms:
        raise AGAIN
    d.pause_ms = 0
    d.pause_from = None
