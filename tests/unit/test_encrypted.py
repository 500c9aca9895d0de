# encrypted.py and ecies.py: keys and headers, with images that the test makes itself. What other
# implementations make is in tests/updates/test_encrypted.py.

import random
from binascii import b2a_base64, hexlify
from hashlib import sha256
from struct import pack

from fakenet import fails, raises
from https_ota import OTAError
from https_ota.trust.ec import P256, inverse, multiply
from https_ota.trust.ecies import agree, hmac, scalar
from https_ota.trust.encrypted import EncryptedImage
from https_ota.trust.gcm import GCM

MAGIC = b"\xcf\xb6\x88\x07"
TEXT = bytes(range(256)) * 3 + b"end"
IV = bytes(range(7, 23))
AES_KEY = bytes(range(100, 132))

# A key that is no secret: the two largest primes below 2**1536.
P = (1 << 1536) - 3453
Q = (1 << 1536) - 4977
N = P * Q
E = 65537


def noise(n):
    return bytes(random.getrandbits(8) for _ in range(n))


def element(tag, content):
    n = len(content)
    size = bytes([n]) if n < 128 else b"\x81" + bytes([n]) if n < 256 else b"\x82" + pack(">H", n)
    return bytes([tag]) + size + content


def integer(x):
    raw = x.to_bytes(400, "big").lstrip(b"\0") or b"\0"
    return element(2, (b"\0" if raw[0] & 128 else b"") + raw)


def pkcs1(p=P, q=Q, n=None):
    phi = (p - 1) * (q - 1)
    d = inverse(E, phi)
    numbers = (0, n or p * q, E, d, p, q, d % (p - 1), d % (q - 1), inverse(q, p))
    return element(0x30, b"".join(integer(x) for x in numbers))


def pkcs8(der):
    oid = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"
    return element(0x30, integer(0) + element(0x30, oid) + element(4, der))


def pem(der, kind):
    return "-----BEGIN %s-----\n%s-----END %s-----\n" % (kind, b2a_base64(der).decode(), kind)


def wrapped(message):
    return pow(int.from_bytes(message, "big"), E, N).to_bytes(384, "big")


def padded(key):
    return b"\0\2" + b"\x5a" * (384 - 3 - len(key)) + b"\0" + key


def image(material, aes_key=AES_KEY, text=TEXT):
    """A file of header and ciphertext."""
    body = bytearray(text)
    GCM(aes_key, IV).decrypt(body, len(body))  # the same XOR both ways
    gcm = GCM(aes_key, IV)
    gcm.replay(text, len(text))
    material = material + bytes(384 - len(material))
    return MAGIC + material + IV + pack("<I", len(text)) + gcm.tag() + bytes(88) + bytes(body)


def rsa_image():
    return image(wrapped(padded(AES_KEY)))


def ec_image(secret):
    x, y = multiply(P256, secret, P256.gx, P256.gy)
    other = random.getrandbits(30) + 1
    ex, ey = multiply(P256, other, P256.gx, P256.gy)
    salt = noise(32)
    shared = multiply(P256, other, x, y)[0].to_bytes(32, "big")
    key = hmac_twin(hmac_twin(salt, shared), b"_esp_enc_img_ecc\x01")
    return image(ex.to_bytes(32, "big") + ey.to_bytes(32, "big") + salt, key)


def hmac_twin(key, data):
    key = key + bytes(64 - len(key))
    inner = sha256(bytes(c ^ 0x36 for c in key) + data).digest()
    return sha256(bytes(c ^ 0x5C for c in key) + inner).digest()


def opened(cipher, file):
    assert cipher.begin(file[:512]) == len(file) - 512
    buf = bytearray(file[512:])
    cipher.decrypt(buf, len(buf))
    cipher.finish()
    return bytes(buf)


RSA = pkcs1()


# -- keys


def test_one_key_and_no_more():
    raises(TypeError, EncryptedImage)
    raises(TypeError, EncryptedImage, ec_key=b"\1" * 32, hmac_key=bytes(32))
    raises(TypeError, EncryptedImage, rsa_key=RSA, ec_key=b"\1" * 32)
    raises(TypeError, EncryptedImage, RSA)
    raises(TypeError, EncryptedImage, rsa_key=5)


def test_every_form_of_an_rsa_key():
    file = rsa_image()
    forms = (
        RSA,
        bytearray(RSA),
        pkcs8(RSA),
        pem(RSA, "RSA PRIVATE KEY"),
        pem(pkcs8(RSA), "PRIVATE KEY").encode(),
    )
    for key in forms:
        assert opened(EncryptedImage(rsa_key=key), file) == TEXT


