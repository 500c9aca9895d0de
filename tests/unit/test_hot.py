# hot.py against its plain-Python twins.

import random
from struct import pack, unpack

from https_ota.hot import blank, copy, equal, sums, xor


def noise(size, shift=0):
    """Random bytes, which lie `shift` bytes off a word's start."""
    return memoryview(bytearray(random.getrandbits(8) for _ in range(size + shift)))[shift:]


# -- copy


def check_copy(size, d, s, n, shift=0):
    src = noise(size, shift)
    got = bytearray(b"\xa5" * size)
    copy(got, d, src, s, n)
    assert got == b"\xa5" * d + bytes(src[s : s + n]) + b"\xa5" * (size - d - n), (d, s, n, shift)


def test_copy_of_every_alignment_and_short_length():
    for d in range(5):
        for s in range(5):
            for n in range(40):
                check_copy(48, d, s, n)


def test_copy_of_random_pieces():
    for _ in range(300):
        d, s, n = random.randint(0, 99), random.randint(0, 99), random.randint(0, 300)
        check_copy(400, d, s, n, random.randint(0, 7))
    check_copy(4096, 0, 0, 4096)


def test_copy_towards_the_front():
    for d in range(9):
        for s in range(d, 20):
            for n in (0, 1, 3, 4, 5, 64, 77):
                buf = bytearray(range(100))
                copy(buf, d, buf, s, n)
                expected = bytearray(range(100))
                expected[d : d + n] = bytes(range(s, s + n))
                assert buf == expected, (d, s, n)


# -- xor


def xor_twin(buf, at, n, x):
    for c in bytes(buf[at : at + n]):
        x ^= c
    return x


def check_xor(size, at, n, shift=0):
    buf = noise(size, shift)
    before = bytes(buf)
    x = random.getrandbits(8)
    assert xor(buf, at, n, x) == xor_twin(buf, at, n, x), (at, n, shift)
    assert bytes(buf) == before


def test_xor_of_every_alignment_and_short_length():
    for at in range(5):
        for n in range(80):
            check_xor(90, at, n)


def test_xor_of_random_pieces():
    for _ in range(300):
        check_xor(400, random.randint(0, 99), random.randint(0, 300), random.randint(0, 7))
    check_xor(4096, 0, 4096)


def test_every_bit_counts():
    for at in (0, 1, 2, 3, 31, 32, 63, 64, 66):
        for bit in range(8):
            buf = bytearray(67)
            buf[at] = 1 << bit
            assert xor(buf, 0, 67, 0) == 1 << bit, (at, bit)


def test_nothing_is_allocated():
    import micropython

    src, dst = bytearray(4096), bytearray(4096)
    src[5] = 0x80
    micropython.heap_lock()
    try:
        copy(dst, 0, src, 0, 4096)
        x = xor(dst, 0, 4096, 0)
        copy(dst, 1, src, 0, 4095)
        y = xor(dst, 1, 4095, 0)
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
    for n in (16, 32, 240, 512, 4096):
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
    sums(data[:96], 96, parts)
    sums(data[96:], 160, parts)
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


def test_blank():
    buf = bytearray(b"\xff" * 1024)
    assert blank(buf, 1024) is True
    for at in (0, 1, 2, 3, 4, 511, 1022, 1023):
        for bit in range(8):
            buf[at] = 0xFF ^ 1 << bit
            assert blank(buf, 1024) is False, (at, bit)
            # No byte beyond is looked at.
            assert blank(buf, at & ~15) is True
        buf[at] = 0xFF
    assert blank(bytearray(64), 64) is False
