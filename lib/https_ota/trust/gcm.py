# AES-256-GCM as a stream (NIST SP 800-38D), for firmware whose cryptolib has ECB and CBC only.
#
# The block cipher is the firmware's; counters, XOR and GHASH are viper. Viper checks neither types nor
# bounds: the class does. Each loop has a plain-Python twin in the tests.
#
# A viper int has 32 bits on the chip and 64 on the x64 port. Words are kept so that what is above bit 31
# never comes down again: a shift to the right is always masked. No literal may exceed 2**30. Stores as in hot.py.

from struct import pack, pack_into, unpack_from

import micropython
from cryptolib import aes
from micropython import const

_ECB = const(1)
_STREAM = const(512)  # bytes of key stream made at once
_STATE = const(272)  # the GHASH value, then the table


# By words where both sides lie alike (an unaligned word traps on the chip), else by bytes.
@micropython.viper
def xor(dst, d: int, src, s: int, n: int):
    """XOR src[s:s+n] into dst[d:d+n]. With dst and src the same and d == s that makes zeros."""
    d += int(ptr8(dst))
    s += int(ptr8(src))
    n += d
    while d < n:
        if (d | s) & 3 == 0:
            last = n - 3
            while d < last:
                ptr32(d)[0] ^= ptr32(s)[0]
                d += 4
                s += 4
            if d == n:
                return
        ptr8(d)[0] ^= ptr8(s)[0]
        d += 1
        s += 1


# The counter is the block's last four bytes, big-endian; only these wrap (inc32).
@micropython.viper
def counters(out: ptr32, n: int, block: ptr32):
    """Fill out[:n] (whole blocks) with the counter blocks from `block` on, which becomes the one after them."""
    b = ptr8(block)
    n >>= 2
    i = 0
    while i < n:
        out[i] = block[i & 3]
        i += 1
        if i & 3 == 0:
            k = 16
            while k > 12:
                k -= 1
                c = (int(b[k]) + 1) & 255
                b[k] = c
                if c:
                    k = 0


# GHASH, 4 bits at a time. In GCM the first bit of a block is the coefficient of x**0, so that times x is
# a shift to the right. A block is four words here of which the first has the lowest powers: its bytes are
# swapped in each word, see swapped(). Entry n of the table is the hash key H times the polynomial of the four
# bits of n: entry 8 is H, 4 is H*x, 2 and 1 the next, and 0 is zeros.
@micropython.viper
def table(t: ptr32):
    """Make the table in the state t, which has the words of the hash key in entry 8 and zeros before."""
    mask = 0x3FFFFFFF
    mask = mask << 1 | 1
    at = 36
    while at > 8:
        half = (at >> 1) + 2
        carry = int(t[at + 3]) & 1
        i = 3
        while i:
            t[half + i] = (int(t[at + i]) >> 1 & mask) | int(t[at + i - 1]) << 31
            i -= 1
        # x**128 is 1 + x + x**2 + x**7: 0xE1 in the first byte
        t[half] = (int(t[at]) >> 1 & mask) ^ carry * -0x1F000000
        at = half
    at = 8
    while at < 64:
        for i in range(4, at):
            t[4 + at + i] = t[4 + at + (i & 3)] ^ t[4 + i]
        at <<= 1


# The eight nibbles of all four words are taken side by side, last powers first, into a sum of eight words
# that is shifted by four bits between them and reduced once at the end: in the place of the value and of entry 0.
@micropython.viper
def absorb(state, pos: int, buf, at: int, n: int):
    """Take buf[at:at+n] into the GHASH value, whose current block holds `pos` bytes (0 to 15) so far."""
    y = ptr32(state)
    b = ptr8(state)
    p = ptr8(buf)
    n += at
    # Both loops end from within: Xtensa's conditional branches, of which `while` makes one, reach 2 KiB only.
    while True:
        if at >= n:
            return
        b[pos ^ 3] ^= p[at]
        at += 1
        pos += 1
        if pos < 16:
            continue
        pos = a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = 0
        s = 0
        while True:
            if s > 28:
                break
            a7 = (a7 >> 4 & 0xFFFFFFF) | a6 << 28
            a6 = (a6 >> 4 & 0xFFFFFFF) | a5 << 28
            a5 = (a5 >> 4 & 0xFFFFFFF) | a4 << 28
            a4 = (a4 >> 4 & 0xFFFFFFF) | a3 << 28
            a3 = (a3 >> 4 & 0xFFFFFFF) | a2 << 28
            a2 = (a2 >> 4 & 0xFFFFFFF) | a1 << 28
            a1 = (a1 >> 4 & 0xFFFFFFF) | a0 << 28
            a0 = a0 >> 4 & 0xFFFFFFF
            tab = int(y) + 16
            t = ptr32(tab + ((int(y[0]) >> s & 15) << 4))
            a0 ^= int(t[0])
            a1 ^= int(t[1])
            a2 ^= int(t[2])
            a3 ^= int(t[3])
            t = ptr32(tab + ((int(y[1]) >> s & 15) << 4))
            a1 ^= int(t[0])
            a2 ^= int(t[1])
            a3 ^= int(t[2])
            a4 ^= int(t[3])
            t = ptr32(tab + ((int(y[2]) >> s & 15) << 4))
            a2 ^= int(t[0])
            a3 ^= int(t[1])
            a4 ^= int(t[2])
            a5 ^= int(t[3])
            t = ptr32(tab + ((int(y[3]) >> s & 15) << 4))
            a3 ^= int(t[0])
            a4 ^= int(t[1])
            a5 ^= int(t[2])
            a6 ^= int(t[3])
            s += 4
        t = y
        for s in range(8):
            t[0] = a0
            t = ptr32(int(t) + 4)
            a0 = a1
            a1 = a2
            a2 = a3
            a3 = a4
            a4 = a5
            a5 = a6
            a6 = a7
        s = 7
        # Reduce: what is at x**128 and above comes back times 1 + x + x**2 + x**7.
        while s > 3:
            a0 = int(y[s])
            y[s] = 0
            a1 = a0 >> 1 & 0x3FFFFFFF | (a0 >> 31 & 1) << 30
            y[s - 4] ^= a0 ^ a1 ^ a1 >> 1 ^ a1 >> 6
            y[s - 3] ^= a0 << 31 ^ a0 << 30 ^ a0 << 25
            s -= 1