def test_rsa_keys_that_can_not_be_used():
    public = element(0x30, integer(N) + integer(E))
    oid = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"
    for key in (
        public,
        element(0x30, element(0x30, oid) + element(3, b"\0" + public)),
        element(0x30, element(0x30, oid) + element(4, noise(64))),  # with a password
        element(0x30, integer(1) + element(4, noise(32))),  # an EC key
        element(0x30, b""),
        b"\x30",
        b"\x30\x80" + RSA[4:],
    ):
        e = raises(ValueError, EncryptedImage, rsa_key=key)
        assert "expected an RSA-3072 private key" in str(e), e
    for n in (3, 4, 20, 500, len(RSA) - 1):
        raises(ValueError, EncryptedImage, rsa_key=RSA[:n])
    raises(ValueError, EncryptedImage, rsa_key="no key")


def test_rsa_keys_of_another_size():
    for p, q in ((2**1024 - 105, 2**1024 - 1093337), (2**521 - 1, 2**607 - 1), (P, 2**1279 - 1)):
        e = raises(ValueError, EncryptedImage, rsa_key=pkcs1(p, q))
        assert "3072 bits" in str(e), e


def test_damaged_rsa_key():
    e = raises(ValueError, EncryptedImage, rsa_key=pkcs1(n=N + 2))
    assert "damaged" in str(e)


def test_every_form_of_an_ec_key():
    secret = random.getrandbits(30) << 200 | 12345
    raw = secret.to_bytes(32, "big")
    digits = hexlify(raw).decode()
    file = ec_image(secret)
    for key in (raw, bytearray(raw), memoryview(raw), digits, digits.upper(), digits.encode()):
        assert opened(EncryptedImage(ec_key=key), file) == TEXT


def test_ec_keys_that_can_not_be_used():
    for key in (b"", b"\1" * 31, b"\1" * 33, "1" * 32, "1" * 63, "x" * 64, 5, [1] * 32):
        e = raises(ValueError, EncryptedImage, ec_key=key)
        assert "ec_key: expected 32 bytes or 64 hex digits" in str(e), key
        raises(ValueError, EncryptedImage, hmac_key=key)
    for number in (0, P256.n, P256.n + 1, 2**256 - 1):
        e = raises(ValueError, EncryptedImage, ec_key=number.to_bytes(32, "big"))
        assert "not a private key of P-256" in str(e), number
    EncryptedImage(ec_key=(1).to_bytes(32, "big"))
    EncryptedImage(ec_key=(P256.n - 1).to_bytes(32, "big"))


def test_hmac():
    # RFC 4231, test case 2, and lengths around those of a block
    expected = b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert hexlify(hmac(b"Jefe", b"what do ya want for nothing?")) == expected
    for size in (0, 1, 32, 63, 64):
        for n in (0, 1, 55, 64, 100):
            key, data = noise(size), noise(n)
            assert hmac(key, data) == hmac_twin(key, data)


def test_hmac_key():
    # Python: hashlib.pbkdf2_hmac("sha256", bytes(range(32)), salt, 2048).hex(), with the salt of ecies.py
    key = bytes(range(32))
    fed = []
    assert hexlify(scalar(key, lambda: fed.append(1))) == EXPECTED_SCALAR
    assert 20 < len(fed) < 100
    file = ec_image(int.from_bytes(scalar(key), "big"))
    assert opened(EncryptedImage(hmac_key=key), file) == TEXT
    assert key == bytes(range(32))


EXPECTED_SCALAR = b"d3262c9437bc914a8f394a3fe8f5da535b5a4785bd3bdc45e9a4732338b4b471"


# -- files


def test_the_key_serves_again():
    rsa, ec = EncryptedImage(rsa_key=RSA), EncryptedImage(ec_key=b"\7" * 32)
    file = ec_image(int.from_bytes(b"\7" * 32, "big"))
    for _ in range(2):
        assert opened(rsa, rsa_image()) == TEXT
        assert opened(ec, file) == TEXT


def test_header_is_taken_as_any_bytes():
    file = rsa_image()
    cipher = EncryptedImage(rsa_key=RSA)
    for kind in (bytes, bytearray):
        header = kind(file[:512])
        cipher.begin(header)
        assert header == file[:512]


def test_begin_again_starts_over():
    file = rsa_image()
    cipher = EncryptedImage(rsa_key=RSA)
    cipher.begin(file[:512])
    cipher.decrypt(bytearray(100), 100)
    assert opened(cipher, file) == TEXT


def test_changed_image():
    file = bytearray(rsa_image())
    file[600] ^= 1
    assert "changed on its way" in fails(OTAError.TAG, opened, EncryptedImage(rsa_key=RSA), file)


def test_image_for_another_ec_key():
    cipher = EncryptedImage(ec_key=b"\7" * 32)
    detail = fails(OTAError.TAG, opened, cipher, ec_image(12345))
    assert "another key" in detail


