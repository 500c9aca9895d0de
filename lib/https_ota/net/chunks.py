# Chunked bodies, whose length no header tells (RFC 9112, section 7.1). Loaded only where there is one.

from micropython import const

# In a Response's `chunk`, what comes next.
_SIZE = const(1)
_DATA = const(2)
_TRAILER = const(3)

_MAX_LENGTH = const(0x10000000)  # of a body, as in response.py


def next_chunk(response):
    """True when `left` tells of the next chunk, or the body is over; None when that has not come."""
    while response.chunk and not response.left:
        end = response.line(response.chunk == _TRAILER)
        if end is None:
            return None
        at = response.at
        if response.chunk == _SIZE:
            # Behind it there may be spaces, and what nobody uses.
            digits = bytes(response.buf[at:end]).split(b";", 1)[0].rstrip()
            if not digits or not all(c in b"0123456789ABCDEFabcdef" for c in digits):
                response.refuse(end)
            size = int(digits, 16)
            if size > _MAX_LENGTH:
                response.refuse(end)
            response.left = size
            response.chunk = _DATA if size else _TRAILER
        elif end == at:
            # A line end behind the data, or the empty line at the very end.
            response.chunk = _SIZE if response.chunk == _DATA else 0
        elif response.chunk == _DATA:
            response.refuse(end)
        response.take()
        if response.chunk != _TRAILER:
            response.used = 0
    return True