def swapped(buf):
    """The first 16 bytes of buf with the bytes of each word in reverse order."""
    return pack("<4I", *unpack_from(">4I", buf))


def erase(buf):
    """Make buf all zeros, even if it is a bytes object (then one that nobody else holds)."""
    xor(buf, 0, buf, 0, len(buf))


class GCM:
    """Decryption with AES-GCM, piece by piece: decrypt() or replay(), in order, then tag(), then wipe().

    key   16 or 32 bytes
    iv    of any length but 0

    There is no additional data. What decrypt() gave is not authentic until the tag has been compared.
    """

    def __init__(self, key, iv):
        if not len(iv):
            raise ValueError("iv: expected at least one byte")
        self._encrypt = aes(key, _ECB).encrypt
        self._state = bytearray(_STATE)
        self._stream = bytearray(_STREAM)
        self._counter = bytearray(16)
        self._mask = mask = bytearray(16)  # what the tag is XORed with
        self._encrypt(mask, mask)
        self._state[144:160] = swapped(mask)
        table(self._state)
        if len(iv) == 12:
            j0 = bytes(iv) + b"\0\0\0\1"
        else:
            absorb(self._state, 0, iv, 0, len(iv))
            self._end(len(iv))
            j0 = swapped(self._state)
            xor(self._state, 0, self._state, 0, 16)
        self._start(j0)

    def _start(self, j0):
        self._counter[:] = j0
        counters(self._mask, 16, self._counter)
        self._encrypt(self._mask, self._mask)
        self._pos = _STREAM  # first byte of the key stream not used
        self._length = 0

    def decrypt(self, buf, n):
        """Decrypt buf[:n], the next bytes of the message, in place. Allocates nothing."""
        self._run(buf, n, False)

    def replay(self, buf, n):
        """Go on as if buf[:n], which an earlier session decrypted, had come again; buf is as before afterwards."""
        self._run(buf, n, True)

    def _run(self, buf, n, plain):
        if not 0 <= n <= len(buf):
            raise ValueError("n: expected 0 to %d, got %d" % (len(buf), n))
        stream = self._stream
        pos = self._pos
        at = 0
        while at < n:
            if pos == _STREAM:
                counters(stream, _STREAM, self._counter)
                self._encrypt(stream, stream)
                pos = 0
            m = _STREAM - pos
            if m > n - at:
                m = n - at
            if plain:
                xor(buf, at, stream, pos, m)
            # The key stream holds whole blocks: pos tells where in one we are, too.
            absorb(self._state, pos & 15, buf, at, m)
            xor(buf, at, stream, pos, m)
            at += m
            pos += m
        self._pos = pos
        self._length += n

    def _end(self, length):
        # The last block is filled up with zeros; one with the lengths of additional data and of the data follows.
        block = bytearray(16)
        if length & 15:
            absorb(self._state, length & 15, block, 0, 16 - (length & 15))
        pack_into(">Q", block, 8, length * 8)
        absorb(self._state, 0, block, 0, 16)

    def tag(self):
        """Return the tag (16 bytes) of what went through. Only once, and nothing may follow."""
        self._end(self._length)
        tag = swapped(self._state)
        xor(self._mask, 0, tag, 0, 16)
        return bytes(self._mask)

    def wipe(self):
        """Zero all that holds key stream, tables or state. It can't be used any more then."""
        # The firmware has no way to zero its AES object: it is let go.
        self._encrypt = None
        self._pos = _STREAM
        erase(self._state)
        erase(self._stream)
        erase(self._counter)
        erase(self._mask)
