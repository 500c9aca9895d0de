# Many requests seen as one stream of bytes: redirects, ranges, keep-alive.

from micropython import const

from .errors import OTAError
from .http import Connection, join_url, parse_url

_MAX_REDIRECTS = const(5)
_MIN_REQUEST = const(512)  # the smallest TLS buffer the chip can be built with
_RANGE_ROOM = const(48)  # "Range: bytes=nnnnnnnnn-nnnnnnnnn\r\n\r\n"
_USER_AGENT = "https_ota/0.1"
_REDIRECTS = (301, 302, 303, 307, 308)
# Set by this module; a second one from the caller would contradict it.
_OWN_HEADERS = (
    "host",
    "range",
    "connection",
    "accept-encoding",
    "transfer-encoding",
    "content-length",
)


class Request:
    """What an http_hook sees before a request is sent: `url`, and `headers`, a dict it may change."""

    def __init__(self, url, headers):
        self.url = url
        self.headers = headers


class Download:
    """A file on a server as a stream: open(), readinto() until it returns 0, and close() in any case.

    url         https://host[:port]/path (http:// only with insecure=True)
    cadata      CA certificates that may vouch for the server: PEM or DER, str or bytes, or a list of these
    insecure    True switches the check of the server off, and allows http://
    cert, key   this board's own certificate and private key (PEM or DER), where the server asks for one
    headers     dict of further request headers; dropped when a redirect leads to another host
    auth        (name, password) for HTTP Basic; dropped likewise
    http_hook   called with a Request before each request is sent
    request_size  bytes per ranged request; 0 is one plain GET; None picks what suits the TLS buffer
    timeout_s   seconds to wait for the network at a time

    `status` is the last HTTP status, `total` the length of the file (None while unknown), `position` how
    many bytes were handed out.
    """

    def __init__(
        self,
        url,
        *,
        cadata=None,
        insecure=False,
        cert=None,
        key=None,
        headers=None,
        auth=None,
        http_hook=None,
        request_size=None,
        timeout_s=15,
    ):
        if request_size and request_size < _MIN_REQUEST:
            raise ValueError(
                "request_size: expected None, 0 or at least %d, got %r"
                % (_MIN_REQUEST, request_size)
            )
        if not timeout_s or timeout_s < 0:
            raise ValueError("timeout_s: expected seconds above 0, got %r" % timeout_s)
        if (cert is None) != (key is None):
            raise ValueError("cert and key belong together: give both or none")
        self.status = 0
        self.total = None
        self.position = 0
        self._url = url
        self._origin = parse_url(url)
        self._headers = _check_headers(headers, auth)
        self._hook = http_hook
        self._trust = (cadata, insecure, cert, key)
        self._context = None
        self._timeout_s = timeout_s
        self._size = request_size
        self._conn = None
        self._head = None  # the request, with room for a Range line at its end
        self._end = 0  # one past the last byte of the response under way
        self._pending = False  # a request is out whose response has not been read
        self._reused = False  # it went out on a connection that has answered before
        self._skip = 0  # bytes to drop: the server answered a later range with the whole file

    def open(self):
        """Connect and read the first response's head; return its status: 200, 206, 204 or 304.

        Raises ValueError for a URL or CA data that can't be used, OTAError, or a socket's OSError.
        """
        tls = self._origin[0]
        if not self._trust[1]:
            if not tls:
                raise ValueError(
                    "http:// is neither encrypted nor verified; say insecure=True to accept that"
                )
            if self._trust[0] is None:
                raise ValueError(
                    "no server can be verified without cadata=(CA certificates); or say insecure=True"
                )
        if self._size is None:
            from .explain import tls_buffer

            size = tls_buffer()
            # Below 16 KiB, a whole response, head and body, may come as one record: a quarter is for the head.
            self._size = 0 if size >= 16384 or not tls else size * 3 // 4
        try:
            self._send()
            self._response()
        except OSError as e:
            raise self._reason(e)
        return self.status

    def close(self):
        """Close the connection; harmless when there is none."""
        if self._conn is not None:
            self._conn.close()

    def readinto(self, buf):
        """Read the next bytes of the file into buf; return how many, 0 at its end."""
        try:
            while True:
                if self._pending:
                    self._response()
                n = self._conn.readinto(buf)
                if n and self._skip:
                    n = self._drop(buf, n)
                    if not n:
                        continue
                self.position += n
                if self.total is None or self.position >= self.total:
                    if n and self.total is not None:
                        self._conn.close()  # frees the TLS buffers while the last sectors are written
                    return n
                if n:
                    # The next request goes out before the caller erases and writes a sector, so that the
                    # round trip hides behind that.
                    if self.position == self._end and self._conn.ready():
                        self._send()
                    return n
                if self.position != self._end:
                    raise OTAError(
                        OTAError.DISCONNECTED,
                        "the response ended after %d of %d bytes" % (self.position, self._end),
                    )
                self._send()
        except OSError as e:
            raise self._reason(e)

    # -- requests -----------------------------------------------------------------------------------

    def _send(self):
        """Send the request for what comes next, on the open connection if it may be used again."""
        if self._head is None or self._hook:
            self._build()
        head = self._head
        n = len(head) - _RANGE_ROOM
        if self._size:
            end = self.position + self._size
            if self.total is not None and end > self.total:
                end = self.total
            self._end = end
            n = _put_bytes(head, n, b"Range: bytes=")
            n = _put_number(head, n, self.position)
            n = _put_bytes(head, n, b"-")
            n = _put_number(head, n, end - 1)
            n = _put_bytes(head, n, b"\r\n")
        n = _put_bytes(head, n, b"\r\n")
        self._pending = True
        self._reused = self._conn is not None and self._conn.ready()
        if self._reused:
            try:
                self._conn.send(head, n)
                return
            except OSError:
                self._reused = False
        self.close()
        tls, host, port, _ = self._origin
        if tls and self._context is None:
            from .trust import context

            self._context = context(*self._trust)
            self._trust = None  # parsed: the caller's data need not stay in memory
        self._conn = Connection(host, port, self._context if tls else None, self._timeout_s)
        self._conn.send(head, n)

    def _build(self):
        _, host, port, target = self._origin
        if ":" in host:
            host = "[" + host + "]"
        if self._origin[2] != (443 if self._origin[0] else 80):
            host = "%s:%d" % (host, port)
        headers = {"User-Agent": _USER_AGENT}
        headers.update(self._headers)
        if self._hook:
            self._hook(Request(self._url, headers))
            _check_headers(headers, None)
        # "identity": an image is compressed by its maker or not at all.
        text = "GET %s HTTP/1.1\r\nHost: %s\r\nAccept-Encoding: identity\r\n" % (target, host)
        text += "".join("%s: %s\r\n" % item for item in headers.items())
        self._head = bytearray(text.encode() + bytes(_RANGE_ROOM))

    # -- responses ----------------------------------------------------------------------------------

    def _response(self):
        redirects = 0
        self._read_response()
        while self.status in _REDIRECTS:
            redirects += 1
            if redirects > _MAX_REDIRECTS:
                raise OTAError(OTAError.REDIRECT, "more than %d redirects" % _MAX_REDIRECTS)
            self._redirect()
            self._send()
            self._read_response()
        self._check()

    def _read_response(self):
        self._pending = False
        try:
            self.status = self._conn.response()
        except (OSError, OTAError):
            # A server may close an idle connection at any time; the request then got no answer at all and
            # may be repeated (RFC 9112, section 9.3.1).
            if not (self._reused and self._conn.silent()):
                raise
            self.close()
            self._send()
            self._pending = False
            self.status = self._conn.response()

    def _check(self):
        conn = self._conn
        if self.status == 206:
            self._check_range(conn)
        elif self.status == 200:
            length = None if conn.length < 0 else conn.length
            if self.position:
                if length is not None and length != self.total:
                    raise self._changed(length)
                self._skip = self.position
            else:
                self.total = length
            self._end = self.total  # the whole file in one response: the server does not do ranges
        elif self.status not in (204, 304):
            from .explain import status_error

            text = conn.text()
            self.close()
            raise status_error(self.status, self._url, text)

    def _check_range(self, conn):
        if not self._size:
            raise OTAError(
                OTAError.HTTP_PROTOCOL,
                "the server sent a part (206) though the whole file was asked for",
            )
        if conn.total < 0 or conn.start < 0:
            raise OTAError(
                OTAError.HTTP_PROTOCOL,
                "206 without 'Content-Range: bytes first-last/length'; use request_size=0",
            )
        if (
            conn.start != self.position
            or not self.position <= conn.end < self._end
            or conn.end >= conn.total
        ):
            raise OTAError(
                OTAError.HTTP_PROTOCOL,
                "asked for bytes %d-%d, got %d-%d/%d"
                % (self.position, self._end - 1, conn.start, conn.end, conn.total),
            )
        if 0 <= conn.length != conn.end - conn.start + 1:
            raise OTAError(
                OTAError.HTTP_PROTOCOL,
                "Content-Range %d-%d contradicts Content-Length %d"
                % (conn.start, conn.end, conn.length),
            )
        if self.total is not None and conn.total != self.total:
            raise self._changed(conn.total)
        self.total = conn.total
        self._end = conn.end + 1

    def _changed(self, length):
        return OTAError(
            OTAError.HTTP_PROTOCOL,
            "the file changed on the server: it had %d bytes, now %d" % (self.total, length),
        )

    def _redirect(self):
        location = self._conn.location
        if not location:
            raise OTAError(OTAError.REDIRECT, "status %d without a Location" % self.status)
        self.close()
        url = join_url(self._url, location)
        try:
            origin = parse_url(url)
        except ValueError as e:
            raise OTAError(OTAError.REDIRECT, "Location can't be used: %s" % e)
        if self._origin[0] and not origin[0]:
            raise OTAError(OTAError.REDIRECT, "refused to go from https to http://%s" % origin[1])
        if origin[:3] != self._origin[:3]:
            self._headers = {}  # secrets stay with the host they were given for
        self._url = url
        self._origin = origin
        self._head = None

    def _drop(self, buf, n):
        if n <= self._skip:
            self._skip -= n
            return 0
        skip, self._skip = self._skip, 0
        n -= skip
        buf[:n] = bytes(buf[skip : skip + n])
        return n

    def _reason(self, e):
        from .explain import record_error

        return record_error(e, self._size) or e


def _put_bytes(buf, i, data):
    for c in data:
        buf[i] = c
        i += 1
    return i


def _put_number(buf, i, value):
    # "%d" allocates; this does not.
    place = 1
    while value // place >= 10:
        place *= 10
    while place:
        buf[i] = 48 + value // place % 10
        i += 1
        place //= 10
    return i


def _check_headers(headers, auth):
    # A line end in a value would let it add headers of its own.
    checked = {}
    for name, value in (headers or {}).items():
        if not name or not all(c > " " and c < "\x7f" and c != ":" for c in name):
            raise ValueError("headers: %r is no header name" % name)
        if name.lower() in _OWN_HEADERS:
            raise ValueError("headers: %s is set by https_ota itself" % name)
        value = str(value)
        if "\r" in value or "\n" in value:
            raise ValueError("headers: the value of %s has a line end in it" % name)
        checked[name] = value
    if auth is not None:
        from binascii import b2a_base64

        name, password = auth
        checked["Authorization"] = (
            "Basic " + b2a_base64(("%s:%s" % (name, password)).encode()).decode().strip()
        )
    return checked
