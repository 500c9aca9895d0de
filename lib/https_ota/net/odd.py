# Values of headers that are seldom sent, or never as they should be, and signatures in URLs. Loaded only when one comes.

import time

from micropython import const

from ..errors import OTAError

_MAX_LOCATION = const(2048)
_MONTHS = b"janfebmaraprmayjunjulaugsepoctnovdec"
_LONGEST = 10000000  # four months: nobody means more
# Content codings: these names, and all with these in them. Servers also put there what is none: none, UTF-8, aws-chunked,
# binary.
_CODINGS = (b"br", b"dcb", b"dcz", b"exi")
_IN_CODINGS = (b"zip", b"deflate", b"compress", b"zst", b"lz", b"xz", b"snappy", b"gcm")


# What presigned URLs have in their query. By prefix: S3 and its like, Google's, Alibaba's and Tencent's storage.
_SIGNING = (
    "x-amz-",
    "x-goog-",
    "x-oss-",
    "q-sign",
    "q-ak",
    "q-key-time",
    "q-header-list",
    "q-url-param-list",
)
# Beside a "signature": S3 and Google before version 4, CloudFront, Alibaba's and Huawei's storage, Google's CDN.
_SIGNED = (
    " signature expires policy key-pair-id hash-algorithm keyname urlprefix awsaccesskeyid googleaccessid ossaccesskeyid"
    " accesskeyid security-token "
)
# Beside a "sig": Azure's shared access signatures.
_SHARED = (
    " sig sv st se sr sp sip spr si ss srt sks skt ske skv skoid sktid saoid suoid scid sdd ses "
)


def without_signature(url):
    """The URL without the parameters of its query that only say who may fetch it until when."""
    path, _, query = url.partition("?")
    parts = query.split("&")
    names = [part.partition("=")[0].lower() for part in parts]
    # Alone each of these may be the caller's own.
    signing = (_SIGNED if "signature" in names else "") + (_SHARED if "sig" in names else "")
    kept = []
    for name, part in zip(names, parts):
        if not any(name.startswith(start) for start in _SIGNING) and " %s " % name not in signing:
            kept.append(part)
    return path + "?" + "&".join(kept) if kept else path


def note(response, name, value, cut):
    """Take what is of use from a header of a response other than 2xx."""
    if name == b"retry-after":
        response.after = value
    elif name == b"date":
        response.date = value
    elif name == b"location":
        if response.status >= 400:
            return
        # Only a redirect fails without it.
        if cut or len(value) > _MAX_LOCATION:
            raise OTAError(OTAError.REDIRECT, "Location is longer than %d bytes" % _MAX_LOCATION)
        try:
            response.location = value.decode()
        except UnicodeError:
            raise OTAError(OTAError.REDIRECT, "Location is not text")
    elif name == b"www-authenticate":
        # Several may be offered: Digest, else the last.
        if response.challenge is None or value[:7].lower() == b"digest ":
            response.challenge = value
    if response.after is not None:
        response.retry_after = seconds(response.after, response.date)


def changes(value):
    """Whether this value of a Content-Encoding means other bytes than the file's."""
    value = bytes(value).lower()
    for word in value.split(b","):
        if word.strip() in _CODINGS:
            return True
    return any(part in value for part in _IN_CODINGS)


def seconds(after, date):
    """What the values of a Retry-After and of the same response's Date (or None) come to; 0 for what can't be used."""
    n = 0
    while n < len(after) and 48 <= after[n] <= 57:
        n += 1
    if n:
        # "120", "0.493", "1s", "120 seconds": rounded up.
        rest = after[n:].strip().lower()
        if rest[:1] == b".":
            n = int(after[:n]) + 1 if n < 9 else 0
        elif not rest or rest in (b"s", b"sec", b"second", b"seconds"):
            n = int(after[:n]) if n < 9 else 0
        else:
            n = 0
    else:
        # The server's own clock: ours may never have been set.
        then, now = _moment(after), _moment(date) if date else _now()
        n = then - now if then and now else 0
    return n if 0 < n <= _LONGEST else 0


def _now():
    from .words import clock_error

    now = time.gmtime()
    return 0 if clock_error("") else _count(now[0], now[1], now[2], now[3:6])


def _moment(value):
    # "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"
    month = 0
    numbers = []
    clock = None
    try:
        for word in value.replace(b"-", b" ").split():
            if b":" in word:
                clock = [int(part) for part in word.split(b":")]
            elif word.isdigit():
                numbers.append(int(word))
            elif len(word) == 3 and _MONTHS.find(word.lower()) % 3 == 0:
                month = _MONTHS.find(word.lower()) // 3 + 1
        day, year = numbers
        if year < 100:
            year += 2000
        return _count(year, month, day, clock) if month and 2000 <= year < 2100 else 0
    except (ValueError, TypeError):
        return 0


def _count(year, month, day, clock):
    # Seconds since a day that does not matter; small enough as only differences count.
    hour, minute, second = clock
    if month < 3:
        year -= 1
        month += 12
    days = year * 365 + year // 4 + (month * 153 + 3) // 5 + day
    return ((days * 24 + hour) * 60 + minute) * 60 + second
