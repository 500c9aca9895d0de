# The viper loops, and nothing else. Each has a plain-Python twin in the tests.
#
# Viper checks neither types nor bounds: the callers do. No store has an index that is a constant other than 0:
# MicroPython 1.25 stores another register then on Xtensa (fixed in 1.26).

import micropython


# For what is short; all else is read to where it belongs.
@micropython.viper
def copy(dst, d: int, src, s: int, n: int):
    """Copy src[s:s+n] to dst[d:], from the front: within one buffer only towards it."""
    p = int(ptr8(dst)) + d
    q = int(ptr8(src)) + s
    for i in range(n):
        ptr8(p + i)[0] = ptr8(q + i)[0]


# The image checksum (image format, "Checksum"): every data byte XORed together.
@micropython.viper
def xor(buf, at: int, n: int, x: int) -> int:
    """x XORed with each byte of buf[at:at+n] (0 to 255)."""
    p = int(ptr8(buf)) + at
    w = 0
    end = p + n
    while p & 3 and p < end:
        x ^= int(ptr8(p)[0])
        p += 1
    last = end - 15
    while p < last:
        w ^= int(ptr32(p)[0]) ^ int(ptr32(p)[1]) ^ int(ptr32(p)[2]) ^ int(ptr32(p)[3])
        p += 16
    while p < end:
        x ^= int(ptr8(p)[0])
        p += 1
    w ^= w >> 16
    return (x ^ w ^ w >> 8) & 255


# Two running sums over 32-bit words, the second of the first (Fletcher's), both modulo 2**32: what a resumed
# update recognises the flash's content by. In place, as numbers above 2**30 would be allocated.
@micropython.viper
def sums(buf, n: int, acc: ptr32):
    """Add buf[:n] (n a multiple of 16, buf word-aligned) to the two words of acc."""
    p = int(ptr8(buf))
    a = int(acc[0])
    b = int(acc[1])
    end = p + n
    while p < end:
        a += int(ptr32(p)[0])
        b += a
        a += int(ptr32(p)[1])
        b += a
        a += int(ptr32(p)[2])
        b += a
        a += int(ptr32(p)[3])
        b += a
        p += 16
    acc[0] = a
    ptr32(int(acc) + 4)[0] = b


@micropython.viper
def blank(buf, n: int) -> bool:
    """True when buf[:n] (n a multiple of 16, buf word-aligned) is what erased flash holds."""
    p = int(ptr8(buf))
    w = 65535
    end = p + n
    while p < end and w == 65535:
        w = int(ptr32(p)[0]) & int(ptr32(p)[1]) & int(ptr32(p)[2]) & int(ptr32(p)[3])
        w = w & (w >> 16) & 65535
        p += 16
    return w == 65535


# Digests are compared in a time that does not depend on where they differ.
@micropython.viper
def equal(a, b) -> bool:
    """True when a and b (bytes or the like) have the same length and content."""
    n = uint(len(a))
    if n != uint(len(b)):
        return False
    p = ptr8(a)
    q = ptr8(b)
    x = 0
    while n:
        n -= 1
        x |= int(p[n]) ^ int(q[n])
    return x == 0
