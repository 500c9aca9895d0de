# hot.py against its plain-Python twins.

import random
from struct import pack, unpack

from https_ota.hot import copy_xor, equal, sums


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


# -- sums


def sums_twin(data, acc):
    a, b = acc
    for i in range(0, len(data), 4):
        a = (a + int.from_bytes(data[i : i + 4], "little")) & 0xFFFFFFFF
        b = (b + a) & 0xFFFFFFFF
    return a, b


def check_sums(data, start=(1, 0)):
    acc = bytearray(pack("<II", *start))
    sums(data, len(data), acc)
    assert unpack("<II", acc) == sums_twin(data, start), (len(data), start)


def test_sums_of_nothing():
    check_sums(bytearray(0))
    check_sums(bytearray(0), (5, 0xFFFFFFFF))


def test_sums_of_random_words():
    for n in (4, 8, 60, 512, 4096):
        data = bytearray(random.getrandbits(8) for _ in range(n))
        check_sums(data)
        check_sums(data, (random.getrandbits(30) << 2 | 3, random.getrandbits(30) << 2))


def test_sums_wrap():
    for fill in (b"\xff", b"\x80", b"\x7f"):
        check_sums(bytearray(fill * 512), (0xFFFFFFFF, 0x80000000))


def test_sums_go_on():
    data = bytearray(random.getrandbits(8) for _ in range(256))
    whole, parts = bytearray(8), bytearray(8)
    sums(data, 256, whole)
    sums(data[:100], 100, parts)
    sums(data[100:], 156, parts)
    assert whole == parts


def test_sums_see_an_exchange():
    data = bytearray(range(64))
    swapped = data[4:8] + data[:4] + data[8:]
    a, b = bytearray(8), bytearray(8)
    sums(data, 64, a)
    sums(swapped, 64, b)
    assert a[:4] == b[:4] and a[4:] != b[4:]


def test_sums_count_the_given_length_only():
    acc, expected = bytearray(8), bytearray(8)
    sums(bytearray(b"\x05" * 64), 16, acc)
    sums(bytearray(b"\x05" * 16), 16, expected)
    assert acc == expected


def test_sums_allocate_nothing():
    import micropython

    data = bytearray(b"\xff" * 4096)
    # As ota.py has them: a view into the record.
    view = memoryview(bytearray(64))[12:20]
    micropython.heap_lock()
    try:
        sums(data, 4096, view)
    finally:
        micropython.heap_unlock()
    assert unpack("<II", view) == sums_twin(data, (0, 0))


# -- equal


def test_equal_contents():
    for n in (0, 1, 31, 32, 300):
        data = bytes(random.getrandbits(8) for _ in range(n))
        assert equal(data, bytes(data)) is True
        assert equal(data, bytearray(data)) is True
        assert equal(memoryview(b"x" + data)[1:], data) is True


def test_one_bit_makes_a_difference_anywhere():
    data = bytes(random.getrandbits(8) for _ in range(32))
    for i in range(256):
        other = bytearray(data)
        other[i >> 3] ^= 1 << (i & 7)
        assert equal(data, other) is False, i


def test_differences_do_not_cancel():
    assert not equal(b"\x01\x01", b"\x00\x00")
    assert not equal(b"\x01\x02", b"\x02\x01")


def test_another_length_is_not_equal():
    assert not equal(b"abc", b"ab")
    assert not equal(b"ab", b"abc")
    assert not equal(b"", b"\0")
    assert not equal(b"\0", b"")
