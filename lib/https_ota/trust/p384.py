# The curve P-384, and SHA-384, which the firmware's hashlib lacks: only signatures with a P-384 key need them.
#
# FIPS 186-4, appendix D.1.2.4; FIPS 180-4, sections 4.2.3, 5.3.4 and 6.4. A 64-bit number is two words, high and
# low, in every table.

from struct import pack, pack_into, unpack_from

import micropython
from micropython import const

from ..hot import copy
from .ec import Curve

_BLOCK = const(128)
# The work area, in bytes: message schedule, constants, hash value, and the eight variables, which move
# down by a number each round, so that nothing is shifted from one to the next.
_CONSTANTS = const(640)
_VALUE = const(1280)
_SIZE = const(1344 + 640 + 80)
# To cut a sum to 32 bits where a viper integer has 64. Too large for viper as a literal.
_MASK = 0xFFFFFFFF

P384 = Curve(
    48,
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"  # p
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"
    b"\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff"
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"  # n
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xc7\x63\x4d\x81\xf4\x37\x2d\xdf"
    b"\x58\x1a\x0d\xb2\x48\xb0\xa7\x7a\xec\xec\x19\x6a\xcc\xc5\x29\x73"
    b"\xb3\x31\x2f\xa7\xe2\x3e\xe7\xe4\x98\x8e\x05\x6b\xe3\xf8\x2d\x19"  # b
    b"\x18\x1d\x9c\x6e\xfe\x81\x41\x12\x03\x14\x08\x8f\x50\x13\x87\x5a"
    b"\xc6\x56\x39\x8d\x8a\x2e\xd1\x9d\x2a\x85\xc8\xed\xd3\xec\x2a\xef"
    b"\xaa\x87\xca\x22\xbe\x8b\x05\x37\x8e\xb1\xc7\x1e\xf3\x20\xad\x74"  # gx
    b"\x6e\x1d\x3b\x62\x8b\xa7\x9b\x98\x59\xf7\x41\xe0\x82\x54\x2a\x38"
    b"\x55\x02\xf2\x5d\xbf\x55\x29\x6c\x3a\x54\x5e\x38\x72\x76\x0a\xb7"
    b"\x36\x17\xde\x4a\x96\x26\x2c\x6f\x5d\x9e\x98\xbf\x92\x92\xdc\x29"  # gy
    b"\xf8\xf4\x1d\xbd\x28\x9a\x14\x7c\xe9\xda\x31\x13\xb5\xf0\xb8\xc0"
    b"\x0a\x60\xb1\xce\x1d\x7e\x81\x9d\x7a\x43\x1d\x7c\x90\xea\x0e\x5f",
)


