# One connection: URL, socket and TLS, one request at a time, the head of its response, its body's bytes.
#
# Nothing in the steady state allocates: a request is sent from a buffer, the head is read byte by
# byte into another, the body goes straight to the caller's.

import gc
import socket
import time
from errno import EINPROGRESS, ETIMEDOUT
from select import POLLERR, POLLHUP, POLLIN, POLLOUT, poll

from micropython import const

from ..errors import OTAError

_SLICE_MS = const(250)  # the longest wait at once
_CONN_EOF = const(-29312)  # MBEDTLS_ERR_SSL_CONN_EOF

_LINE = const(256)  # a longer head line is cut to this, Location's excepted
_MAX_LOCATION = const(2048)
_MAX_HEAD = const(16384)  # bytes of head, interim (1xx) responses included
_MAX_LENGTH = const(0x10000000)  # no image is larger; also keeps counters small integers

_UNTIL_CLOSE = const(-1)
_CHALLENGE = b"www-authenticate:"


def tls_buffer():
    """The firmware's CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN, as its board says; the default is 16384."""
    try:
        from https_ota_board import TLS_IN_CONTENT_LEN

        return TLS_IN_CONTENT_LEN
    except ImportError:
        return 16384


def parse_url(url):
    """Split a URL into (tls, host, port, target), the host in lower case; ValueError says what is wrong with it."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in ("https", "http") or not rest:
        # Without what may be a secret: a password, or a query with a token.
        shown = url.split("?", 1)[0].rpartition("@")[2]
        raise ValueError("url: expected https://host/path, got %r" % shown)
    for c in url:
        if not "!" <= c <= "~":
            raise ValueError("url: %r must be percent-encoded" % c)
    rest = rest[: _find(rest, "#")]
    cut = _find(rest, "/?")
    netloc, target = rest[:cut], rest[cut:]
    if not target.startswith("/"):
        target = "/" + target
    if "@" in netloc:
        raise ValueError("url: give name and password as auth=(name, password), not in the URL")
    tls = scheme == "https"
    port = 443 if tls else 80
    host = netloc
    colon = netloc.rfind(":")
    if colon > netloc.rfind("]"):
        host = netloc[:colon]
        digits = netloc[colon + 1 :]
        if digits:
            if not digits.isdigit() or not 0 < int(digits) < 65536:
                raise ValueError("url: %r is no port" % digits)
            port = int(digits)
    # Names are compared: in one spelling, and without the dot at the end, which no certificate has.
    host = host.lower()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif host.endswith("."):
        host = host[:-1]
    if "%" in host and ":" not in host:
        raise ValueError(
            "url: %r is no host; other letters than ASCII's are written as xn--..." % host
        )
    if not host:
        raise ValueError("url: no host in %r" % url.split("?", 1)[0])
    return tls, host, port, target


def identity(url):
    """What of a URL tells which file it names: all of it, but for what changes with each presigned link."""
    url = url.split("#", 1)[0]
    if "?" in url:
        from .odd import without_signature

        url = without_signature(url)
    return url


def join_url(base, location):
    """The absolute URL of a Location header seen at `base`, as browsers read it (RFC 3986, section 5.2; WHATWG's URL).

    What must be percent-encoded is so in the result.
    """
    scheme, _, rest = base.partition("://")
    scheme = scheme.lower()
    rest = rest[: _find(rest, "#")]
    n = _find(rest, "/?")
    netloc, path = rest[:n], rest[n:]
    for c in "\t\r\n":
        location = location.replace(c, "")
    location = location.strip()
    location = location[: _find(location, "#")]
    n = _find(location, "?")
    where, query = location[:n].replace("\\", "/"), location[n:]
    name, colon, more = where.partition(":")
    kind = name.lower()
    if colon and kind in ("https", "http"):
        where = more
        if kind != scheme and not more.startswith("//"):
            where = "//" + more.lstrip("/")
        scheme = kind
    elif more.startswith("//") and "/" not in name:
        return location  # of another kind, which parse_url() will say
    n = _find(path, "?")
    if where.startswith("//"):
        n = 2 + _find(where[2:], "/")
        netloc, path = where[2:n], where[n:]
    elif where.startswith("/"):
        path = where
    elif where:
        path = path[: path.rfind("/", 0, n) + 1] + where
    else:
        query = query or path[n:]
        path = path[:n]
    parts = []
    part = ""
    for piece in path.split("/")[1 if path.startswith("/") else 0 :]:
        part = piece.lower().replace("%2e", ".")
        if part == "..":
            if parts:
                parts.pop()
        elif part != ".":
            parts.append(piece)
    if part in (".", ".."):
        parts.append("")
    path = _encode("/".join(parts), b'"<>^`{}')
    return "%s://%s/%s%s" % (scheme, netloc, path, _encode(query, b"\"'<>"))


def _find(text, marks):
    """Where the first of these characters is, the length of the text if nowhere."""
    n = len(text)
    for c in marks:
        i = text.find(c)
        if 0 <= i < n:
            n = i
    return n


def _encode(text, more):
    """Percent-encode what can't be in a URL, and the characters `more`."""
    return "".join(
        chr(c) if 32 < c < 127 and c not in more else "%%%02X" % c for c in text.encode()
    )


class Connection:
    """A connection to one host: open() first. open(), send(), response() and readinto() return None where they would have to
    wait: call them again then, waits_for() tells what for, wait() waits for it. Nothing is lost by it. Looking up the host's
    name does wait, as MicroPython has no other way.

    `context` is a tls.SSLContext, or None for plain TCP; `timeout_s` is how long the network may be silent;
    `answered` is called when there is a TCP connection, before the TLS handshake.
    After response(): `status`, `length` (of the body, -1 when the head does not tell), `start`, `end`
    and `total` of a Content-Range (-1 when absent), `open_end` (only the end of the connection, TLS's or TCP's, ends the
    body, and MicroPython does not tell one from the other), `location`, `etag` and `modified` (bytes that begin with their
    kind, E or M; None when absent), `challenge` (of a WWW-Authenticate for Digest, else of the last; likewise),
    `retry_after` (seconds, 0 when absent), `head_size` in bytes.
    """

    def __init__(self, host, port, context, timeout_s, answered=None):
        self._one = bytearray(1)
        self._line = bytearray(_LINE)
        self._n = 0  # bytes of the line so far
        self._over = False  # it is longer than that
        self._rest = None  # the rest of it, Location's only
        self._ended = False  # its end has come, but the next may belong to it
        self._held = False  # that has come, and is the first byte of the next
        self._in_head = False  # the status line has been read
        self._in_trailer = False
        self._chunk_ends = False
        self._sent = 0  # bytes of the request so far
        self._at = 0
        self._budget = 0
        self._chunked = False
        self._old = False  # HTTP/1.0
        self.keep = False
        self.open_end = False
        self.left = 0
        self.length = -1
        self.status = 0
        self.start = self.end = self.total = -1
        self.location = self.challenge = None
        self.etag = self.modified = None
        self._last_etag = self._last_modified = None
        self._after = self._date = None  # of a Retry-After
        self.head_size = 0
        self.addresses = None  # of the host that were not tried
        self._address = None  # the one that was
        self._raw = None  # the TCP socket
        self._sock = None  # the stream, once TCP is connected
        self._peer = host, port, context
        self._timeout_ms = max(1, int(timeout_s * 1000))
        self._answered = answered
        self._poller = poll()
        self.waiting = False  # for the network, since
        self._since = 0
        self.opened = False  # for its owner, to be set once open() and what comes with it is done

    def open(self):
        """Make sure that there is a connection, TLS's handshake included."""
        try:
            if self.addresses is None:
                host, port, _ = self._peer
                self.addresses = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
            while self._sock is None:
                try:
                    if self._raw is None:
                        self._address = self.addresses.pop(0)
                        self._connect(self._address)
                    if not self._end_connect():
                        return None
                except OSError:
                    if not self.addresses:
                        raise
                    self._hang_up()
            if self._sock is not self._raw and not self._handshake():
                return None
        except (OSError, ValueError, MemoryError) as e:
            self._fail(e)
        return True

    def _connect(self, address):
        self._raw = socket.socket(address[0], address[1], address[2])
        self._raw.setblocking(False)
        self._poller.register(self._raw, POLLOUT | POLLHUP)
        self._to_write = True
        try:
            self._raw.connect(address[-1])
        except OSError as e:
            if e.errno != EINPROGRESS:
                raise

    def _end_connect(self):
        for _, events in self._poller.ipoll(0):
            break
        else:
            return self._wait(True)
        self.waiting = False
        if events & (POLLERR | POLLHUP):
            self._raw.recv(1)  # raises the error
            raise OSError(ETIMEDOUT)
        host, _, context = self._peer
        if self._answered:
            self._answered()
        if context is None:
            self._sock = self._raw
            return True
        gc.collect()  # a handshake wants large blocks
        self._sock = context.wrap_socket(
            self._raw, server_hostname=host, do_handshake_on_connect=False
        )
        return True

    def _handshake(self):
        sock = self._sock
        while sock.getpeercert(True) is None:
            # Reading drives it. There is nothing to be read before the first request.
            got = self._read(self._one, 1)
            if got is not None:
                raise OSError(ETIMEDOUT if got else _CONN_EOF)
            if sock.getpeercert(True) is None:
                return None
        self.waiting = False
        return True

    def _fail(self, e):
        """Raise what the error `e` of connecting means."""
        host, port, _ = self._peer
        self.close()
        if isinstance(e, MemoryError):
            raise e
        from .words import connect_error

        raise connect_error(e, host, port, self._address)

    def close(self):
        """Close the socket; harmless when it is closed."""
        self.keep = False
        self.left = 0
        self._chunked = False
        self._hang_up()

    def _hang_up(self):
        sock, self._sock = self._sock, None
        raw, self._raw = self._raw, None
        self.waiting = False
        if raw is not None:
            self._poller.unregister(raw)
        for s in (sock, raw):
            if s is not None:
                try:
                    s.close()
                except OSError:
                    pass  # the peer is gone: nothing is lost

    def certificate(self):
        """The server's certificate, DER."""
        return self._sock.getpeercert(True)

    def send(self, request, n):
        """Send request[:n]; response() and readinto() then read the answer."""
        self.keep = False
        self._budget = _MAX_HEAD
        while self._sent < n:
            sent = self._sent
            m = (
                self._sock.write(request, n)
                if sent == 0
                else self._sock.write(request, sent, n - sent)
            )
            if not m:
                return self._wait(True)
            self._sent += m
            self.waiting = False
        self._sent = 0
        return True

    def _read(self, buf, n):
        if self.waiting:
            self._look(0)
        n = self._sock.readinto(buf, n)
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
        if self._left() <= 0:
            raise OSError(ETIMEDOUT)

    def _left(self):
        return self._timeout_ms - time.ticks_diff(time.ticks_ms(), self._since)

    def _look(self, ms):
        # What comes is progress, be it only a piece of a TLS record.
        for _ in self._poller.ipoll(ms):
            self.waiting = False

    def waits_for(self):
        """After None: (stream, True when it waits to write, milliseconds it may wait at most)."""
        return self._sock or self._raw, self._to_write, max(0, self._left())

    def wait(self):
        """Block until what came to None may be tried again, but not for long."""
        self._look(max(0, min(self._left(), _SLICE_MS)))

    def response(self):
        """Read the head of the response and return its status; 1xx responses are passed over."""
        while True:
            if not self._read_head():
                return None
            if self.status >= 200:
                self.head_size = _MAX_HEAD - self._budget
                return self.status
            if self.status == 101:
                raise OTAError(
                    OTAError.HTTP_PROTOCOL, "the server switched protocols (101) unasked"
                )

    def readinto(self, buf, limit=0):
        """Read body bytes into buf, at most `limit` unless that is 0; 0 at the end of this response's body."""
        if self._chunked and self.left == 0:
            if not self._next_chunk():
                return None
        if self.left == 0:
            return 0
        size = len(buf)
        if 0 < limit < size:
            size = limit
        if 0 < self.left < size:
            size = self.left
        n = self._read(buf, size)
        if n is None:
            return None
        if self.left > 0:
            if n == 0:
                raise OTAError(
                    OTAError.DISCONNECTED,
                    "the server closed the connection with %d bytes of the response to come"
                    % self.left,
                )
            self.left -= n
            self._chunk_ends = self._chunked and self.left == 0
        elif n == 0:
            self.left = 0
        return n

    def ready(self):
        """True when the response has been read to its end and the server will take another request."""
        return self.keep and self.left == 0 and not self._chunked

    def text(self, size=120):
        """The first bytes of the body as text for an error message; '' when it is not text, None when it has not come."""
        from ..errors import as_text

        try:
            buf = bytearray(size)
            n = self.readinto(buf)
            return None if n is None else as_text(buf, n)
        except (OSError, OTAError):
            return ""

    # -- the head ---------------------------------------------------------------------------------

    def _read_head(self):
        while not self._in_head:
            n = self._read_line(False)
            if n is None:
                return None
            if n:  # some servers end a body with an empty line
                self._status_line(n)
                self._in_head = True
        n = self._read_line()
        while n:
            self._header(n)
            n = self._read_line()
        if n is None:
            return None
        self._in_head = False
        if self.status in (204, 304) or self.status < 200:
            self.left = 0
            self._chunked = False
        elif self._chunked:
            # The first chunk's size is still to be read; it outranks Content-Length, and with both, or in HTTP/1.0,
            # what comes next can't be trusted (RFC 9112, section 6.3).
            if self.length >= 0 or self._old:
                self.keep = False
            self.left = 0
            self.length = -1
        elif self.length >= 0:
            self.left = self.length
        else:
            self.keep = False
            self.open_end = True
        return True

    def _status_line(self, n):
        self._chunked = False
        self.left = _UNTIL_CLOSE
        self.open_end = False
        self.length = self.start = self.end = self.total = -1
        # Kept, so that the same again in the next response need not be allocated.
        self._last_etag = self.etag or self._last_etag
        self._last_modified = self.modified or self._last_modified
        self.location = self.challenge = self.etag = self.modified = None
        self._after = self._date = None
        line = self._line
        # "HTTP/1.x nnn"
        if n < 12 or not line.startswith(b"HTTP/1.") or line[8] != 32:
            from ..errors import as_text

            if n >= 5 and line.startswith(b"HTTP/"):
                what = "got version %s" % as_text(line[5:n], min(n - 5, 3))
            else:
                what = "the answer starts with %r" % as_text(line, min(n, 32))
            raise OTAError(OTAError.HTTP_PROTOCOL, "expected an HTTP/1.1 status line, " + what)
        self._old = line[7] == 0x30
        self.keep = not self._old  # HTTP/1.0 closes
        self.status = self._number(9, n)
        if not 100 <= self.status <= 599:
            raise OTAError(
                OTAError.HTTP_PROTOCOL, "status %d is none of HTTP's (100 to 599)" % self.status
            )

    def _header(self, n):
        """Take what matters from the header in the line."""
        line = self._line
        if line[0] in b" \t":
            return  # the first line, and no header (RFC 9112, section 2.2)
        whole = n < _LINE
        i = self._lower(0, n, 58)
        if i == n:
            # Most clients pass over a line that is no header.
            if line.startswith((b"content-length", b"transfer-encoding")):
                self._refuse("head", 0, n, "'name: value'")
            return
        # Spaces before the colon, and around the value, are not part of them.
        line[self._trim(0, i)] = 58
        i = self._skip(i + 1, n)
        if whole:
            n = self._trim(i, n)
        if line.startswith((b"content-", b"transfer-encoding:")):
            self._frame(i, n, whole)
        else:
            self._note(i, n, whole)

    def _frame(self, i, n, whole):
        """Take what says where the body ends and what it is: to the letter."""
        line = self._line
        if line.startswith(b"content-length:"):
            if not whole:
                self._refuse("Content-Length", i, n, "one number")
            self._content_length(i, n)
        elif line.startswith(b"transfer-encoding:"):
            if whole and self._is(b"chunked", i, n):
                self._chunked = True
            elif not (whole and self._is(b"identity", i, n)):
                self._refuse("Transfer-Encoding", i, n, "chunked or none")
        elif line.startswith(b"content-range:"):
            if self.status == 206:
                if not whole:
                    self._refuse("Content-Range", i, n, "'bytes first-last/length'")
                self._content_range(i, n)
        elif line.startswith(b"content-encoding:"):
            # The page of an error may be compressed: all that counts is its status.
            if self.status < 300 and not self._is(b"identity", i, n):
                from .odd import changes

                if not whole or changes(line[i:n]):
                    self._refuse(
                        "Content-Encoding", i, n, "none: compressed replies were not asked for"
                    )

    def _note(self, i, n, whole):
        """Take what else is of use, if it can be used: only a redirect fails without its Location."""
        line = self._line
        if line.startswith(b"connection:"):
            self._lower(i, n, 0)
            if line.find(b"close", i, n) >= 0:
                self.keep = False
            elif line.find(b"keep-alive", i, n) >= 0:
                self.keep = True
        elif line.startswith(b"etag:"):
            if whole:
                self.etag = self._token(69, i, n, self._last_etag)
        elif line.startswith(b"last-modified:"):
            if whole:
                self.modified = self._token(77, i, n, self._last_modified)
        elif line.startswith(b"retry-after:"):
            self._after = bytes(line[i:n])
        elif line.startswith(b"date:"):
            if self.status >= 400:
                self._date = bytes(line[i:n])
        elif line.startswith(b"location:"):
            if 300 <= self.status < 400:
                self._set_location(i, n)
        elif line.startswith(_CHALLENGE):
            value = self._whole_value(i, n)
            if self.challenge is None or value[:7].lower() == b"digest ":
                self.challenge = value

    @property
    def retry_after(self):
        """Seconds after which the server wants to be asked again, 0 when it does not say."""
        if self._after is None:
            return 0
        from .odd import seconds

        return seconds(self._after, self._date)

    def _content_length(self, i, n):
        # Proxies write it twice, as "5, 5" (RFC 9110, section 8.6).
        value = i
        while True:
            length = self._number(i, n)
            if 0 <= self.length != length:
                raise OTAError(
                    OTAError.HTTP_PROTOCOL,
                    "two Content-Lengths: %d and %d" % (self.length, length),
                )
            self.length = length
            i = self._at
            if i == n:
                return
            if self._line[i] != 44:
                self._refuse("Content-Length", value, n, "one number")
            i += 1

    def _read_line(self, folds=True):
        """Read a line into self._line; return its length without the line end, at most _LINE. None: go on later.

        With `folds`, one that goes on in the next, which then begins with a space, is one line (RFC 9112, section 5.2).
        """
        line = self._line
        one = self._one
        while True:
            if self._held:
                self._held = False
            else:
                got = self._read(one, 1)
                if got is None:
                    return None
                if not got:
                    raise OTAError(
                        OTAError.DISCONNECTED,
                        "the server closed the connection before its answer was complete",
                    )
                self._budget -= 1
                if self._budget < 0:
                    raise OTAError(
                        OTAError.HTTP_PROTOCOL,
                        "the response's head is longer than %d bytes" % _MAX_HEAD,
                    )
            n = self._n
            if n == 0 and not self._over:
                self._rest = None
            c = one[0]
            if self._ended:
                self._ended = False
                if c not in b" \t":
                    self._held = True
                    break
            elif c == 10:
                if self._over:
                    if self._rest and self._rest[-1] == 13:
                        self._rest = self._rest[:-1]
                elif n and line[n - 1] == 13:
                    n -= 1
                    self._n = n
                if n == 0 or not folds:
                    break
                self._ended = True
                continue
            if n < _LINE:
                line[n] = c
                self._n = n + 1
            else:
                # Only in redirects and challenges does the whole length of a header count.
                if not self._over:
                    self._over = True
                    name = bytes(line[: line.find(b":")]).lower().strip()
                    if name in (b"location", _CHALLENGE[:-1]):
                        self._rest = bytearray()
                if self._rest is not None and len(self._rest) < _MAX_LOCATION:
                    self._rest.append(c)
        self._over = False
        self._n = 0
        return n

    def _set_location(self, i, n):
        value = self._whole_value(i, n)
        if len(value) > _MAX_LOCATION:
            raise OTAError(OTAError.REDIRECT, "Location is longer than %d bytes" % _MAX_LOCATION)
        try:
            self.location = value.decode().strip()
        except UnicodeError:
            raise OTAError(OTAError.REDIRECT, "Location is not text")

    def _whole_value(self, i, n):
        value = self._line[i:n]
        if self._rest is not None:
            value += self._rest
        return bytes(value)

    def _lower(self, i, n, end):
        """Lower-case line[i:n] in place up to the byte `end`; return where that is, n if nowhere."""
        line = self._line
        while i < n:
            c = line[i]
            if c == end:
                return i
            if 65 <= c <= 90:
                line[i] = c + 32
            i += 1
        return n

    def _token(self, kind, i, n, known):
        """The byte `kind` and line[i:n], `known` if it is that; None when it can't be sent back: cut, empty or not ASCII."""
        i -= 1  # there is the colon, or a space
        line = self._line
        line[i] = kind
        if known is not None and n - i == len(known) and line.find(known, i) == i:
            return known
        token = bytes(line[i:n])
        return token if len(token) > 1 and all(32 <= c < 127 for c in token) else None

    def _is(self, word, i, n):
        """True when line[i:n] is `word` in any case."""
        self._lower(i, n, 0)
        return n - i == len(word) and self._line.find(word, i) == i

    def _number(self, i, n, end=0):
        """The decimal number at line[i:n], with the byte `end` behind it unless that is 0; self._at is then where it goes on.

        There may be spaces before and behind it.
        """
        line = self._line
        value = -1
        i = self._skip(i, n)
        while i < n:
            c = line[i] - 48
            if not 0 <= c <= 9:
                break
            value = c if value < 0 else value * 10 + c
            if value > _MAX_LENGTH:
                raise OTAError(
                    OTAError.HTTP_PROTOCOL, "a length above %d bytes in the head" % _MAX_LENGTH
                )
            i += 1
        known = i == n or line[i] in b" \t,/-;"
        i = self._skip(i, n)
        if end:
            known = known and i < n and line[i] == end
            i += 1
        if value < 0 or not known:
            from ..errors import as_text

            raise OTAError(
                OTAError.HTTP_PROTOCOL,
                "expected a number in the head, got %r" % as_text(line, min(n, 60)),
            )
        self._at = i
        return value

    def _content_range(self, i, n):
        # "bytes 0-499/1234", "bytes 0-499/*"; "bytes */1234" tells nothing of a part
        line = self._line
        self._lower(i, n, 0)
        if line.find(b"bytes", i, n) != i:
            self._refuse("Content-Range", i, n, "'bytes first-last/length'")
        i += 5
        if i < n and line[i] == 61:
            i += 1
        star = line.find(b"*", i, n)
        if star < 0 or star > line.find(b"/", i, n):
            self.start = self._number(i, n, 45)
            self.end = self._number(self._at, n, 47)
            if star < 0:
                self.total = self._number(self._at, n)

    def _skip(self, i, n):
        """Where from i on there is no space."""
        while i < n and self._line[i] in b" \t":
            i += 1
        return i

    def _trim(self, i, n):
        """Where line[i:n] ends without spaces."""
        while n > i and self._line[n - 1] in b" \t":
            n -= 1
        return n

    def _refuse(self, name, i, n, expected):
        from ..errors import as_text

        raise OTAError(
            OTAError.HTTP_PROTOCOL,
            "%s: expected %s, got %r" % (name, expected, as_text(self._line[i:n], min(n - i, 60))),
        )

    # -- chunks (RFC 9112, section 7.1) ---------------------------------------------------------------

    def _next_chunk(self):
        if self._chunk_ends:
            if self._n == 0:
                self._budget = 2
            n = self._read_line(False)
            if n is None:
                return None
            if n:
                self._refuse("chunk", 0, n, "a line end after its last byte")
            self._chunk_ends = False
        if self._in_trailer:
            return self._skip_trailer()
        if self._n == 0:
            self._budget = _MAX_HEAD
        n = self._read_line(False)
        if n is None:
            return None
        line = self._line
        size = 0
        i = 0
        while i < n:
            c = line[i]
            if 48 <= c <= 57:
                c -= 48
            elif 97 <= c | 32 <= 102:
                c = (c | 32) - 87
            else:
                break
            size = size * 16 + c
            if size > _MAX_LENGTH:
                break
            i += 1
        if i == 0 or size > _MAX_LENGTH or (i < n and line[i] not in b" \t;"):
            self._refuse("chunk size", 0, n, "a hexadecimal number")
        self.left = size
        if size == 0:
            self._in_trailer = True
            return self._skip_trailer()
        return True

    def _skip_trailer(self):
        n = self._read_line()
        while n:
            n = self._read_line()
        if n is None:
            return None
        self._chunked = self._in_trailer = False
        return True
