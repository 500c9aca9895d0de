# One HTTP response: its status, the headers that matter, the bytes of its body (RFC 9112).

from micropython import const

from ..errors import OTAError
from ..hot import copy_xor

_MAX_TOKEN = const(256)
_MAX_LENGTH = const(0x10000000)  # no image is larger; also keeps counters small integers

_UNTIL_CLOSE = const(-1)  # in `left`
# In `_chunk`, what comes next of a chunked body.
_SIZE_LINE = const(1)
_DATA = const(2)
_TRAILER = const(3)

# The headers that matter, by length and first letter: looking one up takes no memory.
_NAMES = {
    0xE63: b"content-length",
    0xD63: b"content-range",
    0x465: b"etag",
    0xD6C: b"last-modified",
    0xA63: b"connection",
    0x1174: b"transfer-encoding",
    0x1063: b"content-encoding",
    0x86C: b"location",
    0xB72: b"retry-after",
    0x464: b"date",
    0x1077: b"www-authenticate",
}


class Response:
    """The head and the body of one response after the other: response(), then readinto() until it returns 0.

    `status`, `length` (of the body, -1 when the head does not tell), `start`, `end`
    and `total` of a Content-Range (-1 when absent), `open_end` (only the end of the connection, TLS's or TCP's, ends the
    body, and MicroPython does not tell one from the other), `location`, `etag` and `modified` (bytes that begin with their
    kind, E or M; None when absent), `challenge` (of a WWW-Authenticate for Digest, else of the last; likewise),
    `retry_after` (seconds, 0 when absent), `head_size` in bytes.

    A subclass has the bytes: `_buf`, with what has come and was not used from _at to _end, and _line(), _take(), _read().
    """

    def __init__(self):
        self._in_head = False  # the status line has been read
        self._old = False  # HTTP/1.0
        self._chunk = 0
        self.left = 0  # bytes of the body, or of its chunk, to come
        self.keep = self.open_end = False
        self.status = self.head_size = 0
        self.length = self.start = self.end = self.total = -1
        self.location = self.challenge = self.etag = self.modified = None
        self._last_etag = self._last_modified = None
        self.after = self.date = None  # of a Retry-After
        self.retry_after = 0

    # -- the head ---------------------------------------------------------------------------------

    def response(self):
        """Read the head of the response and return its status; 1xx responses are passed over."""
        while True:
            end = self._line(self._in_head)
            if end is None:
                return None
            if end > self._at:
                if self._in_head:
                    self._header(end)
                else:
                    self._status_line(end)
                    self._in_head = True
                self._take()
                continue
            self._take()
            if self._in_head:  # else: some servers end a body with an empty line
                self._in_head = False
                if self.status >= 200:
                    break
                if self.status == 101:
                    raise OTAError(OTAError.HTTP_PROTOCOL, "expected a file, got status 101")
        self.left = 0
        self.head_size = self._used
        self._used = 0
        if self.status in (204, 304):
            self._chunk = 0
        elif self._chunk:
            # It outranks Content-Length, and with both, or in HTTP/1.0, what comes next can't be trusted (RFC 9112,
            # section 6.3).
            if self.length >= 0 or self._old:
                self.keep = False
            self.length = -1
        elif self.length >= 0:
            self.left = self.length
        else:
            self.left = _UNTIL_CLOSE
            self.keep = False
            self.open_end = True
        return self.status

    def _status_line(self, n):
        self._chunk = 0
        self.open_end = False
        self.length = self.start = self.end = self.total = -1
        # Kept, so that the same again in the next response need not be allocated.
        self._last_etag = self.etag or self._last_etag
        self._last_modified = self.modified or self._last_modified
        self.location = self.challenge = self.etag = self.modified = None
        self.after = self.date = None
        self.retry_after = 0
        buf, at = self._buf, self._at
        # "HTTP/1.x nnn"
        if n - at < 12 or buf.find(b"HTTP/1.", at, n) != at or buf[at + 8] != 32:
            self._refuse(at, n, "an HTTP/1.1 status line")
        self._old = buf[at + 7] == 48
        self.keep = not self._old  # HTTP/1.0 closes
        self._number(at + 9, n)
        self.status = self._value
        if not 100 <= self.status <= 599:
            self._refuse(at, n, "a status from 100 to 599")

    def _header(self, n):
        """Take what matters from the header in the line up to n."""
        buf, at = self._buf, self._at
        if buf[at] in b" \t":
            return  # the first line, and no header (RFC 9112, section 2.2)
        i = end = buf.find(b":", at, n)
        if i < 0:
            # Most clients pass over a line that is no header.
            self._lower(at, n)
            if buf.find(b"content-length", at, n) == at or buf.find(b"transfer-enc", at, n) == at:
                self._refuse(at, n, "'name: value'")
            return
        # Spaces before the colon, and around the value, are not part of them.
        while end > at and buf[end - 1] in b" \t":
            end -= 1
        name = _NAMES.get(end - at << 8 | buf[at] | 32)
        if name is None:
            return
        self._lower(at, end)
        if buf.find(name, at, end) != at:
            return
        i = self._skip(i + 1, n)
        while n > i and buf[n - 1] in b" \t":
            n -= 1
        # What says where the body ends, and what it is, is taken to the letter.
        if name == b"content-length":
            self._content_length(i, n)
        elif name == b"content-range":
            if self.status == 206:
                self._content_range(i, n)
        elif name == b"etag":
            self.etag = self._token(69, i, n, self._last_etag)
        elif name == b"last-modified":
            self.modified = self._token(77, i, n, self._last_modified)
        elif name == b"connection":
            self._lower(i, n)
            if buf.find(b"close", i, n) >= 0:
                self.keep = False
            elif buf.find(b"keep-alive", i, n) >= 0:
                self.keep = True
        elif name == b"transfer-encoding":
            value = bytes(buf[i:n]).lower()
            if self._cut or value not in (b"chunked", b"identity"):
                self._refuse(i, n, "chunked or no Transfer-Encoding")
            if value == b"chunked":
                self._chunk = _SIZE_LINE
        elif name == b"content-encoding":
            # The page of an error may be compressed: all that counts is its status.
            if self.status < 300:
                from .odd import changes

                if self._cut or changes(buf[i:n]):
                    self._refuse(i, n, "no Content-Encoding, as asked for")
        elif self.status >= 400 or (self.status >= 300 and name == b"location"):
            from .odd import note

            note(self, name, bytes(buf[i:n]), self._cut)

    def _content_length(self, i, n):
        # Proxies write it twice, as "5, 5" (RFC 9110, section 8.6).
        start = i
        while True:
            i = self._number(i, n)
            if self.length < 0:
                self.length = self._value
            if self.length != self._value or self._cut or (i < n and self._buf[i] != 44):
                self._refuse(start, n, "one Content-Length")
            if i == n:
                return
            i += 1

    def _content_range(self, i, n):
        # "bytes 0-499/1234", "bytes 0-499/*"; "bytes */1234" tells nothing of a part
        buf = self._buf
        start = i
        self._lower(i, n)
        good = buf.find(b"bytes", i, n) == i and not self._cut
        if good:
            i = self._skip(i + 5, n)
            if i < n and buf[i] == 61:
                i = self._skip(i + 1, n)
            if i < n and buf[i] == 42:
                return
            i = self._number(i, n)
            self.start = self._value
            good = i < n and buf[i] == 45
        if good:
            i = self._number(i + 1, n)
            self.end = self._value
            good = i < n and buf[i] == 47
        if good:
            i = self._skip(i + 1, n)
            if i == n or buf[i] != 42:
                i = self._number(i, n)
                self.total = self._value
                good = i == n or not 48 <= buf[i] <= 57
        if not good:
            self._refuse(start, n, "'bytes first-last/length' in Content-Range")

    def _number(self, i, n):
        """Put the decimal number at i, with spaces around it, in _value; return where it goes on."""
        buf = self._buf
        value = -1
        at = i = self._skip(i, n)
        while i < n:
            c = buf[i] - 48
            if not 0 <= c <= 9 or value > _MAX_LENGTH:
                break
            value = c if value < 0 else value * 10 + c
            i += 1
        if not 0 <= value <= _MAX_LENGTH or (i < n and buf[i] not in b" \t,/-;"):
            self._refuse(at, n, "a number up to %d" % _MAX_LENGTH)
        self._value = value
        return self._skip(i, n)

    def _token(self, kind, i, n, known):
        """The byte `kind` and what is up to n, `known` if it is that; None when it can't be sent back: too long, empty, not
        ASCII.
        """
        i -= 1  # there is the colon, or a space
        buf = self._buf
        buf[i] = kind
        if known is not None and n - i == len(known) and buf.find(known, i, n) == i:
            return known
        if self._cut or not 1 < n - i <= _MAX_TOKEN:
            return None
        token = bytes(buf[i:n])
        return token if all(32 <= c < 127 for c in token) else None

    def _lower(self, i, n):
        buf = self._buf
        while i < n:
            if 65 <= buf[i] <= 90:
                buf[i] |= 32
            i += 1

    def _skip(self, i, n):
        """Where from i on there is no space."""
        while i < n and self._buf[i] in b" \t":
            i += 1
        return i

    def _refuse(self, i, n, expected):
        from ..errors import as_text

        raise OTAError(
            OTAError.HTTP_PROTOCOL,
            "expected %s, got %r" % (expected, as_text(self._buf[i:n], min(n - i, 60))),
        )

    # -- the body ---------------------------------------------------------------------------------

    def readinto(self, buf, limit=0):
        """Read body bytes into buf, at most `limit` unless that is 0; 0 at the end of this response's body."""
        if self._chunk and self.left == 0 and not self._next_chunk():
            return None
        size = len(buf)
        if 0 < limit < size:
            size = limit
        if 0 <= self.left < size:
            size = self.left
        if not size:
            return 0
        held = self._end - self._at
        if held:
            n = min(size, held)
            copy_xor(buf, 0, self._buf, self._at, n, 0)
            self._at += n
            self._scan = self._at
        elif self._error:
            raise self._error
        else:
            n = self._read(buf, size)
            if n is None:
                return None
        if self.left > 0:
            if not n:
                raise OTAError(
                    OTAError.DISCONNECTED,
                    "the server closed the connection with %d bytes of the response to come"
                    % self.left,
                )
            self.left -= n
        elif not n:
            self.left = 0
        return n

    def ready(self):
        """True when the response has been read to its end and the server will take another request."""
        return self.keep and self.left == 0 and not self._chunk

    def _next_chunk(self):
        """True when `left` tells of the next chunk, or the body is over."""
        while self._chunk:
            n = self._line(self._chunk == _TRAILER)
            at = self._at
            if self._chunk == _DATA and at < self._end and self._buf[at] not in b"\r\n":
                self._refuse(at, self._end, "a line end behind a chunk")
            if n is None:
                return None
            if self._chunk == _DATA:
                if n > at:
                    self._refuse(at, n, "a line end behind a chunk")
                self._chunk = _SIZE_LINE
            elif self._chunk == _SIZE_LINE:
                size = 0
                i = at
                while i < n and size <= _MAX_LENGTH:
                    c = self._buf[i] - 48
                    if c > 9:
                        c = (c | 32) - 39  # a letter
                        if c < 10:
                            break
                    if not 0 <= c <= 15:
                        break
                    size = size * 16 + c
                    i += 1
                if i == at or size > _MAX_LENGTH or (i < n and self._buf[i] not in b" \t;"):
                    self._refuse(at, n, "a chunk's size")
                self.left = size
                self._chunk = _DATA if self.left else _TRAILER
            elif n == at:
                self._chunk = 0
            self._take()
            if self._chunk != _TRAILER:
                self._used = 0
            if self.left:
                break
        return True
