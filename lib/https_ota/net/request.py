# The head of a request: what is sent, and what a caller may add to it.

from micropython import const

_RANGE_ROOM = const(48)  # "Range: bytes=nnnnnnnnn-nnnnnnnnn\r\n\r\n"
_USER_AGENT = "https_ota/0.1"
# Set by this package; a second one from the caller would contradict it.
_OWN_HEADERS = (
    "host",
    "range",
    "if-range",
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


def clean(text):
    """Whether a text may be sent in a header: a line end would let it add headers of its own."""
    for c in text:
        if (c < " " and c != "\t") or c == "\x7f":
            return False
    return True


def check_auth(name, password):
    """Raise ValueError for what no server takes (RFC 7617, section 2), as what has a line of a file's end with it."""
    for what, text in (("name", name), ("password", password)):
        if not clean(str(text)):
            raise ValueError(
                "auth: the %s has a line end or another control character in it" % what
            )


def check_headers(headers, auth):
    """A copy of `headers` with HTTP Basic for `auth` in it; ValueError for what can't be sent."""
    checked = {}
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not all(
            " " < c < "\x7f" and c != ":" for c in name or " "
        ):
            raise ValueError("headers: %r is no header name" % (name,))
        if name.lower() in _OWN_HEADERS:
            raise ValueError("headers: %s is set by https_ota itself" % name)
        value = str(value)
        if not clean(value):
            raise ValueError(
                "headers: the value of %s has a line end or another control character in it" % name
            )
        checked[name] = value
    if auth is not None and len(auth) == 2:
        from binascii import b2a_base64

        name, password = auth
        check_auth(name, password)
        basic = b2a_base64(("%s:%s" % (name, password)).encode()).decode().strip()
        checked["Authorization"] = "Basic " + basic
    return checked


def build(url, origin, headers, hook, condition):
    """The head of a GET as a bytearray with room for put_range() at its end.

    `origin` is parse_url(url), `condition` a header line such as If-Range, or "".
    """
    tls, host, port, target = origin
    if ":" in host:
        host = "[" + host + "]"
    if port != (443 if tls else 80):
        host = "%s:%d" % (host, port)
    sent = {"User-Agent": _USER_AGENT}
    sent.update(headers)
    if hook:
        hook(Request(url, sent))
        sent = check_headers(sent, None)
    # "identity": an image is compressed by its maker or not at all.
    text = "GET %s HTTP/1.1\r\nHost: %s\r\nAccept-Encoding: identity\r\n" % (target, host)
    text += "".join("%s: %s\r\n" % item for item in sent.items()) + condition
    return bytearray(text.encode() + bytes(_RANGE_ROOM))


def end(head, first, last):
    """Complete a head from build(), without a Range when `first` is negative; return its length.

    A negative `last` asks for all from `first` on. Allocates nothing.
    """
    n = len(head) - _RANGE_ROOM
    if first >= 0:
        n = _put(head, n, b"Range: bytes=")
        n = _put_number(head, n, first)
        n = _put(head, n, b"-")
        if last >= 0:
            n = _put_number(head, n, last)
        n = _put(head, n, b"\r\n")
    return _put(head, n, b"\r\n")


def _put(buf, i, data):
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
