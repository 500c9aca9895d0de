# The viper loops, and what goes with them. Each has a plain-Python twin in the tests.
#
# Viper checks neither types nor bounds: the callers do. No store has an index that is a constant other than 0:
# MicroPython 1.25 stores another register then on Xtensa (fixed in 1.26). What changes in a loop are the first arguments:
# these are in registers, all other variables in memory.

import micropython


# For what is short; all else is read to where it belongs.
@micropython.viper
def copy(dst, d: int, src, s: int, n: int):
    """Copy src[s:s+n] to dst[d:], from the front: within one buffer only towards it."""
    d += int(ptr8(dst))
    s += int(ptr8(src))
    n += d
    # By words where both sides are aligned: others trap on the chip.
    while (d | s) & 3 == 0 and n - d > 3:
        ptr32(d)[0] = ptr32(s)[0]
        d += 4
        s += 4
    while d < n:
        ptr8(d)[0] = ptr8(s)[0]
        d += 1
        s += 1


# The image checksum (image format, "Checksum"): every data byte XORed together.
@micropython.viper
def xor(buf: ptr8, at: int, n: int, x: int) -> int:
    """x XORed with each byte of buf[at:at+n] (0 to 255)."""
    at += int(buf)
    n += at
    while at & 3 and at < n:
        x ^= int(ptr8(at)[0])
        at += 1
    w = 0
    last = n - 15
    while at < last:
        w ^= int(ptr32(at)[0]) ^ int(ptr32(at)[1]) ^ int(ptr32(at)[2]) ^ int(ptr32(at)[3])
        at += 16
    while at < n:
        x ^= int(ptr8(at)[0])
        at += 1
    w ^= w >> 16
    return (x ^ w ^ w >> 8) & 255


# Two running sums over 32-bit words, the second of the first (Fletcher's), both modulo 2**32: what a resumed
# update recognises the flash's content by. In place, as numbers above 2**30 would be allocated.
@micropython.viper
def sums(buf: ptr32, n: int, acc: ptr32):
    """Add buf[:n] (n a multiple of 8, buf word-aligned) to the two words of acc."""
    n += int(buf)
    a = int(acc[0])
    b = int(acc[1])
    while int(buf) < n:
        a += int(buf[0])
        b += a
        a += int(buf[1])
        b += a
        buf = ptr32(int(buf) + 8)
    acc[0] = a
    ptr32(int(acc) + 4)[0] = b


@micropython.viper
def blank(buf: ptr32, n: int) -> bool:
    """True when buf[:n] (n a multiple of 8, buf word-aligned) is what erased flash holds."""
    n += int(buf)
    w = 65535
    while int(buf) < n and w == 65535:
        w = int(buf[0]) & int(buf[1])
        w = w & (w >> 16) & 65535
        buf = ptr32(int(buf) + 8)
    return w == 65535


# Digests are compared in a time that does not depend on where they differ.
def equal(a, b):
    """True when a and b (bytes or the like) have the same length and content."""
    n = len(a)
    if n != len(b):
        return False
    x = 0
    while n:
        n -= 1
        x |= a[n] ^ b[n]
    return not x
