# The head of a request, with room for the Range that comes last.

from micropython import const

_ROOM = const(24)  # "nnnnnnnnn-nnnnnnnnn\r\n\r\n"


def build(url, origin, headers, hook, shorter, more):
    """The head of a GET as a bytearray, for end() to complete.

    `origin` is parse_url(url), `more` further header lines, each with its line end before it: a condition, and at the
    end "Range: bytes=" if there is to be one. A `shorter` one leaves out what no server has to know each time.
    """
    tls, host, port, target = origin
    if ":" in host:
        host = "[" + host + "]"
    if port != (443 if tls else 80):
        host = "%s:%d" % (host, port)
    sent = {} if shorter else {"User-Agent": "https_ota/0.1"}
    sent.update(headers)
    if hook:
        from .secrets import hooked

        sent = hooked(hook, url, sent)
    text = "GET %s HTTP/1.1\r\nHost: %s" % (target, host)
    if not shorter:
        # An image is compressed by its maker or not at all.
        text += "\r\nAccept-Encoding: identity"
    for item in sent.items():
        text += "\r\n%s: %s" % item
    return bytearray((text + more).encode() + bytes(_ROOM))


def end(head, first, last):
    """Complete a head from build(), without numbers when `first` is negative; return its length.

    A negative `last` asks for all from `first` on. Allocates nothing.
    """
    n = len(head) - _ROOM
    if first >= 0:
        n = _put(head, n, first)
        head[n] = 45
        n += 1
        if last >= 0:
            n = _put(head, n, last)
    for c in b"\r\n\r\n":
        head[n] = c
        n += 1
    return n


def _put(buf, i, value):
    # "%d" allocates; this does not.
    if value > 9:
        i = _put(buf, i, value // 10)
    buf[i] = 48 + value % 10
    return i + 1
