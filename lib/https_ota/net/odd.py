# What is seldom: headers of errors and redirects, odd ones, bad URLs, signatures in them, bad certificates. Loaded then.

import time

from micropython import const

from ..errors import OTAError, as_text

# No certificate in use today was signed before; a clock that says so was never set (the ESP32 starts in 2000).
OLDEST_YEAR = 2024
REDIRECTS = (301, 302, 303, 307, 308)
_MAX_LOCATION = const(2048)
_LEAST_BLOCK = const(4096)
_MONTHS = b"janfebmaraprmayjunjulaugsepoctnovdec"
_LONGEST = const(10000000)  # four months: nobody means more


def without_signature(url):
    """The URL without the parameters of its query that only say who may fetch it until when."""
    path, _, query = url.partition("?")
    parts = query.split("&")
    names = [part.partition("=")[0].lower() for part in parts]
    # What presigned URLs have. By prefix: S3 and its like, Google's, Alibaba's and Tencent's storage.
    starts = tuple(
        "x-amz- x-goog- x-oss- q-sign q-ak q-key-time q-header-list q-url-param-list".split()
    )
    # Alone each of these may be the caller's own.
    signing = ""
    if "signature" in names:
        # S3 and Google before version 4, CloudFront, Alibaba's and Huawei's storage, Google's CDN.
        signing = (
            " signature expires policy key-pair-id hash-algorithm keyname urlprefix awsaccesskeyid googleaccessid"
            " ossaccesskeyid accesskeyid security-token "
        )
    if "sig" in names:
        # Azure's shared access signatures.
        signing += " sig sv st se sr sp sip spr si ss srt sks skt ske skv skoid sktid saoid suoid scid sdd ses "
    kept = []
    for name, part in zip(names, parts):
        if not name.startswith(starts) and " %s " % name not in signing:
            kept.append(part)
    return path + "?" + "&".join(kept) if kept else path


def bad_url(url, host, digits):
    """What is wrong with a URL, of whose host, and digits of a port, url.parse_url() makes nothing."""
    plain = url.split("?", 1)[0]
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in ("https", "http") or not rest:
        # Without what may be a secret: a password, or a query with a token.
        return "expected https://host/path, got %r" % plain.rpartition("@")[2]
    for c in url:
        if not "!" <= c <= "~":
            return "%r must be percent-encoded" % c
    if "@" in host + digits:
        return "name and password go into auth=(name, password)"
    if not host:
        return "no host in %r" % plain
    if "%" in host and ":" not in host:
        return "%r is no host; beyond ASCII it is xn--..." % host
    return "%r is no port" % digits


def no_roots(bad):
    """The error for certificates of which none can be used: `bad` says what is wrong with each; None: there is no memory."""
    if bad is None or _is_short():
        from ..memory import no_memory

        return no_memory("for certificates ")
    return ValueError("cadata: " + ("; ".join(bad) or "no certificate in it"))


def _is_short():
    # Whether ESP-IDF's heap, where TLS takes its memory, could not take a certificate: that is told as an invalid one.
    try:
        from esp32 import HEAP_DATA, idf_heap_info

        return max(heap[2] for heap in idf_heap_info(HEAP_DATA)) < _LEAST_BLOCK
    except ImportError:
        return False


def note(response, name, value, end):
    """Take what is of use from a header that is seldom, in the line up to `end`; no name: it has no colon."""
    status = response.status
    if name == b"transfer-encoding":
        value = value.lower()
        if value == b"chunked" and not response.cut:
            response.chunk = 1
        elif value != b"identity":
            response.refuse(end)
    elif name == b"content-encoding":
        # The page of an error may be compressed: all that counts is its status.
        if status < 300 and (response.cut or changes(value)):
            raise OTAError(
                OTAError.HTTP_PROTOCOL,
                "expected no Content-Encoding, got %r" % as_text(value, min(len(value), 60)),
            )
    elif name == b"location":
        if status not in REDIRECTS:
            return
        # Only a redirect fails without it.
        if response.cut or len(value) > _MAX_LOCATION:
            raise OTAError(OTAError.REDIRECT, "Location is longer than %d bytes" % _MAX_LOCATION)
        try:
            response.location = value.decode() or None
        except UnicodeError:
            raise OTAError(OTAError.REDIRECT, "Location is not text")
    elif not name:
        # Most clients pass over a line that is no header.
        if value.lower().startswith((b"content-length", b"transfer-enc")):
            response.refuse(end)
    elif status >= 400:
        if name == b"retry-after":
            response.after = value
        elif name == b"date":
            response.date = value
        # Several may be offered: Digest, else the last.
        elif name == b"www-authenticate" and (
            response.challenge is None or value[:7].lower() == b"digest "
        ):
            response.challenge = value
        if response.after is not None:
            response.retry_after = seconds(response.after, response.date)


def changes(value):
    """Whether this value of a Content-Encoding means other bytes than the file's."""
    value = bytes(value).lower()
    # These names, and all with the others in them. Servers also put there what is none: none, UTF-8, aws-chunked, binary.
    for word in value.split(b","):
        if b" %s " % word.strip() in b" br dcb dcz exi ":
            return True
    return any(part in value for part in b"zip deflate compress zst lz xz snappy gcm".split())


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
    now = time.gmtime()
    return _count(now[0], now[1], now[2], now[3:6]) if now[0] >= OLDEST_YEAR else 0


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
