# Elliptic curves like P-256 on Python's big integers: enough for ECDSA and key agreement.
#
# Domain parameters: FIPS 186-4, appendix D.1.2. Points are computed with in Jacobian coordinates, where
# (X, Y, Z) stands for (X / Z**2, Y / Z**3) and Z = 0 for the point at infinity; the time is that of the
# multiplications and reductions modulo p, so formulas are chosen, and products summed, for few of both.
# It takes as long as the numbers make it: of a secret number, the time tells something.

from micropython import const

_WINDOW = const(16)  # digits -7, -5, ... 7: a table of 4 points, and one addition in 5 doublings


class Curve:
    """y**2 = x**3 - 3 * x + b modulo p, with a point (gx, gy) of prime order n; numbers have `size` bytes.

    numbers  p, n, b, gx, gy: bytes, as compiled-in integers would be decimal text of more than twice the size
    """

    def __init__(self, size, numbers):
        self.size = size
        self.p, self.n, self.b, self.gx, self.gy = [
            int.from_bytes(numbers[i : i + size], "big") for i in range(0, 5 * size, size)
        ]


P256 = Curve(
    32,
    b"\xff\xff\xff\xff\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"  # p
    b"\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
    b"\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"  # n
    b"\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51"
    b"\x5a\xc6\x35\xd8\xaa\x3a\x93\xe7\xb3\xeb\xbd\x55\x76\x98\x86\xbc"  # b
    b"\x65\x1d\x06\xb0\xcc\x53\xb0\xf6\x3b\xce\x3c\x3e\x27\xd2\x60\x4b"
    b"\x6b\x17\xd1\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2"  # gx
    b"\x77\x03\x7d\x81\x2d\xeb\x33\xa0\xf4\xa1\x39\x45\xd8\x98\xc2\x96"
    b"\x4f\xe3\x42\xe2\xfe\x1a\x7f\x9b\x8e\xe7\xeb\x4a\x7c\x0f\x9e\x16"  # gy
    b"\x2b\xce\x33\x57\x6b\x31\x5e\xce\xcb\xb6\x40\x68\x37\xbf\x51\xf5",
)


def on_curve(curve, x, y):
    """True when (x, y) is a point of the curve, in reduced coordinates; infinity is not one of these."""
    p = curve.p
    return 0 <= x < p and 0 <= y < p and (y * y - (x * x - 3) * x - curve.b) % p == 0


def multiply(curve, k, x, y):
    """k * (x, y) as (x, y), or None for infinity. The caller knows that the point is on the curve."""
    return _combine(curve, ((k, x, y),))


def multiply_add(curve, u1, u2, x, y):
    """u1 * G + u2 * (x, y) as (x, y), or None for infinity; the point is on the curve."""
    return _combine(curve, ((u1, curve.gx, curve.gy), (u2, x, y)))


def inverse(a, m):
    """The number whose product with `a` is 1 modulo m. The two must have no common divisor."""
    # Euclid's algorithm: a tenth of the time of pow(a, m - 2, m).
    v = m
    a %= m
    x = 0
    y = 1
    while a:
        q, r = divmod(v, a)
        v = a
        a = r
        x, y = y, x - q * y
    return x % m


def verify(curve, digest, r, s, x, y):
    """True when (r, s) is the ECDSA signature of the digest (bytes, no longer than n) by the key (x, y).

    FIPS 186-4, section 6.4, ranges and the key's being on the curve included.
    """
    n = curve.n
    if not (0 < r < n and 0 < s < n and on_curve(curve, x, y)):
        return False
    w = inverse(s, n)
    point = multiply_add(curve, int.from_bytes(digest, "big") * w % n, r * w % n, x, y)
    return point is not None and point[0] % n == r


# All the terms share the doublings (Shamir's trick).
def _combine(curve, terms):
    p = curve.p
    digits = []
    points = []
    for k, x, y in terms:
        digits.append(_digits(k % curve.n, curve.size * 8 + 1))
        points.extend(_odd_multiples(x, y, p))
    table = _affine(points, p)
    x = y = 1
    z = 0
    for i in range(curve.size * 8, -1, -1):
        if z:
            x, y, z = _double(x, y, z, p)
        at = 0
        for row in digits:
            d = row[i]
            if d:
                if d < 128:
                    qx, qy = table[at + (d >> 1)]
                    x, y, z = _add(x, y, z, qx, qy, p)
                else:
                    qx, qy = table[at + ((256 - d) >> 1)]
                    x, y, z = _add(x, y, z, qx, p - qy, p)
            at += 4
    return _affine([(x, y, z)], p)[0] if z else None


# k as a sum of digits[i] << i: odd digits from -7 to 7, or 0, as signed bytes; no two of four neighbours
# are odd.
def _digits(k, size):
    digits = bytearray(size)
    i = 0
    while k:
        if k & 1:
            d = k & (_WINDOW - 1)
            if d > _WINDOW // 2:
                d -= _WINDOW
            digits[i] = d & 255
            k = (k - d) >> 4
            i += 4
        else:
            k >>= 1
            i += 1
    return digits


# The point Q = (x, y) times 1, 3, 5 and 7.
def _odd_multiples(x, y, p):
    points = [(x, y, 1)]
    dx, dy, dz = _double(x, y, 1, p)
    # On the curve stretched by dz, 2 * Q has the coordinates dx and dy alone; as the formula for sums needs
    # neither a nor b, it holds there too.
    zz = dz * dz % p
    x = x * zz % p
    y = y * zz % p * dz % p
    z = 1
    for _ in range(3):
        x, y, z = _add(x, y, z, dx, dy, p)
        points.append((x, y, z * dz % p))
    return points


def _double(x, y, z, p):
    zz = z * z % p
    yy = y * y % p
    xyy = 4 * x * yy % p
    a = 3 * (x - zz) * (x + zz) % p
    x = (a * a - 2 * xyy) % p
    return x, (a * (xyy - x) - 8 * yy * yy) % p, 2 * y * z % p


# (x, y, z) + (qx, qy). The two may be equal, or opposite: an attacker can choose u1 and u2.
def _add(x, y, z, qx, qy, p):
    if not z:
        return qx, qy, 1
    zz = z * z % p
    h = qx * zz % p - x
    r = zz * z % p * qy % p - y
    if not h:
        return (1, 1, 0) if r else _double(x, y, z, p)
    hh = h * h % p
    hhh = hh * h % p
    v = x * hh % p
    x = (r * r - hhh - 2 * v) % p
    return x, (r * (v - x) - y * hhh) % p, h * z % p


# Points without Z, by one inversion for all of them.
def _affine(points, p):
    before = []
    product = 1
    for point in points:
        before.append(product)
        product = product * point[2] % p
    product = inverse(product, p)
    result = [None] * len(points)
    for i in range(len(points) - 1, -1, -1):
        x, y, z = points[i]
        iz = product * before[i] % p
        product = product * z % p
        zz = iz * iz % p
        result[i] = (x * zz % p, y * zz % p * iz % p)
    return result
