# heatshrink as Espressif's deltas have it: a bit 1 and 8 of a byte; or 0, how far back less 1, how many bytes from there less 1.

from array import array

import micropython
from micropython import const

from ..errors import OTAError

_CHUNK = const(512)


# Viper checks neither types nor bounds: the caller does. No store has an index that is a constant other than 0.
@micropython.viper
def inflate(
    buf: ptr8, n: int, src: ptr8, end: int, window: ptr8, state: ptr32, w: int, k: int
) -> int:
    """Inflate up to n bytes into buf; return how many: less when src[:end] gives no more.

    w, k   bits of the way back, and of a number of bytes
    state  where it is: in src, in the window; the bits at hand, how many; the way back, and how many are still to come from there
    """
    at = int(state[0])
    to = int(state[1])
    bits = int(state[2])
    count = int(state[3])
    back = int(state[4])
    left = int(state[5])
    mask = (1 << w) - 1
    i = 0
    while i < n:
        if left:
            c = int(window[(to - back) & mask])
            left -= 1
        else:
            while count < 16 and at < end:
                bits = (bits & 0x7FFF) << 8 | int(src[at])
                count += 8
                at += 1
            # At the end are less bits than that, to fill a byte.
            literal = 0
            if count:
                literal = bits >> (count - 1) & 1
            need = 9 if literal else 1 + w + k
            if count < need:
                break
            count -= need
            if literal:
                c = bits >> count & 255
            else:
                back = (bits >> (count + k) & mask) + 1
                left = (bits >> count & ((1 << k) - 1)) + 1
                continue
        window[to & mask] = c
        to += 1
        buf[i] = c
        i += 1
    p = int(state)
    ptr32(p)[0] = at
    ptr32(p + 4)[0] = to & mask
    ptr32(p + 8)[0] = bits
    ptr32(p + 12)[0] = count
    ptr32(p + 16)[0] = back
    ptr32(p + 20)[0] = left
    return i


class Heatshrink:
    """What is in a stream of heatshrink's, itself a stream: readinto(buf) -> n, 0 at the end, None when nothing has come yet.

    source  readinto(buf), likewise
    head    its first bytes, that were read already: one or more, the first of which tells window and lookahead
    """

    def __init__(self, source, head):
        self._source = source
        self._w, self._k = (head[0] >> 4) + 4, (head[0] & 15) + 3
        if self._w + self._k > 15:
            raise OTAError(
                OTAError.CHECKSUM,
                "a delta compressed by heatshrink with %d, %d: expected 8, 7" % (self._w, self._k),
            )
        self._chunk = bytearray(_CHUNK)
        self._in = head
        self._end = len(head)
        self._window = bytearray(1 << self._w)
        self._state = array("i", (1, 0, 0, 0, 0, 0))

    def readinto(self, buf):
        """Inflate the next bytes into buf."""
        while True:
            n = inflate(
                buf, len(buf), self._in, self._end, self._window, self._state, self._w, self._k
            )
            if n:
                return n
            n = self._source.readinto(self._chunk)
            if not n:
                return n
            self._in = self._chunk
            self._end = n
            self._state[0] = 0
