# One HTTP response: its status, the headers that matter, the bytes of its body (RFC 9112).

from micropython import const

from ..errors import OTAError

_MAX_TOKEN = const(256)
_MAX_LENGTH = const(0x10000000)  # no image is larger; also keeps counters small integers

# The headers that matter, by length and first letter: looking one up takes no memory.
_NAMES = {
    0xE63: b"content-length",
    0xD63: b"content-range",
    0x465: b"etag",
    0xD6C: b"last-modified",
    0xA63: b"connection",
    0x1174: b"transfer-encoding",
    0x1063: b"content-encoding",
}


class Response:
    """The head and the body of one response after the other: response(), then readinto() until it returns 0.

    `status`, `length` (of the body, -1 when the head does not tell), `start`, `end` and `total` of a Content-Range (-1 when
    absent), `old` (HTTP/1.0), `open_end` (only the end of the connection, TLS's or TCP's, ends the body, and MicroPython does not tell one
    from the other), `etag` and `modified` (bytes that begin with their kind, E or M; None when absent), `head_size` in
    bytes. Of redirects and errors (see odd.py) `location`, `challenge` (of a WWW-Authenticate for Digest, else of the
    last), `retry_after` (seconds, 0 when absent).

    A subclass has the bytes: `buf`, where at `at` that begins which has come and was not used; line(), take() and _read().
    `used` counts the bytes of the head, `cut` tells that the line is longer than `buf`. Of a part _note() keeps the head,
    `known` bytes, or 0 when it did not come in one piece; again() then reads one like it.
    """

    location = challenge = after = date = None
    retry_after = 0

    def __init__(self):
        self._in_head = False  # the status line has been read
        self.chunk = (
            0  # what comes next of a chunked body, see chunks.py; 0 when it is over, or is none
        )
        self.known = 0
        self.left = 0  # bytes of the body, or of its chunk, to come; -1 when the end of the connection is theirs
        self.keep = False
        self.etag = self.modified = self._last_etag = self._last_modified = None

    # -- the head ---------------------------------------------------------------------------------

    def response(self):
        """Read the head of the response and return its status; 1xx responses are passed over."""
        if self.known and not self._in_head:
            roof = 10
            while roof <= self.start:
                roof *= 10
            # Its numbers are as long as the last one's, then.
            if self.end + self.length < roof:
                found = self.again(self._first, self._last)
                if found:
                    self.at = self._first
                    self._content_range(self._first, self._last)
                    self.at = self.known
                    self.left = self.length
                    found = self.status
                if found is not False:
                    return found
        while True:
            end = self.line(self._in_head)
            if end is None:
                return None
            blank = end == self.at
            if not blank:
                if self._in_head:
                    self._header(end)
                else:
                    self._status_line(end)
            self.take()
            if blank and self._in_head:  # else: some servers end a body with an empty line
                self._in_head = False
                if self.status >= 200:
                    break
        self.head_size = n = self.used
        self.left = self.used = 0
        if self.status in (204, 304):
            self.chunk = 0
        elif self.chunk:
            # It outranks Content-Length, and with both, or in HTTP/1.0, what comes next can't be trusted (RFC 9112,
            # section 6.3).
            if self.length >= 0 or self.old:
                self.keep = False
            self.length = -1
        else:
            self.left = self.length
            if self.left < 0:
                self.keep = False
                self.open_end = True
        if self.left <= 0 or self.start < 0 or self.known != n:
            self.known = 0
        return self.status

    def _status_line(self, n):
        self._in_head = True
        self.chunk = 0
        self.open_end = False
        self.length = self.start = self.end = self.total = -1
        # Kept, so that the same again in the next response need not be allocated.
        self._last_etag = self.etag or self._last_etag
        self._last_modified = self.modified or self._last_modified
        self.etag = self.modified = self.location = None
        buf, at = self.buf, self.at
        # "HTTP/1.x nnn"
        if n - at < 12 or buf.find(b"HTTP/1.", at, n) != at or buf[at + 8] != 32:
            self.refuse(n)
        self.old = buf[at + 7] == 48
        self.keep = not self.old  # HTTP/1.0 closes
        self._number(at + 9, n, 0)
        self.status = self._value
        if not 100 <= self.status <= 599 or self.status == 101:
            self.refuse(n)
        if self.status == 206:
            self._note()

    def _header(self, n):
        """Take what matters from the header in the line up to n."""
        buf, at = self.buf, self.at
        if buf[at] in b" \t":
            return  # the first line, and no header (RFC 9112, section 2.2)
        i = end = buf.find(b":", at, n)
        # Spaces before the colon, and around the value, are not part of them.
        while end > at and buf[end - 1] in b" \t":
            end -= 1
        name = _NAMES.get(end - at << 8 | buf[at] | 32)
        if name:
            self._lower(at, end)
            if buf.find(name, at, end) != at:
                name = None
        if i < 0:
            i, end = at - 1, at
        elif not name and self.status < 300:
            return
        i = self._skip(i + 1, n)
        while n > i and buf[n - 1] in b" \t":
            n -= 1
        # What says where the body ends, and what it is, is taken to the letter.
        if name == b"content-length":
            # Proxies write it twice, as "5, 5" (RFC 9110, section 8.6).
            while i <= n:
                i = self._number(i, n, 44)
                if self.length < 0:
                    self.length = self._value
                if self.length != self._value:
                    self.refuse(n)
        elif name == b"content-range":
            if self.status == 206:
                self._first = i
                self._last = n
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
        else:
            from .odd import note

            note(self, bytes(buf[at:end]).lower(), bytes(buf[i:n]), n)

    def _content_range(self, i, n):
        # "bytes 0-499/1234", "bytes 0-499/*"; "bytes */1234" tells nothing of a part
        buf = self.buf
        self._lower(i, n)
        if buf.find(b"bytes", i, n) != i:
            self.refuse(n)
        i = self._skip(i + 5, n)
        if i < n and buf[i] == 61:
            i = self._skip(i + 1, n)
        if i == n or buf[i] != 42:
            i = self._number(i, n, 45)
            self.start = self._value
            i = self._skip(self._number(i, n, 47), n)
            self.end = self._value
            if i >= n or buf[i] != 42:
                self._number(i, n, 44)
                self.total = self._value

    def _number(self, i, n, mark):
        """Put the decimal number at i, with spaces around it, in _value; return where it goes on behind the `mark`.

        The end of the line is as good as a comma; behind 0 anything may follow.
        """
        buf = self.buf
        first = i = self._skip(i, n)
        value = 0
        while i < n and 48 <= buf[i] <= 57 and value <= _MAX_LENGTH:
            value = value * 10 + buf[i] - 48
            i += 1
        bad = i == first or value > _MAX_LENGTH
        i = self._skip(i, n)
        if bad or (mark and (self.cut or (buf[i] if i < n else 44) != mark)):
            self.refuse(n)
        self._value = value
        return i + 1

    def _token(self, kind, i, n, known):
        """The byte `kind` and what is up to n, `known` if it is that; None when it can't be sent back: too long, empty, not
        ASCII.
        """
        i -= 1  # there is the colon, or a space
        buf = self.buf
        buf[i] = kind
        if known is not None and n - i == len(known) and buf.find(known, i, n) == i:
            return known
        if self.cut or not 1 < n - i <= _MAX_TOKEN:
            return None
        token = bytes(buf[i:n])
        return token if 32 <= min(token) and max(token) < 127 else None

    def _lower(self, i, n):
        buf = self.buf
        while i < n:
            if 65 <= buf[i] <= 90:
                buf[i] |= 32
            i += 1

    def _skip(self, i, n):
        """Where from i on there is no space."""
        while i < n and self.buf[i] in b" \t":
            i += 1
        return i

    def refuse(self, n):
        """Raise OTAError for the line up to n."""
        from ..errors import as_text

        at = self.at
        raise OTAError(
            OTAError.HTTP_PROTOCOL,
            "expected HTTP/1.1, got %r" % as_text(self.buf[at:n], min(n - at, 60)),
        )

    # -- the body ---------------------------------------------------------------------------------

    def readinto(self, buf, limit=0):
        """Read body bytes into buf, at most `limit` if that is above 0; 0 at the end of this response's body."""
        if self.chunk and not self.left:
            from .chunks import next_chunk

            if not next_chunk(self):
                return None
        size = len(buf)
        if 0 < limit < size:
            size = limit
        left = self.left
        if 0 <= left < size:
            size = left
        if not size:
            return 0
        n = self._held(buf, size)
        if n is None:
            return None
        if left > 0:
            if not n:
                raise OTAError(
                    OTAError.DISCONNECTED,
                    "the server closed the connection, %d bytes too early" % left,
                )
            self.left -= n
        elif not n:
            self.left = 0
        return n

    def ready(self):
        """True when the response has been read to its end and the server will take another request."""
        return self.keep and not self.left and not self.chunk
