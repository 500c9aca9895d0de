# SHA-384, which the firmware's hashlib lacks: only signatures with a P-384 key need it.
#
# FIPS 180-4, sections 4.2.3, 5.3.4 and 6.4. A 64-bit number is two words, high and low, in every table.

from struct import pack, pack_into, unpack_from

import micropython
from micropython import const

from ..hot import copy_xor

_BLOCK = const(128)
# The work area, in bytes: message schedule, constants, hash value, and the eight variables, which move
# down by a number each round, so that nothing is shifted from one to the next.
_CONSTANTS = const(640)
_VALUE = const(1280)
_SIZE = const(1344 + 640 + 80)
# To cut a sum to 32 bits where a viper integer has 64. Too large for viper as a literal.
_MASK = 0xFFFFFFFF

# Of the cube roots of the first 80 primes, the first 64 bits behind the point.
_K = (
    b"\x98\x2f\x8a\x42\x22\xae\x28\xd7\x91\x44\x37\x71\xcd\x65\xef\x23\xcf\xfb\xc0\xb5"
    b"\x2f\x3b\x4d\xec\xa5\xdb\xb5\xe9\xbc\xdb\x89\x81\x5b\xc2\x56\x39\x38\xb5\x48\xf3"
    b"\xf1\x11\xf1\x59\x19\xd0\x05\xb6\xa4\x82\x3f\x92\x9b\x4f\x19\xaf\xd5\x5e\x1c\xab"
    b"\x18\x81\x6d\xda\x98\xaa\x07\xd8\x42\x02\x03\xa3\x01\x5b\x83\x12\xbe\x6f\x70\x45"
    b"\xbe\x85\x31\x24\x8c\xb2\xe4\x4e\xc3\x7d\x0c\x55\xe2\xb4\xff\xd5\x74\x5d\xbe\x72"
    b"\x6f\x89\x7b\xf2\xfe\xb1\xde\x80\xb1\x96\x16\x3b\xa7\x06\xdc\x9b\x35\x12\xc7\x25"
    b"\x74\xf1\x9b\xc1\x94\x26\x69\xcf\xc1\x69\x9b\xe4\xd2\x4a\xf1\x9e\x86\x47\xbe\xef"
    b"\xe3\x25\x4f\x38\xc6\x9d\xc1\x0f\xb5\xd5\x8c\x8b\xcc\xa1\x0c\x24\x65\x9c\xac\x77"
    b"\x6f\x2c\xe9\x2d\x75\x02\x2b\x59\xaa\x84\x74\x4a\x83\xe4\xa6\x6e\xdc\xa9\xb0\x5c"
    b"\xd4\xfb\x41\xbd\xda\x88\xf9\x76\xb5\x53\x11\x83\x52\x51\x3e\x98\xab\xdf\x66\xee"
    b"\x6d\xc6\x31\xa8\x10\x32\xb4\x2d\xc8\x27\x03\xb0\x3f\x21\xfb\x98\xc7\x7f\x59\xbf"
    b"\xe4\x0e\xef\xbe\xf3\x0b\xe0\xc6\xc2\x8f\xa8\x3d\x47\x91\xa7\xd5\x25\xa7\x0a\x93"
    b"\x51\x63\xca\x06\x6f\x82\x03\xe0\x67\x29\x29\x14\x70\x6e\x0e\x0a\x85\x0a\xb7\x27"
    b"\xfc\x2f\xd2\x46\x38\x21\x1b\x2e\x26\xc9\x26\x5c\xfc\x6d\x2c\x4d\xed\x2a\xc4\x5a"
    b"\x13\x0d\x38\x53\xdf\xb3\x95\x9d\x54\x73\x0a\x65\xde\x63\xaf\x8b\xbb\x0a\x6a\x76"
    b"\xa8\xb2\x77\x3c\x2e\xc9\xc2\x81\xe6\xae\xed\x47\x85\x2c\x72\x92\x3b\x35\x82\x14"
    b"\xa1\xe8\xbf\xa2\x64\x03\xf1\x4c\x4b\x66\x1a\xa8\x01\x30\x42\xbc\x70\x8b\x4b\xc2"
    b"\x91\x97\xf8\xd0\xa3\x51\x6c\xc7\x30\xbe\x54\x06\x19\xe8\x92\xd1\x18\x52\xef\xd6"
    b"\x24\x06\x99\xd6\x10\xa9\x65\x55\x85\x35\x0e\xf4\x2a\x20\x71\x57\x70\xa0\x6a\x10"
    b"\xb8\xd1\xbb\x32\x16\xc1\xa4\x19\xc8\xd0\xd2\xb8\x08\x6c\x37\x1e\x53\xab\x41\x51"
    b"\x4c\x77\x48\x27\x99\xeb\x8e\xdf\xb5\xbc\xb0\x34\xa8\x48\x9b\xe1\xb3\x0c\x1c\x39"
    b"\x63\x5a\xc9\xc5\x4a\xaa\xd8\x4e\xcb\x8a\x41\xe3\x4f\xca\x9c\x5b\x73\xe3\x63\x77"
    b"\xf3\x6f\x2e\x68\xa3\xb8\xb2\xd6\xee\x82\x8f\x74\xfc\xb2\xef\x5d\x6f\x63\xa5\x78"
    b"\x60\x2f\x17\x43\x14\x78\xc8\x84\x72\xab\xf0\xa1\x08\x02\xc7\x8c\xec\x39\x64\x1a"
    b"\xfa\xff\xbe\x90\x28\x1e\x63\x23\xeb\x6c\x50\xa4\xe9\xbd\x82\xde\xf7\xa3\xf9\xbe"
    b"\x15\x79\xc6\xb2\xf2\x78\x71\xc6\x2b\x53\x72\xe3\xce\x3e\x27\xca\x9c\x61\x26\xea"
    b"\xc7\xb8\x86\xd1\x07\xc2\xc0\x21\xd6\x7d\xda\xea\x1e\xeb\xe0\xcd\x7f\x4f\x7d\xf5"
    b"\x78\xd1\x6e\xee\xaa\x67\xf0\x06\xba\x6f\x17\x72\xc5\x7d\x63\x0a\xa6\x98\xc8\xa2"
    b"\x04\x98\x3f\x11\xae\x0d\xf9\xbe\x35\x0b\x71\x1b\x1b\x47\x1c\x13\xf5\x77\xdb\x28"
    b"\x84\x7d\x04\x23\x7b\xab\xca\x32\x93\x24\xc7\x40\x0a\xbe\x9e\x3c\xbc\xbe\xc9\x15"
    b"\xc4\x67\x1d\x43\x4c\x0d\x10\x9c\xbe\xd4\xc5\x4c\xb6\x42\x3e\xcb\x9c\x29\x7f\x59"
    b"\x2a\x7e\x65\xfc\xab\x6f\xcb\x5f\xec\xfa\xd6\x3a\x8c\x19\x44\x6c\x17\x58\x47\x4a"
)
# Of the square roots of the 9th to 16th prime.
_INITIAL = (
    b"\x5d\x9d\xbb\xcb\xd8\x9e\x05\xc1\x2a\x29\x9a\x62\x07\xd5\x7c\x36"
    b"\x5a\x01\x59\x91\x17\xdd\x70\x30\xd8\xec\x2f\x15\x39\x59\x0e\xf7"
    b"\x67\x26\x33\x67\x31\x0b\xc0\xff\x87\x4a\xb4\x8e\x11\x15\x58\x68"
    b"\x0d\x2e\x0c\xdb\xa7\x8f\xf9\x64\x1d\x48\xb5\x47\xa4\x4f\xfa\xbe"
)


