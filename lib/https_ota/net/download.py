# A file on a server, seen as one stream of bytes: redirects, ranges, identity, going on after a drop.

import gc
import time
from errno import ETIMEDOUT

from micropython import const

from ..errors import OTAError, as_text, refuse
from .http import Connection
from .request import build, check_headers, end
from .tls import tls_buffer
from .url import join_url, parse_url

_MAX_REDIRECTS = const(5)
_SLICE_MS = const(250)  # the longest wait at once
_MIN_REQUEST = const(512)  # the smallest TLS buffer the chip can be built with
_SECTOR = const(4096)
_CHUNK = const(1024)
_MAX_RECORD = const(16384)  # TLS has none that are longer
_MARGIN = const(64)  # a later response's head may be longer than the first one's
_REDIRECTS = (301, 302, 303, 307, 308)
# As in events.py, which need not be loaded.
_RETRY = const(11)
_REDIRECT = const(12)

_GROW_AFTER = const(16)  # responses until a size that shrank may grow


class Download:
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

    `status` is the last HTTP status, `total` the length of the file (None while unknown), `position` how many
    bytes were handed out, `validator` what identifies the file on the server: b"E" and its ETag, else b"M" and its
    Last-Modified, as they came; None without either.
    """

    def __init__(
        self,
        url,
        *,
        cadata=None,
        insecure=False,
        pin=None,
        cert=None,
        key=None,
        headers=None,
        auth=None,
        http_hook=None,
        request_size=None,
        timeout_s=15,
        stall_s=120,
        deadline_s=None,
    ):
        number = (int, float)
        for name, expected, value, fits in (
            ("url", "https://host/path", url, isinstance(url, str)),
            ("headers", "a dict", headers, not headers or hasattr(headers, "items")),
            ("auth", "(name, password)", auth, auth is None or isinstance(auth, (tuple, list))),
            ("http_hook", "a function", http_hook, not http_hook or callable(http_hook)),
            (
                "request_size",
                "bytes",
                request_size,
                request_size is None or isinstance(request_size, int),
            ),
            ("timeout_s", "seconds", timeout_s, isinstance(timeout_s, number)),
            ("stall_s", "seconds", stall_s, isinstance(stall_s, number)),
            (
                "deadline_s",
                "seconds",
                deadline_s,
                deadline_s is None or isinstance(deadline_s, number),
            ),
        ):
            if not fits:
                refuse(name, expected, value)
        if request_size and request_size < _MIN_REQUEST:
            raise ValueError(
                "request_size: expected None, 0 or at least %d, got %r"
                % (_MIN_REQUEST, request_size)
            )
        if not timeout_s or timeout_s < 0:
            raise ValueError("timeout_s: expected seconds above 0, got %r" % timeout_s)
        if (cert is None) != (key is None):
            raise ValueError("cert and key belong together: give both or none")
        self._pins = None
        if pin is not None:
            from .pin import pin_digests

            self._pins = pin_digests(pin)
        self.status = 0
        self.total = None
        self.offset = 0  # bytes before the first sector's
        self.position = 0
        self._etag = self._modified = None
        self.content_checked = (
            False  # its owner knows size and SHA-256: a mirror's own ETag is no other file
        )
        self.least = 0  # bytes that must come, where the length is not known otherwise
        self.open_end = False  # only the end of the connection ends the file: whether it is all must be told otherwise
        self.answered = False  # there is a host that listens
        self.reached = False  # there is such a server: from now on a failure may pass
        self._from = 0  # where the stream began
        self.verified = None  # the host whose certificate was last found good
        self.event = None  # called as event(number, value), see events.py
        self.pause_ms = 0  # to wait before the next request
        self.pause_from = 0
        self.stall_s = stall_s
        self.deadline_s = deadline_s
        self.retry = None  # what recover.py counts
        self.size = request_size
        self.auto_size = request_size is None
        # A record that does not fit looks like one that someone put on the way: what is learned from it is only for
        # this download, and tried again.
        self.roof = None  # what the size was before it shrank
        self.sized_at = 0  # where it became what it is
        self.grow_after = _GROW_AFTER
        self.grown = False
        self.url = self.first_url = url
        self.origin = parse_url(url)
        self.retry_after = 0
        self._headers = self._first_headers = check_headers(headers, auth)
        self._hook = http_hook
        self._digest = self._first_digest = None
        if auth is not None and len(auth) != 2:
            if len(auth) != 3 or auth[2] != "digest":
                raise ValueError('auth: expected (name, password) or (name, password, "digest")')
            from .auth import Digest

            self._digest = self._first_digest = Digest(auth[0], auth[1])
        self.cadata = cadata  # None once it is not needed any more
        self._trust = (insecure or (cadata is None and pin is not None), cert, key)
        self._home = self.origin[:3]  # where secrets may go
        self._insecure = insecure
        self._context = None
        self.timeout_s = timeout_s
        self._conn = None
        self._head = None  # the request, with room for a Range line at its end
        self._head_later = None  # whether it asks for the beginning or for more
        self._known = self._known_total = None  # of a file we have already: ask for news only
        self._end = None  # one past the last byte of the response under way
        self._out = 0  # bytes of the request under way, 0 when there is none
        self._pending = False  # a request is out whose response has not been read
        self._redirects = 0
        self._skip = 0  # bytes to drop: the server answered a later range with the whole file
        self.moment = 0  # when the last new bytes came
        self._pulse = 0  # when there was a sign of life: bytes that are passed over count
        self._patience_ms = int((stall_s + timeout_s) * 1000)
        self._start = None
        self._opening = self._going_on = False  # open(), readinto() returned None
        self._failed = False  # the server answered with an error, whose text is to come

    @property
    def validator(self):
        """What identifies the file, see above."""
        return self._etag or self._modified

    @property
    def chunk(self):
        """Bytes to read at once: a small range is received whole, so that the next request is out while they are written."""
        return _SECTOR if 0 < self.size <= _SECTOR else _CHUNK

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
                self._opening = False
                return self.status
            self._check_time()
        except (OSError, OTAError) as e:
            self._recover(e)
        return None

    def _ask(self, position, identity):
        if not self.origin[0] and (not self._insecure or self._pins):
            raise ValueError(
                "http:// is neither encrypted nor verified; say insecure=True, without pin=, to accept that"
            )
        if self._trust is not None and self.cadata is None and not self._trust[0]:
            raise ValueError(
                "no server can be verified without cadata=(CA certificates) or pin=; or say insecure=True"
            )
        if self._pending or self._out:
            self.drop()  # what was asked for is not wanted any more
        self._choose_size()
        self._etag = self._modified = self._known = self.total = None
        validator = identity and identity.validator
        kind = validator and validator[:1]
        if kind == b"E":
            if position:
                self._etag = validator
            else:
                self._known = validator
                self._known_total = identity.total or None
        elif position and kind == b"M":
            self._modified = validator
        else:
            position = 0  # or not written by this version
        if position:
            self.total = identity.total
        self.position = self._from = position
        self._going_on = False
        self._head = None
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
        if not self._going_on:
            self._going_on = True
            self._pulse = time.ticks_ms()  # the caller may have been away for long
        try:
            n = self._read(buf)
            if n is None:
                self._check_time()
                return None
        except (OSError, OTAError) as e:
            self._recover(e)
            return None
        self._going_on = False
        if n:
            self.position += n
            self.moment = time.ticks_ms()
            if self.deadline_s:
                self.check_deadline()
            self._look_ahead()
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
        return max(0, self.pause_ms - time.ticks_diff(time.ticks_ms(), self.pause_from))

    def _check_time(self):
        if self.deadline_s:
            self.check_deadline()
        # An attempt that was begun in time may have its time. More is what drips, and never comes to anything.
        if time.ticks_diff(time.ticks_ms(), self._pulse) > self._patience_ms:
            raise OSError(ETIMEDOUT)

    def drop(self):
        """Close the connection, to go on with another one."""
        conn, self._conn = self._conn, None
        self._pending = self._failed = False
        self._out = 0
        if conn is not None:
            self.answered = self.answered or conn.answered
            conn.close()

    # -- for retry.py -----------------------------------------------------------------------------

    def check_deadline(self):
        """Raise OTAError when all of it has taken too long."""
        if time.ticks_diff(time.ticks_ms(), self._start) > self.deadline_s * 1000:
            raise OTAError(
                OTAError.DEADLINE,
                "not done after %s s: %d of %s bytes have come; the next update goes on from there"
                % (round(self.deadline_s, 1), self.position, self.total),
            )

    def back_to_start(self):
        """Ask at the first URL again; False when that is where we are."""
        if self.url == self.first_url:
            return False
        self._go(self.first_url, parse_url(self.first_url))
        self._headers = self._first_headers
        self._digest = self._first_digest
        return True

    # -- requests -----------------------------------------------------------------------------------

    def _recover(self, e):
        from .retry import recover

        self._redirects = 0
        try:
            recover(self, e)
        except BaseException:
            self._opening = self._going_on = False
            raise
        if self.event:
            self.event(_RETRY, self.retry.failures if self.retry else 0)

    def _choose_size(self):
        if not self.auto_size:
            return
        # Below 16 KiB a whole response, head and body, may come as one record: the first leaves a quarter
        # for the head, whose length it tells.
        room = tls_buffer()
        self.roof = None
        size = 0 if room >= _MAX_RECORD or not self.origin[0] else room * 3 // 4
        self.resize(size, False)

    def resize(self, size, grown):
        """Ask for `size` bytes at once from now on; `grown`: that is more than before."""
        self.size = size
        self.grown = grown
        self.sized_at = self.position

    def _grow(self):
        size = self.size * 2
        if size >= (self.roof or _MAX_RECORD):
            size, self.roof = self.roof, None
        self.resize(size, True)

    def _send(self):
        """Send the request for what comes next, on the open connection if it may be used again."""
        if self.pause_ms:
            if self._pause_left():
                return None
            self.pause_ms = 0
        if not self._out:
            self._prepare()
        if self._conn is None:
            self._connect()
        if not (self._open() and self._conn.send(self._head, self._out)):
            return None
        self._out = 0
        self._pending = True
        return True

    def _prepare(self):
        later = self.position > 0
        digest = self._digest if self._digest and self._digest.ready else None
        if self._head is None or self._hook or digest or later != self._head_later:
            self._head_later = later
            headers = self._headers
            if digest:
                headers = dict(headers)
                headers["Authorization"] = digest.header(self.origin[3])
            self._head = build(self.url, self.origin, headers, self._hook, self._condition(later))
        if self._conn is not None and not self._conn.ready():
            self.drop()
        if self.roof is not None and self.position - self.sized_at >= self.size * self.grow_after:
            self._grow()
        head = self._head
        if self.size:
            stop = self.position + self.size
            if self.size > _SECTOR:
                # So that the next request goes out before a sector is written.
                stop -= (stop - self.offset) % _SECTOR
            if self.total is not None and stop > self.total:
                stop = self.total
            self._end = stop
            self._out = end(head, self.position, stop - 1)
        else:
            self._end = self.total
            self._out = end(head, self.position if later else -1, -1)

    def _condition(self, later):
        if not later:
            if not self._known:
                return ""
            return "If-None-Match: %s\r\n" % self._known[1:].decode()
        # A weak ETag says "as good as", which is not enough for bytes (RFC 9110, section 13.1.5); servers take one
        # without quotes for a date. What comes is compared in any case.
        known = self.validator
        if known is None or self.content_checked:
            return ""
        if known[:1] == b"E" and not known[1:2] == known[-1:] == b'"':
            return ""
        return "If-Range: %s\r\n" % known[1:].decode()

    def _connect(self):
        tls, host, port, _ = self.origin
        if tls and self._context is None:
            from .tls import context

            insecure, cert, key = self._trust
            if cert is not None and self.origin[:3] != self._home:
                cert = key = None
            self._context = context(self.cadata, insecure, cert, key)
        self._conn = Connection(host, port, self._context if tls else None, self.timeout_s)

    def _open(self):
        if self._conn.opened:
            return True
        if not self._conn.open():
            return None
        if self._pins:
            from .pin import check

            check(self._conn.certificate(), self._pins, self.origin[1])
        self._conn.opened = True
        self.reached = True
        if self._context is not None and self._trust is not None and self._trust[1] is None:
            self._trust = self.cadata = None  # parsed: the caller's data need not stay in memory
        self.verified = self.origin[:3]
        return True

    # -- responses ----------------------------------------------------------------------------------

    def _response(self):
        while True:
            if not self._pending and not self._send():
                return None
            if not self._failed:
                status = self._conn.response()
                if status is None:
                    return None
                self.status = status
            if self.status == 401 and self._digest:
                self._digest.take(self._conn.challenge, self.url)
                self.drop()
                continue
            if self.status not in _REDIRECTS:
                break
            self._redirects += 1
            if self._redirects > _MAX_REDIRECTS:
                raise OTAError(OTAError.REDIRECT, "more than %d redirects" % _MAX_REDIRECTS)
            self._redirect()
        if not self._check():
            return None
        self._redirects = 0
        self._pending = False
        if self._digest:
            self._digest.accepted()
        return True

    def _check(self):
        conn = self._conn
        if self.status == 203:
            self.status = 200  # by way of a proxy
        total = None
        if self.status == 206:
            self._check_range(conn)
            total = conn.total
        elif self.status == 200:
            if conn.length >= 0:
                total = conn.length
            self.open_end = conn.open_end
        elif self.status in (204, 304):
            return True
        elif self.status != 416 or not self.position:
            from .words import status_error

            self._failed = True
            text = bytearray(120)
            try:
                n = conn.readinto(text)
            except (OSError, OTAError):
                n = 0
            if n is None:
                return None
            self.retry_after = conn.retry_after
            raise status_error(self.status, self.url, as_text(text, n), conn.retry_after)
        if self.position and (
            self.status == 416  # it is shorter than it was
            or not self._same(conn)
            or (self.total is not None and total is not None and total != self.total)
        ):
            self.drop()
            self.position = self.least = self.sized_at = 0
            self.total = self._etag = self._modified = self._known = None
            if self._opening:
                self._prepare()
                return None
            raise OTAError(OTAError.CHANGED, "the file changed on the server during the download")
        if self._known and self._known == conn.etag and self._known_total == total is not None:
            self.drop()
            self.status = 304
            return True
        if self.status == 206:
            if self.auto_size and self.total is None:
                self._fit(conn.head_size)
            self._end = conn.end + 1
        else:
            # The whole file in one response: what was handed out before is passed over.
            self._skip = self.position
            self._end = self.total if total is None else total
        if total is not None:
            self.total = total
        # One of the two may be missing now and then.
        self._etag = conn.etag or self._etag
        self._modified = conn.modified or self._modified
        if self._known is not None:
            self._known = self._head = None  # that question is answered
        return True

    def _same(self, conn):
        """Whether the response may be of the file that we are at: what is absent is not different."""
        if self.content_checked:
            return True
        if conn.etag and self._etag:
            # Apache calls a file's ETag weak for its first second.
            return conn.etag == self._etag or (
                conn.etag.replace(b"EW/", b"E") == self._etag.replace(b"EW/", b"E")
            )
        if conn.modified and self._modified:
            # A date is weak: with it goes the length, which is compared besides.
            sized = self.status == 206 or conn.length >= 0 or self.total is None
            return sized and conn.modified == self._modified
        # A part may come without (RFC 9110, section 15.3.7). The whole file instead of a part may be another.
        return self.status == 206 or self.validator is None

    def _fit(self, head_size):
        # Server and proxies add much the same lines to each response.
        size = tls_buffer() - head_size - _MARGIN
        if _MIN_REQUEST <= size < _SECTOR * 4:
            if self.roof is None:
                self.size = size
            else:
                self.roof = size

    def _check_range(self, conn):
        if conn.total < 0 or conn.start < 0:
            raise OTAError(
                OTAError.HTTP_PROTOCOL,
                "206 without 'Content-Range: bytes first-last/length'; use request_size=0",
            )
        if not self.size and not self.position:
            raise OTAError(
                OTAError.HTTP_PROTOCOL,
                "the server sent a part (206) though the whole file was asked for",
            )
        stop = conn.total if self._end is None else self._end
        if conn.start != self.position or not conn.start <= conn.end < min(stop, conn.total):
            if conn.total == self.total or self.total is None:
                raise OTAError(
                    OTAError.HTTP_PROTOCOL,
                    "asked for bytes %d-%d, got %d-%d/%d"
                    % (self.position, stop - 1, conn.start, conn.end, conn.total),
                )
        if 0 <= conn.length != conn.end - conn.start + 1:
            raise OTAError(
                OTAError.HTTP_PROTOCOL,
                "Content-Range %d-%d contradicts Content-Length %d"
                % (conn.start, conn.end, conn.length),
            )

    def _redirect(self):
        location = self._conn.location
        if not location:
            raise OTAError(OTAError.REDIRECT, "status %d without a Location" % self.status)
        self.drop()
        url = join_url(self.url, location)
        try:
            origin = parse_url(url)
        except ValueError as e:
            raise OTAError(OTAError.REDIRECT, "Location can't be used: %s" % e)
        if self.origin[0] and not origin[0]:
            raise OTAError(OTAError.REDIRECT, "refused to go from https to http://%s" % origin[1])
        if origin[:3] not in (self.origin[:3], self._home) and self.position == self._from:
            self.reached = self.answered = False  # which must show first, as that of a wrong URL
        self._go(url, origin)
        if origin[:3] != self._home:
            # Secrets stay with the host they were given for, and nobody else sends them there.
            self._headers = {}
            self._digest = None
        if self.event:
            self.event(_REDIRECT, origin[1])

    def _go(self, url, origin):
        moved = origin[:3] != self.origin[:3]
        self.url = url
        self.origin = origin
        self._head = None
        if moved:
            if self._trust is not None and self._context is not None:
                self._context = None  # with or without the client's certificate
                gc.collect()  # one at a time
            self._choose_size()

    # -- bytes --------------------------------------------------------------------------------------

    def _read(self, buf):
        """One piece of the body, as large as it comes; 0 at the end of the file."""
        while True:
            if self.total is not None and self.position >= self.total:
                return 0
            if self._pending or self._out or self._conn is None or self._conn.ready():
                if not self._response():
                    return None
            # Where nothing tells the length, what must come is read and no byte more: a read that ends in an
            # error gives none of its bytes.
            limit = 0
            if self.total is None and not self._skip and self.position < self.least:
                limit = self.least - self.position
            try:
                n = self._conn.readinto(buf, limit)
                if n is None:
                    return None
            except (OSError, OTAError) as e:
                if self.total is None and 0 < self.least <= self.position:
                    n = 0  # the file is complete, and the server did not say goodbye
                elif (
                    self.open_end
                    and e.args[0] == ETIMEDOUT
                    and self.retry
                    and self.retry.position == self.position
                ):
                    # Twice at the same byte: a read that begins with data swallows TLS's close_notify, and some
                    # servers then wait for ours. It is as good an end as one whose close_notify nobody sees.
                    n = 0
                else:
                    raise
            if n and self._skip:
                self._pulse = time.ticks_ms()
                n = self._pass_over(buf, n)
                if not n:
                    return None
            if n:
                return n
            if self._skip:
                raise OTAError(
                    OTAError.DISCONNECTED,
                    "the whole file was sent again and ended before byte %d" % self.position,
                )
            if self.total is None:
                if self.position < self.least:
                    raise OTAError(
                        OTAError.DISCONNECTED,
                        "the connection ended after %d bytes, at least %d were to come"
                        % (self.position, self.least),
                    )
                self.total = self.position
                return 0
            if self.position != self._end:
                raise OTAError(
                    OTAError.DISCONNECTED,
                    "the response ended after %d of %d bytes" % (self.position, self._end),
                )
            if not self._conn.ready():
                self.drop()

    def _look_ahead(self):
        """Use the time that the caller takes to write what it got."""
        if self.position == self.total:
            self.drop()  # frees the TLS buffers
        elif self.position == self._end and self._conn.ready():
            # The next request goes out now, so that the round trip hides behind the flash.
            try:
                self._send()
            except (OSError, OTAError):
                self.drop()  # the next read connects anew

    def _pass_over(self, buf, n):
        if n <= self._skip:
            self._skip -= n
            return 0
        skip, self._skip = self._skip, 0
        n -= skip
        buf[:n] = bytes(buf[skip : skip + n])
        return n
