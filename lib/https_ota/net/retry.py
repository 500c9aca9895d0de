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
# What comes of a handshake when memory is short for a moment, mbedTLS may also say that it can't verify then; or when
# something on the way changes what passes. Only for a host that it has verified before.
_PASSING_CODES = (OTAError.MEMORY, OTAError.CERT_CA, OTAError.TLS_BUFFER)


def recover(d, e):
    """Make download `d` ready to go on after error `e`, with a pause if that helps; raise `e` when nothing does."""
    several = d.several
    d.drop()
    if several:
        # One request at a time, that says all, may go well.
        d.ranges.deep = False
        if isinstance(e, OSError) or e.code != OTAError.HTTP_STATUS or d.status == 400:
            return
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
        # What presigned URLs say when they have expired, depending on who made them.
        if d.status in (400, 401, 403, 404, 410):
            # Once: a link that does not work when it is fresh never will.
            first = d.url == d.first[0] and not (several and d.status == 403)
            if first or d.renewed_at == d.position:
                raise e
            d.go(*d.first)
            d.renewed_at = d.position
        # Below 500 a server gives these for a while: timeout, too many requests. From 500 on it is trouble of its own or
        # of what stands before it, whatever the number; but for two that say "never".
        elif d.status in (501, 505) or (d.status < 500 and d.status not in (408, 425, 429)):
            raise e
    elif e.code in _PASSING_CODES and d.origin[:3] in d.verified:
        gc.collect()
    elif e.code == OTAError.CERT_CA and d.cadata is not None:
        raise untrusted(e, d.cadata)
    elif e.code != OTAError.DISCONNECTED:
        raise e  # CHANGED among them
    if d.position > d.failed_at:
        d.failed_at = d.position
        d.failures = 0
    after = getattr(e, "retry_after", 0) * 1000
    # The first time at once: most connections that end were only idle for too long.
    wait = 0
    if d.failures or after:
        wait = min(500 << min(d.failures, 10), _LONGEST_WAIT_MS)
        # A fleet that lost its server does not come back as one.
        wait -= wait * getrandbits(7) // 512
    d.failures += 1
    wait = max(wait, after)
    now = time.ticks_ms()
    idle = time.ticks_diff(now, d.moment)
    if idle + wait > d.stall_s * 1000 and (wait or d.failures > 2):
        raise _give_up(d, e, idle)
    d.pause_ms = wait
    d.pause_from = now


def is_end(d, e):
    """Whether error `e` of a read is the end of a file whose length nobody told."""
    if d.total is None and 0 < d.least <= d.position:
        return True  # the file is complete, and the server did not say goodbye
    # Twice at the same byte: a read that begins with data swallows TLS's close_notify, and some servers then wait for
    # ours. It is as good an end as one whose close_notify nobody sees.
    return d.open_end and e.args[0] == ETIMEDOUT and d.failed_at == d.position


# Nothing has ever been reached: more likely a wrong address. But a handshake that was broken off, rather than
# refused with an alert (a negative number; these are mbedTLS's CONN_EOF and INVALID_MAC), gets some more tries.
def _bad_moment(d, e):
    number = e.args[0] if e.args else 0
    return d.answered and d.failures < _FIRST_TRIES and (number > 0 or number in (-29312, -29056))


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
