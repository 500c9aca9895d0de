# hot.py against its plain-Python twin.

import random

from https_ota.hot import copy_xor


def twin(dst, d, src, s, n, x):
    for i in range(n):
        dst[d + i] = src[s + i]
        x ^= src[s + i]
    return x


def check(size, d, s, n, x, shift=0):
    src = bytearray(random.getrandbits(8) for _ in range(size + shift))
    src = memoryview(src)[shift:]
    got = bytearray(b"\xa5" * size)
    expected = bytearray(got)
    assert copy_xor(got, d, src, s, n, x) == twin(expected, d, src, s, n, x), (d, s, n, x, shift)
    assert got == expected, (d, s, n, shift)


def test_every_alignment_and_short_length():
    for d in range(5):
        for s in range(5):
            for n in range(40):
                check(48, d, s, n, 0xEF)


def test_random_pieces_of_shifted_buffers():
    for _ in range(300):
        d, s, n = random.randint(0, 99), random.randint(0, 99), random.randint(0, 300)
        check(400, d, s, n, random.getrandbits(8), random.randint(0, 7))


def test_whole_sector():
    check(4096, 0, 0, 4096, 0)


def test_onto_itself_leaves_the_bytes():
    buf = bytearray(range(200))
    assert copy_xor(buf, 0, buf, 0, 200, 7) == twin(bytearray(200), 0, buf, 0, 200, 7)
    assert buf == bytearray(range(200))


def test_touches_nothing_outside():
    src = bytearray(b"\xff" * 64)
    for n in range(48):
        dst = bytearray(64)
        copy_xor(dst, 8, src, 8, n, 0)
        assert dst == bytes(8) + b"\xff" * n + bytes(56 - n)


def test_allocates_nothing():
    import micropython

    src, dst = bytearray(4096), bytearray(4096)
    src[5] = 0x80
    micropython.heap_lock()
    try:
        x = copy_xor(dst, 0, src, 0, 4096, 0)
        y = copy_xor(dst, 1, src, 0, 4095, 0)
    finally:
        micropython.heap_unlock()
    assert x == y == 0x80
