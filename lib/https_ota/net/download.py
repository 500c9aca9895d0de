# A file on a server as one stream of bytes: opened, read, waited for, gone on with after a drop.

import time
from errno import ETIMEDOUT

from micropython import const

from ..errors import OTAError, refuse
from .exchange import Exchange

_SLICE_MS = const(250)  # the longest wait at once
# As in events.py, which need not be loaded.
_RETRY = const(11)


class Download(Exchange):
    """A file on a server as a stream: open(), readinto() until it returns 0, and close() in any case.

    open() and readinto() return None where they would have to wait: call them again then, with the same arguments.
    waits_for() tells what for, wait() waits for it.

    url         https://host[:port]/path (http:// only with insecure=True)
    cadata      CA certificates that may vouch for the server: PEM or DER, str or bytes, or a list of these
    insecure    True switches the check of the server off, and allows http://
    pin         SHA-256 of the server's certificate or of its public key, or several: see pin.pin_digests(); with
                cadata both must hold, without it the pin is all that vouches for the server
    cert, key   this board's own certificate and private key (PEM or DER), where the server asks for one
    headers     dict of further request headers
    auth        (name, password) for HTTP Basic, (name, password, "digest") for HTTP Digest
                cert, key, headers and auth go to the URL's own scheme, host and port only, redirect or not
    http_hook   called with a Request before each request is sent, whatever the host
    request_size  bytes per ranged request; 0 is one plain GET; None picks what suits the TLS buffer
    timeout_s   seconds that the network may be silent
    stall_s     seconds without a single new byte of the file after which it gives up; until then it reconnects
    deadline_s  seconds that all of it may take; None sets no limit

    `status` is the last HTTP status, `position` how many bytes were handed out; `total` and `validator` are told as by
    Exchange.
    """

    def __init__(self, url, *, stall_s=120, deadline_s=None, **http):
        super().__init__(url, **http)
        number = (int, float)
        if not isinstance(stall_s, number):
            refuse("stall_s", "seconds", stall_s)
        if deadline_s is not None and not isinstance(deadline_s, number):
            refuse("deadline_s", "seconds", deadline_s)
        self.stall_s = stall_s
        self.deadline_s = deadline_s
        self._patience_ms = int((stall_s + self.timeout_s) * 1000)
        self.failures = 0  # since the last progress
        self.failed_at = (
            self.renewed_at
        ) = -1  # positions: of the last failure, of the last new link
        self.pause_ms = self.pause_from = 0  # to wait before the next request
        self.moment = 0  # when the last new bytes came
        self._pulse = 0  # when there was a sign of life: bytes that are passed over count
        self._start = None
        self._reading = False  # readinto() returned None

    def open(self, position=0, identity=None):
        """Connect and read the first response's head; return its status: 200, 206, 204 or 304, or None.

        `identity` has the `validator` and `total` of the file that is meant, of an earlier download. With `position` it goes
        on there, and starts over (self.position is 0 then) when the file is another one now. Without, the file need not
        come again, and the answer may be 304: of what has an ETag. A date may be the same of two files, and who has an
        older one than that is told 304, too.

        Raises ValueError for a URL or CA data that can't be used, OTAError, or a socket's OSError.
        """
        if not self._opening:
            self._ask(position, identity)
            self._opening = True
        try:
            if self._response():
                return self.status
            self._check_time()
        except (OSError, OTAError) as e:
            self._recover(e)
        return None

    def _ask(self, position, identity):
        tls = self.origin[0]
        if not (self._insecure and not self._pins) and not (
            tls and (self._pins or not self._trust[0])
        ):
            from .words import unsafe

            raise unsafe(tls)
        if self._out or self._under_way():
            self.drop()  # what was asked for is not wanted any more
        self._expect(position, identity)
        self.ranges.choose(tls, self.position)
        self._head = None
        self._short = self._reading = False
        self.moment = self._pulse = time.ticks_ms()
        if self._start is None:
            self._start = self.moment

    def close(self):
        """Close the connection; harmless when there is none."""
        self._opening = False
        self.drop()

    def readinto(self, buf):
        """Read the next bytes of the file into buf; return how many, 0 at its end, None when none have come yet.

        Goes on after failures that may pass. Raises OTAError or OSError when it gives up; OTAError(CHANGED) when the file
        is another one than before: the stream starts over at its beginning then.
        """
        if not self._reading:
            self._reading = True
            self._pulse = time.ticks_ms()  # the caller may have been away for long
        try:
            n = self._read(buf)
            if n:
                self.position += n
                self.moment = self._pulse = time.ticks_ms()
                self._look_ahead()
            if n is None or (n and self.deadline_s):
                self._check_time()
        except (OSError, OTAError) as e:
            self._recover(e)
            return None
        self._reading = n is None
        return n

    def waits_for(self):
        """After None: (stream or None, True when it waits to write, milliseconds it may wait at most)."""
        conn = self._conn
        if conn is not None and conn.waiting:
            return conn.waits_for()
        return None, False, self._pause_left()

    def wait(self):
        """Block until what came to None may be tried again, but not for long."""
        conn = self._conn
        if conn is not None and conn.waiting:
            conn.wait()
        else:
            time.sleep_ms(min(self._pause_left(), _SLICE_MS))

    def _pause_left(self):
        left = 0
        if self.pause_ms:
            left = max(0, self.pause_ms - time.ticks_diff(time.ticks_ms(), self.pause_from))
            if not left:
                self.pause_ms = 0  # clocks go round
        return left

    def _check_time(self):
        now = time.ticks_ms()
        if self.deadline_s and time.ticks_diff(now, self._start) > self.deadline_s * 1000:
            from .words import too_late

            raise too_late(self)
        # An attempt that was begun in time may have its time. More is what drips, and never comes to anything.
        if time.ticks_diff(now, self._pulse) > self._patience_ms:
            raise OSError(ETIMEDOUT)

    def _recover(self, e):
        from .retry import recover

        self._redirects = 0
        try:
            recover(self, e)
        except BaseException:
            self._opening = self._reading = False
            raise
        if self.event:
            self.event(_RETRY, self.failures)

    def _read(self, buf):
        """One piece of the body, as large as it comes; 0 at the end of the file."""
        while True:
            if self.total is not None and self.position >= self.total:
                return 0
            conn = self._conn
            over = conn is None or not (conn.left or conn.chunk)
            if over and (conn is None or self._pending or self._out or conn.keep):
                if not self._response():
                    return None
                conn = self._conn
            limit = self._skip
            if self.total is None and not limit:
                # What must come is read and no byte more: a read that ends in an error gives none of its bytes.
                limit = self.least - self.position
            try:
                n = conn.readinto(buf, limit)
            except (OSError, OTAError) as e:
                from .retry import is_end

                if not is_end(self, e):
                    raise
                n = 0
            if n is None:
                return None
            if n:
                if not self._skip:
                    return n
                self._skip -= n
                self._pulse = time.ticks_ms()
                return None
            if self.total is None and self.position >= self.least and not self._skip:
                self.total = self.position
                return 0
            if self._skip or self.position != self._end:
                raise OTAError(
                    OTAError.DISCONNECTED,
                    "the response ended with byte %d of %s"
                    % (self.position, self._end or self.least),
                )
            if not conn.ready():
                self.drop()

    def _look_ahead(self):
        """Use the time that the caller takes to write what it got."""
        position, total = self.position, self.total
        if position == total:
            self.drop()  # frees the TLS buffers
            return
        # Requests go out now, so that the round trips hide behind the flash.
        conn = self._conn
        try:
            # Several at once, where the server said that it keeps the connection.
            if self.status == 206 and conn.keep and not conn.old:
                reach = self.ranges.reach(position)
                while self._out or (self._asked < total and self._asked <= reach):
                    if not self._send():
                        return
            if conn.keep and not self._under_way():
                self._send()
        except (OSError, OTAError):
            self.drop()  # the next read connects anew
            self.ranges.deep = False
