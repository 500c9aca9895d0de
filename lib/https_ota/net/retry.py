# What to do when a download has failed: go on, wait and go on, or give up. Loaded only then.

import gc
import time
from errno import ETIMEDOUT
from random import getrandbits

from micropython import const

from ..errors import OTAError
from .tls import tls_buffer
from .words import TOO_BIG, record_error, untrusted

_SMALLEST = const(512)
_LONGEST_WAIT_MS = const(32000)
_FIRST_TRIES = const(3)
_BROKEN = (-29312, -29056)  # MBEDTLS_ERR_SSL_CONN_EOF, _INVALID_MAC
# Statuses below 500 that a server gives for a while: timeout, too many requests. Those from 500 on are trouble of its
# own or of what stands before it, whatever the number; but for two that say "never".
_PASSING = (408, 425, 429)
_NEVER = (501, 505)
# What presigned URLs say when they have expired, depending on who made them.
_EXPIRED = (400, 401, 403, 404, 410)
# What comes of a handshake when memory is short for a moment, mbedTLS may also say that it can't verify then; or when
# something on the way changes what passes. Only for a host that it has verified before.
_PASSING_CODES = (OTAError.MEMORY, OTAError.CERT_CA, OTAError.TLS_BUFFER)


class _Failures:
    """Those since the last progress."""

    def __init__(self):
        self.position = -1
        self.count = 0
        self.renewed = -1  # where the first URL was last asked for a fresh link


def recover(download, e):
    """Make `download` ready to go on after error `e`, with a pause if that helps; raise `e` when nothing does."""
    d = download
    renewed = False
    d.drop()
    if isinstance(e, OSError):
        if e.args and e.args[0] in TOO_BIG and not _fits(d):
            _ask_for_less(d)
            return
        # From a server that was once reached a failure may pass.
        if d.origin[:3] not in d.verified and not (d.verified and d.position):
            if not _bad_moment(d, e):
                if d.url != d.first[0] and len(e.args) > 1:
                    e = OSError(e.args[0], "%s (a redirect led there)" % e.args[1])
                raise e
    elif e.code == OTAError.HTTP_STATUS:
        if d.status in _EXPIRED:
            # Once: a link that does not work when it is fresh never will.
            if d.url == d.first[0] or (d.failures and d.failures.renewed == d.position):
                raise e
            d.go(*d.first)
            renewed = True
        elif d.status in _NEVER or (d.status < 500 and d.status not in _PASSING):
            raise e
    elif e.code in _PASSING_CODES and d.origin[:3] in d.verified:
        gc.collect()
    elif e.code == OTAError.CERT_CA and d.cadata is not None:
        raise untrusted(e, d.cadata)
    elif e.code != OTAError.DISCONNECTED:
        raise e  # CHANGED among them
    if d.failures is None:
        d.failures = _Failures()
    failures = d.failures
    if d.position > failures.position:
        failures.position = d.position
        failures.count = 0
    after = getattr(e, "retry_after", 0) * 1000
    # The first time at once: most connections that end were only idle for too long.
    wait = 0
    if failures.count or after:
        wait = min(500 << min(failures.count, 10), _LONGEST_WAIT_MS)
        # A fleet that lost its server does not come back as one.
        wait -= wait * getrandbits(7) // 512
    failures.count += 1
    if renewed:
        failures.renewed = d.position
    wait = max(wait, after)
    now = time.ticks_ms()
    idle = time.ticks_diff(now, d.moment)
    if idle + wait > d.stall_s * 1000 and (wait or failures.count > 2):
        raise _give_up(d, e, idle)
    d.pause_ms = wait
    d.pause_from = now


def is_end(d, e):
    """Whether error `e` of a read is the end of a file whose length nobody told."""
    if d.total is None and 0 < d.least <= d.position:
        return True  # the file is complete, and the server did not say goodbye
    # Twice at the same byte: a read that begins with data swallows TLS's close_notify, and some servers then wait for
    # ours. It is as good an end as one whose close_notify nobody sees.
    again = d.failures and d.failures.position == d.position
    return d.open_end and e.args[0] == ETIMEDOUT and again


# Nothing has ever been reached: more likely a wrong address. But a handshake that was broken off, rather than
# refused with an alert (a negative number), gets some more tries.
def _bad_moment(d, e):
    number = e.args[0] if e.args else 0
    count = d.failures.count if d.failures else 0
    return d.answered and count < _FIRST_TRIES and (number > 0 or number in _BROKEN)


def _ask_for_less(d):
    ranges = d.ranges
    # Where ranges are ignored, smaller ones are of no use.
    if d.status == 200 and ranges.size:
        raise record_error("the server ignores ranges")
    if ranges.size:
        size = ranges.size // 2
    elif ranges.auto:
        # A firmware whose buffer is smaller than it says.
        size = min(tls_buffer(), 16384) // 2
    else:
        size = 0
    if size < _SMALLEST:
        raise record_error("to a request for %s bytes" % (ranges.size or "all"))
    # Until that has gone well for a while.
    if ranges.roof is None:
        ranges.roof = ranges.size
    if ranges.grown:
        ranges.patience *= 4
    ranges.resize(size, d.position, False)


# Whether as much as is asked for has come since this was asked last: then its size was not the matter.
def _fits(d):
    ranges = d.ranges
    if d.position - ranges.since < (ranges.size or 16384):
        return False
    ranges.since = d.position
    return True


def _give_up(d, e, idle):
    if isinstance(e, OSError):
        text = "%s:%d: gave up after %d s without data, %d of %s bytes have come" % (
            d.origin[1],
            d.origin[2],
            idle // 1000,
            d.position,
            d.total,
        )
        return OSError(abs(e.args[0]) if e.args and isinstance(e.args[0], int) else 5, text)
    return e
