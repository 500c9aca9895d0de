# Requests for a file and what the responses mean: where it is and who asks, which file it is, which part of it came.

from micropython import const

from ..errors import OTAError, refuse
from .http import Connection
from .ranges import Ranges
from .request import build, end
from .url import parse_url

# As in events.py, which need not be loaded.
_REDIRECT = const(12)
_ETAG = const(69)  # E and M, with which validators begin
_MODIFIED = const(77)
_QUOTE = const(34)


class Exchange:
    """One request after the other for a file, and its response. The options are told by download.Download.

    `total` and `validator` tell of the file, as its server does from one response to the next: what is absent is not
    different. `content_checked` is for an owner to set who knows size and SHA-256: a mirror's own ETag is no other file.
    A subclass has _pause_left(): milliseconds until the next request may go out.
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
    ):
        if not isinstance(url, str):
            refuse("url", "https://host/path", url)
        if http_hook and not callable(http_hook):
            refuse("http_hook", "a function", http_hook)
        if not (isinstance(timeout_s, (int, float)) and timeout_s > 0):
            refuse("timeout_s", "seconds above 0", timeout_s)
        if (cert is None) != (key is None):
            raise ValueError("cert and key: expected both or none")
        self.content_checked = self.open_end = self.answered = False
        self.total = self.validator = self.event = None
        self.status = self.position = self.offset = self.least = 0
        self.url = url
        self.origin = parse_url(url)
        digest = self._pins = None
        if headers or auth is not None:
            from .secrets import check_headers

            headers = check_headers(headers, auth)
            if auth is not None and len(auth) == 3:
                from .auth import Digest

                digest = Digest(auth[0], auth[1])
        # Secrets go to the origin they were given for, and are not sent there by anybody else.
        self._own = headers or {}, digest
        self.first = url, self.origin, self._own
        if pin is not None:
            from .pin import pin_digests

            self._pins = pin_digests(pin)
        self._hook = http_hook
        self._insecure = insecure
        self.cadata = cadata  # None once it is not needed any more
        self._trust = insecure or cadata is None, cert, key
        self.timeout_s = timeout_s
        self.ranges = Ranges(request_size)
        self.verified = []  # servers whose certificates were found good: from then on a failure may pass
        self._opening = False  # the first response is to come
        self._context = self._conn = None
        self._head = None  # of requests, with room for what differs
        self._out = 0  # bytes of a request that is not sent whole, 0 when there is none
        self._asked = 0  # one past the last byte that was asked for
        self._pending = 0  # requests that are out, and whose response's head has not been read
        # On this connection a request went out before the last answer was read, or a short one.
        self.several = self._short = False
        self._failed = False  # the server answered with an error, whose text is to come
        self._redirects = 0
        self._end = 0  # one past the last byte of the response under way
        self._skip = 0  # bytes to drop: the server answered a later range with the whole file

    # -- where it is --------------------------------------------------------------------------------

    def go(self, url, origin, own):
        """Ask there from now on, and send along what is one's own: headers, and a Digest or None."""
        moved = origin[:3] != self.origin[:3]
        self.url = url
        self.origin = origin
        self._own = own
        if moved:
            self.answered = False
            if self._trust[1] is not None:
                self._context = None  # with or without the client's certificate
            self.ranges.choose(origin[0], self.position)

    def drop(self):
        """Close the connection, to go on with another one."""
        conn = self._conn
        self._conn = self._head = None
        self.several = self._short = self._failed = False
        self._pending = self._out = 0
        if conn is not None:
            self.answered = self.answered or conn.answered
            conn.close()

    # -- which file it is ---------------------------------------------------------------------------

    def _expect(self, position, known):
        """It is to be the file `known` (what has `validator` and `total`), or any; begin at `position`, or at 0.

        With a position of 0 the question is only whether it still is.
        """
        self.total = self.validator = self._etag = self._modified = self._known = None
        validator = known and known.validator
        kind = validator and validator[0]
        if kind == _ETAG and not position:
            self._known = known
        elif position and kind == _ETAG:
            self._etag = validator
        elif position and kind == _MODIFIED:
            self._modified = validator
        else:
            position = 0  # or not written by this version
        if position:
            self.validator = validator
            self.total = known.total
        self.position = position

    def _condition(self):
        """The header line that lets the server compare, or ""."""
        name = "If-Range"
        known = self.validator
        if not self.position:
            name = "If-None-Match"
            known = self._known and self._known.validator
        # A weak ETag says "as good as", which is not enough for bytes (RFC 9110, section 13.1.5); servers take one
        # without quotes for a date. What comes is compared in any case.
        elif self.content_checked or (
            known and known[0] == _ETAG and not known[1] == known[-1] == _QUOTE
        ):
            known = None
        return "\r\n%s: %s" % (name, known[1:].decode()) if known else ""

    def _same(self, conn, total):
        """Whether a later response, of a file with so many bytes (None: unknown), may be of this one."""
        if total is not None and self.total is not None and total != self.total:
            return False
        if self.content_checked:
            return True
        etag, own = conn.etag, self._etag
        if etag and own:
            # Apache calls a file's ETag weak for its first second.
            return etag == own or etag.replace(b"W/", b"") == own.replace(b"W/", b"")
        if conn.modified and self._modified:
            # A date is weak: with it goes the length.
            return conn.modified == self._modified and (total is not None or self.total is None)
        # A part may come without (RFC 9110, section 15.3.7). The whole file instead of a part may be another.
        return conn.status == 206 or self.validator is None

    # -- requests -----------------------------------------------------------------------------------

    def _under_way(self):
        """Whether something was asked for that has not been read."""
        conn = self._conn
        return conn is not None and (self._pending or conn.left or conn.chunk)

    def _send(self):
        """Send the request for what comes next, on the open connection if it may be used again."""
        conn = self._conn
        if conn is None and self._pause_left():
            return None
        if not self._out:
            self._prepare()
            conn = self._conn
        if conn is None:
            tls, host, port, _ = self.origin
            if tls and self._context is None:
                from .tls import context

                insecure, cert, key = self._trust
                if self.origin[:3] != self.first[1][:3]:
                    cert = key = None
                self._context = context(self.cadata, insecure, cert, key)
            conn = Connection(host, port, self._context if tls else None, self.timeout_s)
            self._conn = conn
        if not conn.opened:
            if not conn.open():
                return None
            if self._pins:
                from .pin import check

                check(conn.sock.getpeercert(True), self._pins, self.origin[1])
            conn.opened = True
            if self.origin[:3] not in self.verified:
                self.verified.append(self.origin[:3])
            if self._trust[1] is None:
                self.cadata = None  # parsed: the caller's data need not stay in memory
        if not conn.send(self._head, self._out):
            return None
        if self._short or self._under_way():
            self.several = True
        self._out = 0
        self._pending += 1
        return True

    def _prepare(self):
        ranges = self.ranges
        if not self._under_way():
            if self._conn is not None and not self._conn.ready():
                self.drop()
            self._asked = self.position
            ranges.grow(self.position)
        first = self._asked
        self._asked = stop = ranges.stop(first, self.offset, self.total)
        ranged = first or ranges.size
        headers, digest = self._own
        if self._head is None or self._hook or digest:
            answer = digest and digest.header(self.origin[3])
            if answer:
                headers = dict(headers)
                headers["Authorization"] = answer
            more = "" if self._short else self._condition()
            if ranged:
                more += "\r\nRange: bytes="
            self._head = build(self.url, self.origin, headers, self._hook, self._short, more)
        self._out = end(self._head, first if ranged else -1, stop - 1 if ranges.size else -1)

    # -- responses ----------------------------------------------------------------------------------

    def _response(self):
        """Ask, unless that is done, and read the head of the response: True when it is one of the file, or that there is none."""
        while True:
            if (self._out or not self._pending) and not self._send() and not self._pending:
                return None
            conn = self._conn
            if not self._failed:
                status = conn.response()
                if status is None:
                    return None
                self.status = 200 if status == 203 else status  # that is by way of a proxy
            digest = self._own[1]
            if self.status == 401 and digest:
                digest.take(conn.challenge, self.url)
                self.drop()
            elif conn.location is not None:
                self._redirect(conn.location)
            elif self._check(conn):
                self._redirects = 0
                self._opening = False
                self._pending -= 1
                if not conn.keep:
                    self._pending = self._out = 0  # nobody answers the others
                return True
            else:
                return None

    def _redirect(self, location):
        from .redirect import target

        self.drop()
        self._redirects += 1
        url, origin = target(self.url, self.origin, location, self._redirects)
        self.go(url, origin, self._own if origin[:3] == self.first[1][:3] else ({}, None))
        if self.event:
            self.event(_REDIRECT, origin[1])

    def _check(self, conn):
        status, position, ranges = self.status, self.position, self.ranges
        total = None
        if status == 206:
            total = conn.total
            stop = ranges.stop(position, self.offset, self.total)
            if not (
                (ranges.size or position)
                and conn.start == position <= conn.end < min(stop, total)
                and (conn.length < 0 or conn.length == conn.end + 1 - position)
            ):
                from .words import check_range

                check_range(self, conn, stop)
        elif status == 200:
            if conn.length >= 0:
                total = conn.length
            self.open_end = conn.open_end
        elif status in (204, 304):
            self._end = None  # there are no bytes in it
            return True
        elif status != 416 or not position:
            from .words import refused

            self._failed = True
            return refused(conn, self.url)
        if self._short and self._etag and not conn.etag:
            self.drop()
            ranges.deep = False  # to be asked in full
            return None
        if position and (status == 416 or not self._same(conn, total)):
            self.drop()
            self.least = ranges.since = 0
            self._expect(0, None)
            if self._opening:
                return None
            raise OTAError(OTAError.CHANGED, "the file changed on the server")
        known = self._known
        self._known = None
        if known and known.validator == conn.etag and total and known.total == total:
            # That one is still it: servers may ignore the question.
            self.drop()
            self.status = 304
            return True
        # Each may be missing now and then.
        if total is not None:
            self.total = total
        self._etag = conn.etag or self._etag
        self._modified = conn.modified or self._modified
        self.validator = self._etag or self._modified
        # A server that tells with each part which file it is of need not be told all again.
        short = conn.known and conn.etag and ranges.reach(position)
        if short and not (self._short or self._out or self._hook):
            self._short = True
            self._head = None
        if not position:
            self._head = None  # later ones are not like the first
        self._end = self.total
        if status == 206:
            self._end = conn.end + 1
            if self._opening:
                ranges.fit(conn.head_size)
        else:
            self._skip = position  # the whole file in one response
        return True