class SHA384:
    """SHA-384 of a stream: update() as often as needed, then digest() once."""

    def __init__(self):
        # Not used in place: a constant in flash need not begin at a word.
        self._work = bytearray(_SIZE)
        self._work[_CONSTANTS:_VALUE] = _K
        self._work[_VALUE : _VALUE + 64] = _INITIAL
        self._rest = bytearray(_BLOCK)
        self._length = 0

    def update(self, buf, n):
        """Hash buf[:n]. Allocates nothing."""
        at = 0
        fill = self._length & (_BLOCK - 1)
        self._length += n
        if fill:
            at = _BLOCK - fill if n > _BLOCK - fill else n
            copy_xor(self._rest, fill, buf, 0, at, 0)
            if fill + at < _BLOCK:
                return
            _compress(self._work, _MASK, self._rest, 0, 1)
        blocks = (n - at) // _BLOCK
        if blocks:
            _compress(self._work, _MASK, buf, at, blocks)
            at += blocks * _BLOCK
        if at < n:
            copy_xor(self._rest, 0, buf, at, n - at, 0)

    def digest(self):
        """The 48 bytes; nothing can be added afterwards."""
        length = self._length
        fill = length & (_BLOCK - 1)
        # A one bit, zeros, and the length in bits as the last 16 bytes of a block.
        pad = bytearray(2 * _BLOCK - fill if fill >= _BLOCK - 16 else _BLOCK - fill)
        pad[0] = 0x80
        pack_into(">Q", pad, len(pad) - 8, length * 8)
        self.update(pad, len(pad))
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
