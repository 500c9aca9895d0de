# Deltas: the image that a patch makes of the running one.
#
# Espressif's esp_delta_ota: magic; the SHA-256 at the end of the image that it is for; 28 bytes that are left free, in ours the
# first of the SHA-256 at the end of what it makes. Then detools' "sequential" patch: its kind, without compression or by
# heatshrink, which begins behind the size of what it makes; a 0; then, until that is made: a number of bytes and these, to add
# to those of the old image; a number of bytes and these, that are new; how far to go on in the old one.
#
# A number has 6 bits and a sign in its first byte, 7 in each other, and 128 where one follows.

from binascii import hexlify

import micropython
from micropython import const

from ..errors import OTAError
from ..hot import copy

_HEADER = const(64)
_NAME = const(28)  # bytes of a SHA-256
_CHUNK = const(512)
_WINDOW = const(256)  # bytes of the old image at once
_MOST_BITS = const(27)
_PLAIN = const(0)
_HEATSHRINK = const(4)

# What comes next.
_SKIP = const(0)  # the number 0: of a format of data that is not supported
_ADD_SIZE = const(1)
_ADD = const(2)
_NEW_SIZE = const(3)
_NEW = const(4)
_SEEK = const(5)
_END = const(6)


# Viper checks neither types nor bounds: the caller does.
@micropython.viper
def add(dst: ptr8, d: int, src: ptr8, s: int, old: ptr8, o: int, n: int):
    """Make dst[d:d+n] the sums of src[s:s+n] and old[o:o+n], each byte modulo 256."""
    i = 0
    while i < n:
        dst[d + i] = src[s + i] + old[o + i]
        i += 1


def identity(part):
    """The SHA-256 at the end of the image in a partition, b"" when it has none."""
    head = bytearray(24)
    part.readblocks(0, head, 0)
    if head[23] != 1:
        return b""
    at = 24
    small = bytearray(8)
    for _ in range(head[1]):
        part.readblocks(0, small, at)
        at += 8 + int.from_bytes(small[4:8], "little")
    digest = bytearray(32)
    part.readblocks(0, digest, at + 16 - at % 16)
    return bytes(digest)


class Patch:
    """What a delta makes, itself a stream: readinto(buf) -> n, 0 at the end, None when nothing has come yet.

    source  the delta: readinto(buf), likewise
    head    its first bytes, n of them, that were read already
    base    esp32.Partition of the image that it is for
    runs    True: it is known that the image there is what it makes

    `runs` tells whether that is so, by the delta, too: then it is read from there. `total` is the size of what is made, `position` how much of that was handed out. Other errors than the source's are
    OTAError: BASE, TRUNCATED, CHECKSUM. One that was broken off begins anew.
    """

    least = 0
    mark = b""
    validator = None

    def __init__(self, source, head, n, base, runs=False):
        self._source = source
        self._base = base
        needed, there = bytes(head[4:36]), identity(base)
        self.runs = needed != there and (runs or there[:_NAME] == head[36:_HEADER])
        if needed != there and not self.runs:
            raise OTAError(
                OTAError.BASE,
                "the delta is for the image with SHA-256 %s..., %s holds one with %s..."
                % (hexlify(needed[:8]).decode(), base.info()[4], hexlify(there[:8]).decode()),
            )
        self._chunk = bytearray(_CHUNK)
        self._in = head[:n]
        self._at = _HEADER + 1
        self._end = n
        self._old = bytearray(_WINDOW)
        self._old_at = -_WINDOW  # none yet
        self._last = base.info()[3] - _WINDOW
        self._from = self._left = self._bits = self._sign = 0
        self._next = _SKIP
        self.position = 0
        kind = head[_HEADER] if n > _HEADER else 255
        if kind not in (_PLAIN, _HEATSHRINK):
            raise self._bad("of another kind than detools' sequential, plain or by heatshrink")
        self.total = self._number()
        if self.total is None or self._at == n:
            raise self._bad("that ends within its head")
        if kind == _HEATSHRINK:
            from .heatshrink import Heatshrink

            self._source = Heatshrink(source, bytes(head[self._at : n]))
            self._at = n

    def readinto(self, buf):
        """Make the next bytes of the image."""
        d = 0
        size = len(buf)
        if self.runs:
            d = size = min(size, self.total - self.position)
            self._base.readblocks(0, memoryview(buf)[:d], self.position)
            self.position += d
        while d < size:
            if self._at == self._end:
                n = self._source.readinto(self._chunk)
                if not n:
                    if n is None:
                        return d or None
                    break
                self._in = self._chunk
                self._at = 0
                self._end = n
            todo = self._next
            if todo & 1 or todo == _SKIP:
                n = self._number()
                if n is not None:
                    self._begin(todo, n)
                continue
            if todo == _END:
                raise self._bad("and goes on behind its end")
            n = min(self._left, self._end - self._at, size - d)
            if todo == _ADD:
                o = self._window()
                n = min(n, _WINDOW - o)
                add(buf, d, self._in, self._at, self._old, o, n)
                self._from += n
            else:
                copy(buf, d, self._in, self._at, n)
            self._at += n
            self._left -= n
            self.position += n
            d += n
            if not self._left:
                self._next += 1
        if not d and self.position != self.total:
            raise OTAError(
                OTAError.TRUNCATED,
                "the delta makes %d bytes, came %d" % (self.total, self.position),
            )
        return d

    def _begin(self, todo, n):
        if todo == _SEEK:
            self._from += n
            self._next = _END if self.position == self.total else _ADD_SIZE
            return
        if n < 0 or n > self.total - self.position or (todo == _SKIP and n):
            raise self._bad("and makes more than it says")
        self._left = n
        self._next = todo + 1 if n or todo == _SKIP else todo + 2

    def _number(self):
        # The next one, None when its end has not come.
        buf = self._in
        while self._at < self._end:
            c = buf[self._at]
            self._at += 1
            if not self._bits:
                self._sign = c & 64
                self._value = c & 63
                self._bits = 6
            else:
                if self._bits >= _MOST_BITS:
                    raise self._bad("with a number of too many bytes")
                self._value |= (c & 127) << self._bits
                self._bits += 7
            if not c & 128:
                self._bits = 0
                return -self._value if self._sign else self._value
        return None

    def _window(self):
        # Where the old image's next byte is in the buffer, which is filled if need be.
        o = self._from - self._old_at
        if not 0 <= o < _WINDOW:
            if not 0 <= self._from < self._last + _WINDOW:
                raise self._bad("and reaches out of the old image")
            self._old_at = min(self._from, self._last)
            self._base.readblocks(0, self._old, self._old_at)
            o = self._from - self._old_at
        return o

    def _bad(self, what):
        return OTAError(OTAError.CHECKSUM, "a delta " + what)