def test_all_ways_to_fail_are_one():
    # An invalid block, one whose message is too long, one too short, and a number above the modulus.
    good = padded(AES_KEY)
    materials = [
        wrapped(m) for m in (good[:1] + b"\1" + good[2:], padded(noise(33)), padded(b"\7" * 31))
    ]
    materials.append(b"\xff" * 384)
    cipher = EncryptedImage(rsa_key=RSA)
    messages = {fails(OTAError.DECRYPT_KEY, cipher.begin, image(m)[:512]) for m in materials}
    assert len(messages) == 1, messages


def test_image_for_the_other_kind_of_key():
    detail = fails(OTAError.DECRYPT_KEY, EncryptedImage(rsa_key=RSA).begin, ec_image(12345)[:512])
    assert "an EC" in detail, detail
    detail = fails(
        OTAError.DECRYPT_KEY, EncryptedImage(ec_key=b"\1" * 32).begin, rsa_image()[:512]
    )
    assert "an RSA" in detail, detail


def test_other_files():
    cipher = EncryptedImage(ec_key=b"\1" * 32)
    for start, words in (
        (b"\xe9\x06\x02\x20" + bytes(508), "came e9 06 02 20"),
        (b"<html><body>404 not found, sorry</body></html>" * 12, "came <html>"),
        (b"\x1f\x8b\x08\x00" + bytes(508), "1f 8b 08 00"),
        (b"\x07\x88\xb6\xcf" + bytes(508), "07 88 b6 cf"),
        (b"\xe9", "came e9"),
        (b"", "came nothing"),
    ):
        detail = fails(OTAError.NOT_ENCRYPTED, cipher.check, start)
        assert words in detail and "cf b6 88 07" in detail, detail
        if len(start) == 512:
            assert fails(OTAError.NOT_ENCRYPTED, cipher.begin, start) == detail
    cipher.check(MAGIC)


def test_points_off_the_curve():
    salt = bytes(32)
    x, y = multiply(P256, 5, P256.gx, P256.gy)
    p = P256.p
    assert agree(b"\7" * 32, x.to_bytes(32, "big") + y.to_bytes(32, "big"), salt)
    for px, py in ((0, 0), (x, y + 1), (y, x), (x, p), (p, p), (x, 2**256 - 1), (p - 1, 0)):
        point = px.to_bytes(32, "big") + py.to_bytes(32, "big")
        assert agree(b"\7" * 32, point, salt) is None
        file = image(point + salt)
        fails(OTAError.DECRYPT_KEY, EncryptedImage(ec_key=b"\7" * 32).begin, file[:512])


def test_coordinates_are_reduced():
    # The point with the smallest x, and the same plus p: one point, of which only the first is written so.
    p = P256.p
    x = 0
    while True:
        square = (x * x * x - 3 * x + P256.b) % p
        y = pow(square, (p + 1) // 4, p)
        if y * y % p == square:
            break
        x += 1
    point = x.to_bytes(32, "big") + y.to_bytes(32, "big")
    assert agree(b"\7" * 32, point, bytes(32))
    assert agree(b"\7" * 32, (x + p).to_bytes(32, "big") + point[32:], bytes(32)) is None


# -- traces


def test_finish_and_wipe_forget_everything_but_the_key():
    file = rsa_image()
    cipher = EncryptedImage(rsa_key=RSA)
    for end in (cipher.finish, cipher.wipe):
        cipher.begin(file[:512])
        gcm = cipher._gcm
        cipher.decrypt(bytearray(file[512:]), len(file) - 512)
        held = [v for v in gcm.__dict__.values() if isinstance(v, bytearray)]
        assert all(any(buf) for buf in held)
        end()
        assert not any(any(buf) for buf in held)
        assert cipher._gcm is None
    cipher.wipe()
    fails(OTAError.STATE, cipher.finish)
    assert opened(cipher, file) == TEXT


def test_a_wrong_tag_forgets_too():
    file = bytearray(rsa_image())
    file[410] ^= 1
    cipher = EncryptedImage(rsa_key=RSA)
    fails(OTAError.TAG, opened, cipher, file)
    assert cipher._gcm is None


def test_the_callers_keys_are_left_alone():
    ec, rsa = bytearray(b"\7" * 32), bytearray(RSA)
    opened(EncryptedImage(ec_key=ec), ec_image(int.from_bytes(ec, "big")))
    opened(EncryptedImage(rsa_key=rsa), rsa_image())
    assert ec == b"\7" * 32 and rsa == RSA


def test_feeds_a_watchdog():
    fed = []
    for cipher, file in (
        (EncryptedImage(rsa_key=RSA), rsa_image()),
        (EncryptedImage(ec_key=b"\7" * 32), ec_image(7)),
    ):
        fed.clear()
        cipher.feed = lambda: fed.append(1)
        cipher.begin(file[:512])
        assert len(fed) >= 2
