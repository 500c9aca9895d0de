# AES-256-GCM as a stream (NIST SP 800-38D), for firmware whose cryptolib has ECB and CBC only.
#
# The block cipher is the firmware's; counters, XOR and GHASH are viper. Viper checks neither types nor
# bounds: the class does. Each loop has a plain-Python twin in the tests.
#
# A viper int has 32 bits on the chip and 64 on the x64 port. Words are kept so that what is above bit 31
# never comes down again: a shift to the right is always masked. No literal may exceed 2**30. Stores as in hot.py.

from struct import pack_into

import micropython
from cryptolib import aes
from micropython import const

_ECB = const(1)
_STREAM = const(512)  # bytes of key stream made at once
_STATE = const(272)  # the GHASH value, then the table


# An unaligned word traps on the chip: dst goes by words once it is aligned, and words of src are put
# together from two aligned ones where it is not. No byte is read outside the words that hold src[s:s+n].
@micropython.viper
def xor(dst, d: int, src, s: int, n: int):
    """XOR src[s:s+n] into dst[d:d+n]. With dst and src the same and d == s that makes zeros."""
    p = int(ptr8(dst)) + d
    q = int(ptr8(src)) + s
    end = p + n
    while p < end and p & 3:
        ptr8(p)[0] ^= ptr8(q)[0]
        p += 1
        q += 1
    words = (end - p) >> 2
    if words > 0:
        pw = ptr32(p)
        right = (q & 3) << 3
        qw = ptr32(q - (q & 3))
        if right:
            left = 32 - right
            mask = 0xFFFFFF >> (right - 8)
            low = int(qw[0])
            for i in range(words):
                high = int(qw[i + 1])
                pw[i] ^= (low >> right & mask) | high << left
                low = high
        else:
            for i in range(words):
                pw[i] ^= qw[i]
        p += words << 2
        q += words << 2
    while p < end:
        ptr8(p)[0] ^= ptr8(q)[0]
        p += 1
        q += 1


# The counter is the block's last four bytes, big-endian; only these wrap (inc32).
@micropython.viper
def counters(out: ptr32, n: int, block: ptr32):
    """Fill out[:n] (whole blocks) with the counter blocks from `block` on, which becomes the one after them."""
    w = int(block[3])
    c = (w & 255) << 24 | (w & 0xFF00) << 8 | (w >> 8 & 0xFF00) | (w >> 24 & 255)
    i = 0
    for _ in range(n >> 4):
        out[i] = block[0]
        out[i + 1] = block[1]
        out[i + 2] = block[2]
        out[i + 3] = (c & 255) << 24 | (c & 0xFF00) << 8 | (c >> 8 & 0xFF00) | (c >> 24 & 255)
        i += 4
        c += 1
    ptr32(int(block) + 12)[0] = (
        (c & 255) << 24 | (c & 0xFF00) << 8 | (c >> 8 & 0xFF00) | (c >> 24 & 255)
    )


# GHASH, 4 bits at a time. In GCM the first bit of a block is the coefficient of x**0, so that times x is
# a shift to the right. Entry n of the table is the hash key H times the polynomial of the four bits of n,
# as four words of which the first has the lowest powers: entry 8 is H, 4 is H*x, 2 and 1 the next.
@micropython.viper
def table(state: ptr32, h: ptr32):
    """Make the table in `state` from the 16 bytes of the hash key; the GHASH value becomes zero."""
    for i in range(8):
        state[i] = 0  # the value, and entry 0
    t = ptr32(int(state) + 16)
    for i in range(4):
        w = int(h[i])
        t[32 + i] = (w & 255) << 24 | (w & 0xFF00) << 8 | (w >> 8 & 0xFF00) | (w >> 24 & 255)
    mask = 0x3FFFFFFF
    mask = mask << 1 | 1
    at = 32
    while at > 4:
        half = at >> 1
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
            t[at + i] = t[at + (i & 3)] ^ t[i]
        at <<= 1


