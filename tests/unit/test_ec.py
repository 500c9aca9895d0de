# ec.py against textbook arithmetic with affine points, and against published vectors.

import random
from binascii import unhexlify
from hashlib import sha256

from https_ota.trust import ec
from https_ota.trust.ec import P256
from https_ota.trust.p384 import P384

CURVES = (P256, P384)


# Euclid's algorithm.
def inverse(a, m):
    last, rest, factor, x = m, a % m, 0, 1
    while rest:
        q = last // rest
        last, rest = rest, last - q * rest
        factor, x = x, factor - q * x
    return factor % m


# The group law as it is written down; None is infinity.
def add(c, a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % c.p == 0:
            return None
        m = 3 * (a[0] * a[0] - 1) * inverse(2 * a[1], c.p) % c.p
    else:
        m = (b[1] - a[1]) * inverse(b[0] - a[0], c.p) % c.p
    x = (m * m - a[0] - b[0]) % c.p
    return x, (m * (a[0] - x) - a[1]) % c.p


def times(c, k, point):
    result = None
    while k:
        if k & 1:
            result = add(c, result, point)
        point = add(c, point, point)
        k >>= 1
    return result


def number(bound):
    size = 50
    return int.from_bytes(bytes(random.getrandbits(8) for _ in range(size)), "big") % bound


def test_the_base_points_have_order_n():
    for c in CURVES:
        assert ec.on_curve(c, c.gx, c.gy)
        assert ec.multiply(c, c.n, c.gx, c.gy) is None
        assert ec.multiply(c, c.n - 1, c.gx, c.gy) == (c.gx, c.p - c.gy)
        assert ec.multiply(c, c.n + 1, c.gx, c.gy) == (c.gx, c.gy)
        assert pow(2, c.p - 1, c.p) == pow(2, c.n - 1, c.n) == 1
        assert len("%x" % c.p) == len("%x" % c.n) == 2 * c.size


def test_factors_of_any_size_and_sign():
    for c in CURVES:
        assert ec.multiply(c, 0, c.gx, c.gy) is None
        assert ec.multiply(c, 5 * c.n + 1, c.gx, c.gy) == (c.gx, c.gy)
        assert ec.multiply(c, -1, c.gx, c.gy) == (c.gx, c.p - c.gy)
        assert ec.multiply_add(c, -1, 1 << 400, c.gx, c.gy) == ec.multiply(
            c, ((1 << 400) - 1) % c.n, c.gx, c.gy
        )


def test_what_is_on_the_curve():
    for c in CURVES:
        assert ec.on_curve(c, c.gx, c.p - c.gy)
        assert not ec.on_curve(c, c.gx, c.gy ^ 1)
        assert not ec.on_curve(c, c.gx ^ 1, c.gy)
        assert not ec.on_curve(c, 0, 0)
        # The same point, but not reduced.
        assert not ec.on_curve(c, c.gx + c.p, c.gy)
        assert not ec.on_curve(c, c.gx, c.gy + c.p)
        assert not ec.on_curve(c, c.gx, c.gy - c.p)


def test_small_multiples():
    for c in CURVES:
        g = (c.gx, c.gy)
        expected = None
        for k in range(70):
            assert ec.multiply(c, k, c.gx, c.gy) == expected, k
            assert ec.multiply(c, c.n - k, c.gx, c.gy) == (
                expected and (expected[0], c.p - expected[1])
            ), k
            expected = add(c, expected, g)


def test_random_multiples_of_random_points():
    for c in CURVES:
        point = times(c, number(c.n), (c.gx, c.gy))
        for _ in range(3):
            k = number(c.n)
            assert ec.multiply(c, k, point[0], point[1]) == times(c, k, point)


def test_random_sums():
    for c in CURVES:
        g = (c.gx, c.gy)
        point = times(c, number(c.n), g)
        for _ in range(3):
            u, v = number(c.n), number(c.n)
            assert ec.multiply_add(c, u, v, point[0], point[1]) == add(
                c, times(c, u, g), times(c, v, point)
            )


# On the way the two terms meet as equal, as opposite and as infinity.
def test_sums_of_terms_that_have_much_to_do_with_each_other():
    c = P256
    multiples = [None]
    for _ in range(140):
        multiples.append(add(c, multiples[-1], (c.gx, c.gy)))
    for q in (1, 2, 3, 5, 7, 8):
        for sign in (1, -1):
            x, y = multiples[q]
            y = y if sign > 0 else c.p - y
            for u in (0, 1, 2, 3, 4, 5, 7, 8, 14, 15, 16, 21, 24, 40):
                for v in (0, 1, 2, 3, 5, 7, 8):
                    total = u + sign * q * v
                    expected = multiples[abs(total)]
                    if total < 0:
                        expected = (expected[0], c.p - expected[1])
                    assert ec.multiply_add(c, u, v, x, y) == expected, (q * sign, u, v)
                    assert ec.multiply_add(c, c.n - u, c.n - v, x, y) == (
                        expected and (expected[0], c.p - expected[1])
                    ), (q * sign, u, v)


def test_runs_of_ones():
    for c in CURVES:
        g = (c.gx, c.gy)
        for k in ((1 << (8 * c.size - 1)) - 1, (1 << 200) - 1, (1 << 200) + 7, (1 << 128) - 9):
            assert ec.multiply(c, k, c.gx, c.gy) == times(c, k, g)


def test_inverse():
    for c in CURVES:
        for m in (c.p, c.n):
            for a in (1, 2, 3, m - 1, m - 2, m >> 1, number(m - 1) + 1, m + 5):
                w = ec.inverse(a, m)
                assert 0 < w < m and a * w % m == 1


# RFC 6979, A.2.5 and A.2.6, "sample"; the hash of it by SHA-384 as hashlib gives it.
SAMPLES = (
    (
        P256,
        sha256(b"sample").digest(),
        0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721,
        0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6,
        0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299,
        0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
        0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
    ),
    (
        P384,
        unhexlify(
            "9a9083505bc92276aec4be312696ef7bf3bf603f4bbd381196a029f340585312313bca4a9b5b890efee42c77b1ee25fe"
        ),
        0x6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5,
        0xEC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64DEF8F0EA9055866064A254515480BC13,
        0x8015D9B72D7D57244EA8EF9AC0C621896708A59367F9DFB9F54CA84B3F1C9DB1288B231C3AE0D4FE7344FD2533264720,
        0x94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46,
        0x99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8,
    ),
)


def test_published_keys():
    for c, _, secret, x, y, _, _ in SAMPLES:
        assert ec.multiply(c, secret, c.gx, c.gy) == (x, y)


def test_published_signatures():
    for c, digest, _, x, y, r, s in SAMPLES:
        assert ec.verify(c, digest, r, s, x, y)
        # The other of the two that belong together by the curve's symmetry; that, too, only the key makes.
        assert ec.verify(c, digest, r, c.n - s, x, y)


def test_a_signature_with_one_thing_changed_is_refused():
    for c, digest, _, x, y, r, s in SAMPLES:
        bad = bytes([digest[0] ^ 0x80]) + digest[1:]
        assert not ec.verify(c, bad, r, s, x, y)
        assert not ec.verify(c, digest, r ^ 1, s, x, y)
        assert not ec.verify(c, digest, r, s ^ 1, x, y)
        assert not ec.verify(c, digest, r, s, x, c.p - y)
        assert not ec.verify(c, digest, s, r, x, y)


def test_numbers_out_of_range_are_refused():
    for c, digest, _, x, y, r, s in SAMPLES:
        for bad in (0, c.n, c.n + 1, -1):
            assert not ec.verify(c, digest, bad, s, x, y), bad
            assert not ec.verify(c, digest, r, bad, x, y), bad
            assert not ec.verify(c, digest, bad, bad, x, y), bad
        # As good as r and s but for the range.
        assert not ec.verify(c, digest, r + c.n, s, x, y)
        assert not ec.verify(c, digest, r, s + c.n, x, y)
        assert not ec.verify(c, digest, r, s - c.n, x, y)


# Arithmetic that doesn't look at b is content with any point: for one off the curve, a signature is made
# backwards, of a digest that comes out of it.
def test_keys_off_the_curve_are_refused():
    for c in CURVES:
        for x, y in ((c.gx, c.gy ^ 1), (5, 7)):
            u, v = number(c.n), number(c.n)
            point = ec.multiply_add(c, u, v, x, y)
            r = point[0] % c.n
            s = r * ec.inverse(v, c.n) % c.n
            digest = (u * s % c.n).to_bytes(c.size, "big")
            assert not ec.verify(c, digest, r, s, x, y)


def test_the_same_made_backwards_holds_on_the_curve():
    for c in CURVES:
        x, y = ec.multiply(c, 12345, c.gx, c.gy)
        u, v = number(c.n), number(c.n)
        r = ec.multiply_add(c, u, v, x, y)[0] % c.n
        s = r * ec.inverse(v, c.n) % c.n
        assert ec.verify(c, (u * s % c.n).to_bytes(c.size, "big"), r, s, x, y)


def test_a_signature_whose_point_is_infinity_is_refused():
    c = P256
    # u1 * G + u2 * G with u1 = -u2: a digest equal to -r.
    r = 12345
    assert not ec.verify(c, (c.n - r).to_bytes(32, "big"), r, 77, c.gx, c.gy)


def test_a_signature_whose_x_is_not_below_n():
    for c in CURVES:
        # The first point from n on; p is 3 modulo 4, which makes roots easy.
        x = c.n
        while True:
            x += 1
            y = pow((x * x * x - 3 * x + c.b) % c.p, (c.p + 1) // 4, c.p)
            if ec.on_curve(c, x, y):
                break
        r = x - c.n
        # With u1 = 5 and u2 = 1 / 7: the key is 7 * (point - 5 * G).
        key = ec.multiply_add(c, -35, 7, x, y)
        s = r * 7 % c.n
        digest = (5 * s % c.n).to_bytes(c.size, "big")
        assert ec.verify(c, digest, r, s, key[0], key[1])
        assert not ec.verify(c, digest, x, s, key[0], key[1])
