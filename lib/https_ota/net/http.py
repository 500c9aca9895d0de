# One connection: socket and TLS, one request at a time, the head of its response, its body's bytes.
#
# A response is read in pieces, as they come, into one small buffer, where its head is searched; what came behind the
# head is the beginning of the body. The rest of the body goes straight to the caller's buffer. Nothing allocates in the
# steady state: a second head like the first, nor a body.

import gc
import socket
import time
from errno import EINPROGRESS, ETIMEDOUT
from select import POLLERR, POLLHUP, POLLIN, POLLOUT, poll
from struct import pack_into

from micropython import const

from ..errors import OTAError
from ..hot import copy
from .response import Response

_SLICE_MS = const(250)  # the longest wait at once
_CONN_EOF = const(-29312)  # MBEDTLS_ERR_SSL_CONN_EOF

_SIZE = const(384)  # of the buffer, and in _fill(): most heads come in one piece
_CUT = const(64)  # what is kept of a line that is longer than the buffer
_MAX_LOCATION = const(2048)
_MAX_HEAD = const(16384)  # bytes of head, interim (1xx) responses included


class Connection(Response):
    """A connection to one host: open(), then send(), response() and readinto() for each request.

    These return None where they would have to wait: call them again then, waits_for() tells what for, wait() waits for it.
    Nothing is lost by it. Looking up the host's name does wait, as MicroPython has no other way.

    `context` is a tls.SSLContext, or None for plain TCP; `timeout_s` is how long the network may be silent.
    What a response is, and the bytes of its body, is told as by Response.
    """

    def __init__(self, host, port, context, timeout_s):
        super().__init__()
        self._peer = host, port, context
        self._timeout_ms = max(1, int(timeout_s * 1000))
        self.answered = False  # there is a TCP connection, or was
        self.opened = False  # for its owner, to be set once open() and what comes with it is done
        self.waiting = False  # for the network, since
        self._since = 0
        self._addresses = None  # of the host that were not tried
        self._raw = None  # the TCP socket
        self.sock = None  # the stream, once TCP is connected
        self.buf = bytearray(_SIZE)
        self.at = self._filled = (
            0  # what of it has come, and was not used; behind that it holds zeros
        )
        self._next = 0  # behind the line at `at`
        self.cut = False
        self.used = 0
        self._like = None
        self._error = None  # that came behind what is in the buffer
        self._sent = 0  # bytes of the request so far

    # -- the socket -------------------------------------------------------------------------------

    def open(self):
        """Make sure that there is a connection, TLS's handshake included."""
        address = None
        try:
            if self._addresses is None:
                self._addresses = socket.getaddrinfo(*self._peer[:2], 0, socket.SOCK_STREAM)
            while self.sock is None:
                address = self._addresses[0]
                try:
                    if not self._connect(address):
                        return None
                except OSError:
                    if len(self._addresses) == 1:
                        raise
                    self._addresses.pop(0)
                    self.close()
            return self.sock is self._raw or self._handshake()
        except (OSError, ValueError) as e:
            self.close()
            from .words import connect_error

            raise connect_error(e, *self._peer[:2], address or self._addresses)
        except MemoryError:
            self.close()
            raise

    def _connect(self, address):
        if self._raw is None:
            self._raw = socket.socket(*address[:3])
            self._raw.setblocking(False)
            self._poller = poll()
            self._poller.register(self._raw, POLLOUT | POLLHUP)
            self._to_write = True
            try:
                self._raw.connect(address[-1])
            except OSError as e:
                if e.errno != EINPROGRESS:
                    raise
        for _, events in self._poller.ipoll(0):
            break
        else:
            return self._wait(True)
        self.waiting = False
        if events & (POLLERR | POLLHUP):
            self._raw.recv(1)  # raises the error
            raise OSError(ETIMEDOUT)
        self.answered = True
        host, _, context = self._peer
        if context is None:
            self.sock = self._raw
        else:
            gc.collect()  # a handshake wants large blocks
            self.sock = context.wrap_socket(
                self._raw, server_hostname=host, do_handshake_on_connect=False
            )
        return True

    def _handshake(self):
        if self.sock.getpeercert(True) is None:
            # Reading drives it. There is nothing to be read before the first request.
            if self._read(self.buf, 1) is not None:
                raise OSError(_CONN_EOF)
            if self.sock.getpeercert(True) is None:
                return None
        self.waiting = False
        return True

    def close(self):
        """Close the socket; harmless when it is closed."""
        sock = self.sock or self._raw
        self.sock = self._raw = None
        self.keep = self.waiting = False
        self.left = self.chunk = 0
        if sock is not None:
            try:
                sock.close()
            except OSError:
                pass  # the peer is gone: nothing is lost

    def send(self, request, n):
        """Send request[:n]; response() and readinto() then read the answer, once they have read those before it."""
        while self._sent < n:
            m = self.sock.write(request, self._sent, n - self._sent)
            if not m:
                return self._wait(True)
            self._sent += m
            self.waiting = False
        self._sent = 0
        return True

    def _read(self, buf, n):
        if self.waiting:
            self._look(0)
        n = self.sock.readinto(buf, n)
        if n is None:
            return self._wait(False)
        self.waiting = False
        return n

    def _wait(self, to_write):
        """Nothing can be read, or written, now: None, as long as that is not overdue."""
        if not self.waiting:
            self.waiting = True
            self._since = time.ticks_ms()
        if to_write != self._to_write:
            # Only then: it may allocate.
            self._to_write = to_write
            self._poller.modify(self._raw, POLLOUT if to_write else POLLIN)
        if self._left_ms() <= 0:
            raise OSError(ETIMEDOUT)

    def _left_ms(self):
        return self._timeout_ms - time.ticks_diff(time.ticks_ms(), self._since)

    def _look(self, ms):
        # What comes is progress, be it only a piece of a TLS record.
        for _ in self._poller.ipoll(ms):
            self.waiting = False

    def waits_for(self):
        """After None: (stream, True when it waits to write, milliseconds it may wait at most)."""
        return self.sock or self._raw, self._to_write, max(0, self._left_ms())

    def wait(self):
        """Block until what came to None may be tried again, but not for long."""
        self._look(max(0, min(self._left_ms(), _SLICE_MS)))

    # -- the buffer -------------------------------------------------------------------------------

    def _note(self):
        """Keep the head that is in the buffer. If all of it is, at its beginning, `known` is its length."""
        self.known = n = self.buf.find(b"\r\n\r\n", self.at, _SIZE) + 4
        self._like = like = self._like or bytearray(_SIZE)
        pack_into("384s", like, 0, b"")
        copy(like, 0, self.buf, 0, n)

    def again(self, i, n):
        """Read a head that is the known one, but for any Date, and what is from i to n; False when it is another."""
        if self.at != self._filled:
            return False
        if not self._fill(self.known):
            return None
        buf, like = self.buf, self._like
        if buf.find(b"\n", i, n) < 0:
            copy(like, i, buf, i, n - i)
        i = buf.find(b"\nDate: ") + 7
        if i > 7 and buf.find(b"\n", i) == i + 30:
            copy(like, i, buf, i, 29)
        # Both end with zeros.
        return buf == like

    def _held(self, buf, n):
        """Up to n bytes into buf: what has come already, else what comes."""
        held = self._filled - self.at
        if not held:
            if self._error:
                raise self._error
            return self._read(buf, n)
        if held < n:
            n = held
        copy(buf, 0, self.buf, self.at, n)
        self.at += n
        return n

    def _fill(self, most=0):
        """Read more into the buffer, up to `most` if it is empty: True, or None when nothing has come."""
        if self.used > _MAX_HEAD:
            raise OTAError(OTAError.HTTP_PROTOCOL, "expected a head of up to %d bytes" % _MAX_HEAD)
        if self._error:
            raise self._error
        if self.at == self._filled:
            self.at = self._filled = 0
            if len(self.buf) > _SIZE:
                self.buf = bytearray(_SIZE)
            # Zeros, as a read that ends in an error does not tell how much came before it.
            pack_into("384s", self.buf, 0, b"")
        elif self._filled == len(self.buf):
            self._make_room()
        buf, end = self.buf, self._filled
        try:
            n = self._read(memoryview(buf)[end:] if end else buf, most or len(buf) - end)
        except OSError as e:
            n = len(buf)
            while n > end and not buf[n - 1]:
                n -= 1
            n -= end
            if not n:
                raise
            self._error = e
        if n is None:
            return None
        if not n:
            raise OTAError(OTAError.DISCONNECTED, "the server closed the connection")
        self._filled = end + n
        return True

    def _make_room(self):
        # The buffer is full, and there is no line end in it.
        buf, at = self.buf, self.at
        n = self._filled - at
        if at:
            copy(buf, 0, buf, at, n)
            for i in range(n, len(buf)):
                buf[i] = 0
        else:
            size = _SIZE
            # In redirects and challenges all of a header counts.
            name = bytes(buf[:16]).lower()
            if n == _SIZE and name.startswith((b"location", b"www-authenticate")):
                size = _MAX_LOCATION + _SIZE
            else:
                self.cut = True
                self.used += n - _CUT
                if buf[n - 1] == 10:
                    buf[_CUT - 1] = 10
                n = _CUT
            self.buf = bytearray(size)
            self.buf[:n] = buf[:n]
        self.at = 0
        self._filled = n

    def line(self, folds=False):
        """Where the line at `at` ends, without its line end; None: it has not come yet.

        With `folds`, one that goes on in the next, which then begins with a space, is one line (RFC 9112, section 5.2).
        """
        while True:
            buf, at = self.buf, self.at
            i = buf.find(b"\n", at, self._filled)
            if i >= 0:
                end = i - 1 if i > at and buf[i - 1] == 13 else i
                if not folds or end == at:
                    break
                if i + 1 < self._filled:
                    if buf[i + 1] not in b" \t":
                        break
                    buf[end] = buf[i] = 32
                    continue
            if not self._fill():
                return None
        self._next = i + 1
        return end

    def take(self):
        """The line has been used."""
        self.used += self._next - self.at
        self.at = self._next
        self.cut = False
        if self.used > _MAX_HEAD:
            self._fill()  # says so
