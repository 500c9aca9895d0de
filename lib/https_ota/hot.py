# The viper loops, and nothing else. Each has a plain-Python twin in the tests.
#
# Viper checks neither types nor bounds: the callers do. No store has an index that is a constant other than 0:
# MicroPython 1.25 stores another register then on Xtensa (fixed in 1.26).

import micropython


# The image checksum (image format, "Checksum"): every data byte XORed together. Done on the way from
# the receive buffer to the sector buffer, so that each byte is touched once. Words where both sides
# are aligned alike (loading an unaligned word traps on the chip), bytes elsewhere.
@micropython.viper
def copy_xor(dst, d: int, src, s: int, n: int, x: int) -> int:
    """Copy src[s:s+n] to dst[d:d+n]; return x XORed with each of these bytes (0 to 255)."""
    p = int(ptr8(dst)) + d
    q = int(ptr8(src)) + s
    end = q + n
    if (p ^ q) & 3 == 0 and n >= 16:
        while q & 3:
            c = int(ptr8(q)[0])
            ptr8(p)[0] = c
            x ^= c
            p += 1
            q += 1
        words = (end - q) >> 2
        pw = ptr32(p)
        qw = ptr32(q)
        w = 0
        for i in range(words):
            v = int(qw[i])
            pw[i] = v
            w ^= v
        w ^= w >> 16
        x ^= w ^ (w >> 8)
        p += words << 2
        q += words << 2
    while q < end:
        c = int(ptr8(q)[0])
        ptr8(p)[0] = c
        x ^= c
        p += 1
        q += 1
    return x & 255


# Two running sums over 32-bit words, the second of the first (Fletcher's), both modulo 2**32: what a resumed
# update recognises the flash's content by. In place, as numbers above 2**30 would be allocated.
@micropython.viper
def sums(buf: ptr32, n: int, acc: ptr32):
    """Add buf[:n] (n a multiple of 4, buf word-aligned) to the two words of acc."""
    a = int(acc[0])
    b = int(acc[1])
    for i in range(n >> 2):
        a += int(buf[i])
        b += a
    acc[0] = a
    ptr32(int(acc) + 4)[0] = b


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