# The eight nibbles of all four words are taken side by side, last powers first, into a sum of eight words
# that is shifted by four bits between them and reduced once at the end. The words of the value and of the
# data stay as they lie in memory (little-endian): that only changes the order in which to take nibbles.
@micropython.viper
def absorb(state, pos: int, buf, at: int, n: int):
    """Take buf[at:at+n] into the GHASH value, whose current block holds `pos` bytes (0 to 15) so far."""
    y = ptr32(state)
    tab = int(ptr8(state)) + 16
    p = int(ptr8(buf)) + at
    mask = 0x3FFFFFFF
    mask = mask << 1 | 1
    # Both loops end from within: Xtensa's conditional branches, of which `while` makes one, reach 2 KiB only.
    while True:
        if n <= 0:
            return
        if pos == 0 and n >= 16:
            right = (p & 3) << 3
            q = ptr32(p - (p & 3))
            w0 = int(q[0])
            w1 = int(q[1])
            w2 = int(q[2])
            w3 = int(q[3])
            if right:
                left = 32 - right
                m = 0xFFFFFF >> (right - 8)
                w0 = (w0 >> right & m) | w1 << left
                w1 = (w1 >> right & m) | w2 << left
                w2 = (w2 >> right & m) | w3 << left
                w3 = (w3 >> right & m) | int(q[4]) << left
            p += 16
            n -= 16
        else:
            while n > 0 and pos < 16:
                ptr8(int(y) + pos)[0] ^= ptr8(p)[0]
                pos += 1
                p += 1
                n -= 1
            if pos < 16:
                return
            pos = w0 = w1 = w2 = w3 = 0
        w0 ^= int(y[0])
        w1 ^= int(y[1])
        w2 ^= int(y[2])
        w3 ^= int(y[3])
        a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = 0
        k = 28
        while True:
            if k < 0:
                break
            s = k ^ 4
            a7 = (a7 >> 4 & 0xFFFFFFF) | a6 << 28
            a6 = (a6 >> 4 & 0xFFFFFFF) | a5 << 28
            a5 = (a5 >> 4 & 0xFFFFFFF) | a4 << 28
            a4 = (a4 >> 4 & 0xFFFFFFF) | a3 << 28
            a3 = (a3 >> 4 & 0xFFFFFFF) | a2 << 28
            a2 = (a2 >> 4 & 0xFFFFFFF) | a1 << 28
            a1 = (a1 >> 4 & 0xFFFFFFF) | a0 << 28
            a0 = a0 >> 4 & 0xFFFFFFF
            t = ptr32(tab + ((w0 >> s & 15) << 4))
            a0 ^= int(t[0])
            a1 ^= int(t[1])
            a2 ^= int(t[2])
            a3 ^= int(t[3])
            t = ptr32(tab + ((w1 >> s & 15) << 4))
            a1 ^= int(t[0])
            a2 ^= int(t[1])
            a3 ^= int(t[2])
            a4 ^= int(t[3])
            t = ptr32(tab + ((w2 >> s & 15) << 4))
            a2 ^= int(t[0])
            a3 ^= int(t[1])
            a4 ^= int(t[2])
            a5 ^= int(t[3])
            t = ptr32(tab + ((w3 >> s & 15) << 4))
            a3 ^= int(t[0])
            a4 ^= int(t[1])
            a5 ^= int(t[2])
            a6 ^= int(t[3])
            k -= 4
        # Reduce: what is at x**128 and above comes back times 1 + x + x**2 + x**7.
        w0 = a7 >> 1 & mask
        a3 ^= a7 ^ w0 ^ w0 >> 1 ^ w0 >> 6
        a4 ^= a7 << 31 ^ a7 << 30 ^ a7 << 25
        w0 = a6 >> 1 & mask
        a2 ^= a6 ^ w0 ^ w0 >> 1 ^ w0 >> 6
        a3 ^= a6 << 31 ^ a6 << 30 ^ a6 << 25
        w0 = a5 >> 1 & mask
        a1 ^= a5 ^ w0 ^ w0 >> 1 ^ w0 >> 6
        a2 ^= a5 << 31 ^ a5 << 30 ^ a5 << 25
        w0 = a4 >> 1 & mask
        a0 ^= a4 ^ w0 ^ w0 >> 1 ^ w0 >> 6
        a1 ^= a4 << 31 ^ a4 << 30 ^ a4 << 25
        y[0] = (a0 & 255) << 24 | (a0 & 0xFF00) << 8 | (a0 >> 8 & 0xFF00) | (a0 >> 24 & 255)
        ptr32(int(y) + 4)[0] = (
            (a1 & 255) << 24 | (a1 & 0xFF00) << 8 | (a1 >> 8 & 0xFF00) | (a1 >> 24 & 255)
        )
        ptr32(int(y) + 8)[0] = (
            (a2 & 255) << 24 | (a2 & 0xFF00) << 8 | (a2 >> 8 & 0xFF00) | (a2 >> 24 & 255)
        )
        ptr32(int(y) + 12)[0] = (
            (a3 & 255) << 24 | (a3 & 0xFF00) << 8 | (a3 >> 8 & 0xFF00) | (a3 >> 24 & 255)
        )


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
        table(self._state, mask)
        if len(iv) == 12:
            j0 = bytes(iv) + b"\0\0\0\1"
        else:
            absorb(self._state, 0, iv, 0, len(iv))
            self._end(len(iv))
            j0 = bytes(memoryview(self._state)[:16])
            xor(self._state, 0, j0, 0, 16)
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
        tag = bytearray(self._mask)
        xor(tag, 0, self._state, 0, 16)
        return bytes(tag)

    def wipe(self):
        """Zero all that holds key stream, tables or state. It can't be used any more then."""
        # The firmware has no way to zero its AES object: it is let go.
        self._encrypt = None
        self._pos = _STREAM
        erase(self._state)
        erase(self._stream)
        erase(self._counter)
        erase(self._mask)