# The largest integer whose power is not above k, by Newton's way down from x.
def _root(k, power, x):
    while True:
        y = ((power - 1) * x + k // x ** (power - 1)) // power
        if y >= x:
            return x
        x = y


class SHA384:
    """SHA-384 of a stream: update() as often as needed, then digest() once."""

    def __init__(self):
        self._work = work = bytearray(_SIZE)
        # The constants, in the file 700 bytes: of the first primes' cube and square roots 64 bits behind the point.
        primes = []
        for k in range(2, 410):
            for p in range(2, min(k, 21)):
                if k % p == 0:
                    break
            else:
                primes.append(k)
        for at, power, some in ((_CONSTANTS, 3, primes), (_VALUE, 2, primes[8:16])):
            x = 1 << 66
            for k in some:
                # No root is more than 1 above the one before.
                x = _root(k << 64 * power, power, x + (1 << 64))
                pack_into("<II", work, at, x >> 32 & _MASK, x & _MASK)
                at += 8
        self._rest = bytearray(_BLOCK)
        self._length = 0

    def update(self, buf):
        """Hash buf. Allocates nothing."""
        n = len(buf)
        at = 0
        fill = self._length & (_BLOCK - 1)
        self._length += n
        if fill:
            at = _BLOCK - fill if n > _BLOCK - fill else n
            copy(self._rest, fill, buf, 0, at)
            if fill + at < _BLOCK:
                return
            _compress(self._work, _MASK, self._rest, 0, 1)
        blocks = (n - at) // _BLOCK
        if blocks:
            _compress(self._work, _MASK, buf, at, blocks)
            at += blocks * _BLOCK
        if at < n:
            copy(self._rest, 0, buf, at, n - at)

    def digest(self):
        """The 48 bytes; nothing can be added afterwards."""
        length = self._length
        fill = length & (_BLOCK - 1)
        # A one bit, zeros, and the length in bits as the last 16 bytes of a block.
        pad = bytearray(2 * _BLOCK - fill if fill >= _BLOCK - 16 else _BLOCK - fill)
        pad[0] = 0x80
        pack_into(">Q", pad, len(pad) - 8, length * 8)
        self.update(pad)
        return pack(">12I", *unpack_from("<12I", self._work, _VALUE))


# In the rounds, `v` is at the place for the new `a`, with the eight variables a to h behind it: the new `e`
# takes the place of `d`. A carry shows as a sum below what was added. Stores as in hot.py.
@micropython.viper
def _compress(work: ptr32, m: uint, buf: ptr8, at: int, n: int):
    p = int(buf) + at
    value = ptr32(int(work) + 1280)
    # An Xtensa conditional jump reaches 2 KiB at most: none goes around the whole loop.
    while True:
        if not n:
            return
        n -= 1
        w = work
        for i in range(32):
            b = ptr8(p)
            w[i] = int(b[0]) << 24 | int(b[1]) << 16 | int(b[2]) << 8 | int(b[3])
            p += 4
        for i in range(64):
            hi = uint(w[2])
            lo = uint(w[3])
            x = hi >> 1 ^ lo << 31 ^ hi >> 8 ^ lo << 24 ^ hi >> 7
            y = lo >> 1 ^ hi << 31 ^ lo >> 8 ^ hi << 24 ^ lo >> 7 ^ hi << 25
            hi = uint(w[28])
            lo = uint(w[29])
            x = x + (hi >> 19 ^ lo << 13 ^ lo >> 29 ^ hi << 3 ^ hi >> 6) + uint(w[0]) + uint(w[18])
            c = (lo >> 19 ^ hi << 13 ^ hi >> 29 ^ lo << 3 ^ lo >> 6 ^ hi << 26) & m
            y = ((y & m) + c) & m
            if y < c:
                x += 1
            c = uint(w[1])
            y = (y + c) & m
            if y < c:
                x += 1
            c = uint(w[19])
            y = (y + c) & m
            if y < c:
                x += 1
            ptr32(int(w) + 128)[0] = int(x)
            ptr32(int(w) + 132)[0] = int(y)
            w = ptr32(int(w) + 8)
        v = ptr32(int(work) + 1344 + 632)
        for i in range(16):
            v[i + 2] = value[i]
        w = work
        for i in range(80):
            # t = h + S1(e) + ch(e, f, g) + k + w, as (x, y)
            hi = uint(v[10])
            lo = uint(v[11])
            x = hi >> 14 ^ lo << 18 ^ hi >> 18 ^ lo << 14 ^ lo >> 9 ^ hi << 23
            y = (lo >> 14 ^ hi << 18 ^ lo >> 18 ^ hi << 14 ^ hi >> 9 ^ lo << 23) & m
            c = uint(v[14])
            x += (hi & (uint(v[12]) ^ c) ^ c) + uint(v[16]) + uint(w[0]) + uint(w[160])
            c = uint(v[15])
            c = lo & (uint(v[13]) ^ c) ^ c
            y = (y + c) & m
            if y < c:
                x += 1
            c = uint(v[17])
            y = (y + c) & m
            if y < c:
                x += 1
            c = uint(w[1])
            y = (y + c) & m
            if y < c:
                x += 1
            c = uint(w[161])
            y = (y + c) & m
            if y < c:
                x += 1
            # e = d + t
            c = (uint(v[9]) + y) & m
            hi = uint(v[8]) + x
            if c < y:
                hi += 1
            ptr32(int(v) + 32)[0] = int(hi)
            ptr32(int(v) + 36)[0] = int(c)
            # a = t + S0(a) + maj(a, b, c)
            hi = uint(v[2])
            lo = uint(v[3])
            c = uint(v[4])
            x += (hi ^ c) & (c ^ uint(v[6])) ^ c
            x += hi >> 28 ^ lo << 4 ^ lo >> 2 ^ hi << 30 ^ lo >> 7 ^ hi << 25
            c = uint(v[5])
            c = (lo ^ c) & (c ^ uint(v[7])) ^ c
            y = (y + c) & m
            if y < c:
                x += 1
            c = (lo >> 28 ^ hi << 4 ^ hi >> 2 ^ lo << 30 ^ hi >> 7 ^ lo << 25) & m
            y = (y + c) & m
            if y < c:
                x += 1
            v[0] = int(x)
            ptr32(int(v) + 4)[0] = int(y)
            v = ptr32(int(v) - 8)
            w = ptr32(int(w) + 8)
        for i in range(0, 16, 2):
            c = uint(v[i + 3])
            y = (uint(value[i + 1]) + c) & m
            x = uint(value[i]) + uint(v[i + 2])
            if y < c:
                x += 1
            value[i] = int(x)
            value[i + 1] = int(y)
