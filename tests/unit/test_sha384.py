# p384.py: SHA-384 against its plain-Python twin, whose constants are found in another way, and against FIPS 180-4.

import random
from binascii import unhexlify
from struct import unpack_from

from https_ota.trust.p384 import SHA384

M = (1 << 64) - 1


def primes(n):
    found = []
    k = 2
    while len(found) < n:
        if all(k % p for p in found):
            found.append(k)
        k += 1
    return found


# The largest integer whose power is not above a.
def root(a, power):
    low, high = 0, 1 << 80
    while high - low > 1:
        middle = (low + high) // 2
        if middle**power <= a:
            low = middle
        else:
            high = middle
    return low


K = [root(p << 192, 3) & M for p in primes(80)]
INITIAL = [root(p << 128, 2) & M for p in primes(16)[8:]]


def rotate(x, n):
    return (x >> n | x << (64 - n)) & M


def twin(data):
    value = list(INITIAL)
    padded = data + b"\x80" + bytes(-(len(data) + 17) % 128)
    padded += (8 * len(data)).to_bytes(16, "big")
    for at in range(0, len(padded), 128):
        w = list(unpack_from(">16Q", padded, at))
        for t in range(16, 80):
            x, y = w[t - 15], w[t - 2]
            s0 = rotate(x, 1) ^ rotate(x, 8) ^ x >> 7
            s1 = rotate(y, 19) ^ rotate(y, 61) ^ y >> 6
            w.append((w[t - 16] + s0 + w[t - 7] + s1) & M)
        a, b, c, d, e, f, g, h = value
        for t in range(80):
            s1 = rotate(e, 14) ^ rotate(e, 18) ^ rotate(e, 41)
            t1 = h + s1 + ((e & f) ^ (~e & g)) + K[t] + w[t]
            s0 = rotate(a, 28) ^ rotate(a, 34) ^ rotate(a, 39)
            t2 = s0 + ((a & b) ^ (a & c) ^ (b & c))
            a, b, c, d, e, f, g, h = (t1 + t2) & M, a, b, c, (d + t1) & M, e, f, g
        value = [(u + v) & M for u, v in zip(value, (a, b, c, d, e, f, g, h))]
    return b"".join(v.to_bytes(8, "big") for v in value[:6])


def sha384(data, *cuts):
    h = SHA384()
    at = 0
    for cut in cuts + (len(data),):
        h.update(memoryview(data)[at:cut])
        at = cut
    return h.digest()


def noise(n):
    return bytes(random.getrandbits(8) for _ in range(n))


def test_known_answers():
    for data, expected in (
        (
            b"",
            "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b",
        ),
        (
            b"abc",
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
            "09330c33f71147e83d192fc782cd1b4753111b173b3b05d22fa08086e3b0f712fcc7c71a557e2db966c3e9fa91746039",
        ),
    ):
        assert sha384(data) == unhexlify(expected), data


def test_a_million_times_a():
    h = SHA384()
    for _ in range(1000):
        h.update(b"a" * 1000)
    assert h.digest() == unhexlify(
        "9d0e1809716474cb086e834e310a4a1ced149e9c00f248527972cec5704c2a5b07b8b3dc38ecc4ebae97ddd87f3d8985"
    )


def test_every_length_around_the_edges_of_blocks():
    data = noise(400)
    for n in list(range(4)) + list(range(108, 132)) + list(range(236, 260)) + [383, 384, 385]:
        assert sha384(data[:n]) == twin(data[:n]), n


def test_data_that_carries():
    for fill in (b"\xff", b"\x80", b"\x7f", b"\x00", b"\x00\x00\x00\x01", b"\xff\xff\xff\xfe"):
        data = fill * (512 // len(fill))
        assert sha384(data) == twin(data), fill


def test_random_data():
    for _ in range(12):
        data = noise(256)
        assert sha384(data) == twin(data)


def test_pieces_of_any_size_make_the_same():
    data = noise(500)
    expected = sha384(data)
    for a in list(range(1, 18)) + list(range(110, 146)):
        for b in (a, a + 1, a + 127, a + 128, a + 129, a + 255):
            assert sha384(data, a, b) == expected, (a, b)
    assert sha384(data, *range(1, 500)) == expected


def test_sectors():
    data = noise(4096)
    h = SHA384()
    h.update(bytearray(data))
    h.update(bytearray(data))
    assert h.digest() == sha384(data + data)


def test_two_at_a_time():
    a, b = SHA384(), SHA384()
    data = noise(300)
    a.update(memoryview(data)[:150])
    b.update(data)
    a.update(memoryview(data)[150:])
    assert a.digest() == b.digest()


def test_update_allocates_nothing():
    import micropython

    buf = bytearray(2048)
    whole, odd = SHA384(), SHA384()
    odd.update(bytes(5))
    micropython.heap_lock()
    try:
        for _ in range(3):
            whole.update(buf)
            odd.update(buf)
    finally:
        micropython.heap_unlock()
    assert whole.digest() == sha384(bytes(3 * 2048))
    assert odd.digest() == sha384(bytes(3 * 2048 + 5))
