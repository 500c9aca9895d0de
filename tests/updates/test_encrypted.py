"""Encrypted images on a board: those of the vendor, and those made here by another implementation."""

import hashlib
import json
import os
import random

import encfiles
import images
import pytest
from board import make_board
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

VECTORS = encfiles.VECTORS
CURVE_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
VENDOR_SCALAR = encfiles.VECTOR_SCALAR.hex()

# Each case names a file; what came of it is printed as JSON: the SHA-256 of the plaintext, or the error's name.
DEVICE = """
import json, random
from binascii import hexlify
from hashlib import sha256
from https_ota import OTAError
from https_ota.local import Local
from https_ota.trust.decrypt import Decrypt
from https_ota.trust.encrypted import EncryptedImage

names = {getattr(OTAError, n): n for n in dir(OTAError) if n[0] != "_" and n[0].isupper()}

class Pieces:
    def __init__(self, name, most):
        self.file = open(name, "rb")
        self.most = most
    def readinto(self, buf):
        n = min(len(buf), random.randint(1, 17) if self.most == 17 else self.most)
        return self.file.readinto(memoryview(buf)[:n])

def outcome(cipher, name, most, size):
    buf = bytearray(size)
    sha = sha256()
    stream = Decrypt(Local(Pieces(name, most), None), cipher)
    try:
        stream.open()
        while True:
            n = stream.readinto(buf)
            if not n:
                break
            sha.update(memoryview(buf)[:n])
        stream.finish()
    except OTAError as e:
        return names[e.code]
    finally:
        stream.close()
    return hexlify(sha.digest()).decode()

def key(value):
    return open(value, "rb").read() if "." in value else value

result = []
ciphers = {}
for options, name, most, size in json.loads(open("cases.json").read()):
    options = {k: key(v) for k, v in options.items()}
    # The object serves for one file after another.
    mark = repr(sorted(options.items()))
    cipher = ciphers.get(mark)
    if cipher is None:
        cipher = ciphers[mark] = EncryptedImage(**options)
    result.append(outcome(cipher, name, most, size))
print(json.dumps(result))
"""


@pytest.fixture(params=["sim", "sim64"])
def each_board(tmp_path, root, request):
    return make_board(tmp_path, root, request.param)


@pytest.fixture(scope="session")
def rsa_key():
    return rsa.generate_private_key(65537, 3072)


@pytest.fixture(scope="session")
def ec_key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def keys(tmp_path, rsa_key, ec_key):
    """The options of EncryptedImage for either scheme."""
    (tmp_path / "rsa.pem").write_bytes(private_bytes(rsa_key))
    return {"rsa": {"rsa_key": "rsa.pem"}, "ec": {"ec_key": scalar_hex(ec_key)}}


def private_bytes(key, encoding="PEM", kind="TraditionalOpenSSL"):
    return key.private_bytes(
        getattr(serialization.Encoding, encoding),
        getattr(serialization.PrivateFormat, kind),
        serialization.NoEncryption(),
    )


def scalar_hex(key):
    return f"{key.private_numbers().private_value:064x}"


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Cases:
    """Files to decrypt on the board, all in one run."""

    def __init__(self, board):
        self.board = board
        self.folder = board.flash.parent
        self.cases = []
        self.expected = []

    def add(self, options, data, expected, most=4096, size=4096):
        name = f"case{len(self.cases)}.bin"
        (self.folder / name).write_bytes(data)
        self.cases.append((options, name, most, size))
        self.expected.append(expected)

    def check(self):
        assert self.cases
        (self.folder / "cases.json").write_text(json.dumps(self.cases))
        found = json.loads(self.board.run(DEVICE))
        assert found == self.expected


@pytest.fixture
def cases(each_board):
    return Cases(each_board)


@pytest.fixture
def encrypt(rsa_key, ec_key):
    """encrypt[scheme](plaintext, iv) makes a file."""
    return {
        "rsa": lambda plain, iv=None: encfiles.encrypt_rsa(rsa_key.public_key(), plain, iv),
        "ec": lambda plain, iv=None: encfiles.encrypt_ec(ec_key.public_key(), plain, iv),
    }


# -- what the vendor's tool makes


@pytest.mark.skipif(not VECTORS.exists(), reason="the vendor's files are not part of the package")
def test_vendor_files(cases):
    rsa_file = (VECTORS / "image.bin").read_bytes()
    ec_file = (VECTORS / "image_ecc.bin").read_bytes()
    (cases.folder / "vendor.pem").write_bytes((VECTORS / "test_rsa_private_key.pem").read_bytes())
    plain = (b"Espressif" * 8 + b"\n") * 160
    for most, size in ((1, 1), (17, 64), (512, 4096), (1000, 1000), (4096, 4096)):
        cases.add({"rsa_key": "vendor.pem"}, rsa_file, sha(plain), most, size)
        cases.add({"ec_key": VENDOR_SCALAR}, ec_file, sha(b"test file\n"), most, size)
    cases.add({"ec_key": VENDOR_SCALAR}, rsa_file, "DECRYPT_KEY")
    cases.add({"rsa_key": "vendor.pem"}, ec_file, "DECRYPT_KEY")
    cases.check()


@pytest.mark.skipif(not VECTORS.exists(), reason="the vendor's files are not part of the package")
def test_vendor_aes_keys(each_board):
    """The keys that the files hold, so that what fails is known to be the one or the other half."""
    found = each_board.run(
        f"""
from binascii import hexlify
from https_ota.trust.encrypted import EncryptedImage
import https_ota.trust.encrypted as m
m.GCM = lambda key, iv: print(hexlify(key).decode(), hexlify(iv).decode())
folder = {str(VECTORS)!r}
for name, key in (
    ("image.bin", dict(rsa_key=open(folder + "/test_rsa_private_key.pem").read())),
    ("image_ecc.bin", dict(ec_key="{VENDOR_SCALAR}")),
):
    print(EncryptedImage(**key).begin(open(folder + "/" + name, "rb").read(512)))
"""
    )
    assert found.split() == [
        "81d3a772a29055eb29158e43df5b189a40d5c1bcfc52984e81b5a18b422840b7",
        "28914ff8eba8d235bb2ffa042428b989",
        "11680",
        "6d8e54a9ef59bead85da0fe5e30dbd997ba057cac04759ebe831a3c53dfc86a0",
        "35ed54199d1facd218bcd0cf2e634242",
        "10",
    ]


def test_hmac_key_of_the_vendors_example(each_board):
    """Published with its public key, whose private half this number is."""
    found = each_board.run(
        "from https_ota.trust.ecies import scalar\n"
        "from binascii import hexlify, unhexlify\n"
        "key = unhexlify('ff1004d6c5421ec8123195dcafe4aeb6266c458051e42039e9a430ebeb3ad1fb')\n"
        "print(hexlify(scalar(key)).decode())"
    )
    assert found == "bb0dd21b15cbd6a9b8f35e55af98bde1402ceff7c0cf1d9c3409fb694bc23e6e\n"


# -- what is made here


@pytest.mark.parametrize("scheme", ["rsa", "ec"])
def test_sizes_and_pieces(cases, keys, encrypt, scheme):
    for n in (0, 1, 15, 16, 17, 511, 512, 513, 4095, 4096, 4097, 20_000):
        plain = random.Random(n).randbytes(n)
        file = encrypt[scheme](plain)
        most, size = random.choice([(1, 1), (17, 4096), (512, 512), (1000, 4096), (4096, 4096)])
        cases.add(keys[scheme], file, sha(plain), most, size)
    file = encrypt[scheme](plain)
    for most in (17, 512, 1000, 4096):
        for size in (19, 1024, 4096):
            cases.add(keys[scheme], file, sha(plain), most, size)
    cases.check()


def test_every_form_of_an_rsa_key(cases, rsa_key, encrypt):
    file = encrypt["rsa"](b"an image")
    for encoding in ("PEM", "DER"):
        for kind in ("TraditionalOpenSSL", "PKCS8"):
            name = f"{encoding}.{kind}"
            (cases.folder / name).write_bytes(private_bytes(rsa_key, encoding, kind))
            cases.add({"rsa_key": name}, file, sha(b"an image"))
    cases.check()


def test_rsa_keys_that_are_refused(each_board, rsa_key):
    password = rsa_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"word"),
    )
    public = rsa_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    curve = ec.generate_private_key(ec.SECP256R1())
    for wrong, words in (
        (password, "expected an RSA-3072 private key"),
        (public, "expected an RSA-3072 private key"),
        (private_bytes(curve, kind="PKCS8"), "expected an RSA-3072 private key"),
        (private_bytes(curve), "expected an RSA-3072 private key"),
        (private_bytes(rsa.generate_private_key(65537, 2048)), "expected 3072 bits"),
    ):
        message = each_board.fail(
            "from https_ota.trust.encrypted import EncryptedImage\n"
            f"EncryptedImage(rsa_key={wrong.decode()!r})"
        )
        assert message.startswith("ValueError: rsa_key: ") and words in message


def test_keys_with_small_and_unequal_exponents(cases):
    """e = 3 makes a large d; many random keys make each part of a key begin with zeros or ones at times."""
    for e in (3, 65537, 65537):
        key = rsa.generate_private_key(e, 3072)
        name = f"key{len(cases.cases)}.pem"
        (cases.folder / name).write_bytes(private_bytes(key))
        for _ in range(4):
            cases.add({"rsa_key": name}, encfiles.encrypt_rsa(key.public_key(), b"x"), sha(b"x"))
    cases.check()


def test_counter_wraps_within_the_image(cases, keys, rsa_key):
    plain = bytes(range(256)) * 4
    for back in (1, 2, 33, 60):
        key = os.urandom(32)
        j0 = bytes(8) + b"\xff" * 4 + (2**32 - back).to_bytes(4, "big")
        material = rsa_key.public_key().encrypt(key, padding.PKCS1v15())
        file = encfiles.seal(material, key, plain, encfiles.iv_for(key, j0))
        cases.add(keys["rsa"], file, sha(plain), 1000, 4096)
    cases.check()


# -- what must be refused


def flipped(file, at, bit=None):
    changed = bytearray(file)
    changed[at] ^= 1 << (random.randrange(8) if bit is None else bit)
    return bytes(changed)


@pytest.mark.parametrize("scheme", ["rsa", "ec"])
def test_one_bit_changed(cases, keys, encrypt, scheme):
    plain = os.urandom(1500)
    file = encrypt[scheme](plain)
    regions = [
        (range(4), "NOT_ENCRYPTED", 4),
        (range(388, 404), "TAG", 4),
        (range(408, 424), "TAG", 4),
        (range(512, 2012), "TAG", 8),
        (range(424, 512), sha(plain), 3),
    ]
    if scheme == "rsa":
        regions.append((range(4, 388), "DECRYPT_KEY", 8))
    else:
        regions += [
            (range(4, 68), "DECRYPT_KEY", 12),
            (range(68, 100), "TAG", 8),
            (range(100, 388), sha(plain), 4),  # not looked at, as in the vendor's code
        ]
    for where, expected, count in regions:
        for at in random.sample(where, count):
            cases.add(keys[scheme], flipped(file, at), expected, 1000, 4096)
    cases.check()


def test_each_bit_of_the_tag_and_the_ends_of_the_ciphertext(cases, keys, encrypt):
    # On P-256, which takes a hundredth of the time.
    file = encrypt["ec"](os.urandom(1500))
    for at in (*range(408, 424), 512, 527, 528, 1023, 1024, 1999, 2000, 2011):
        for bit in range(8):
            cases.add(keys["ec"], flipped(file, at, bit), "TAG")
    cases.check()


@pytest.mark.parametrize("scheme", ["rsa", "ec"])
def test_length_field_and_length(cases, keys, encrypt, scheme):
    file = encrypt[scheme](os.urandom(1000))

    def with_length(n):
        return file[:404] + n.to_bytes(4, "little") + file[408:]

    for n in (1001, 1016, 5000, 2**30, 2**32 - 1):
        cases.add(keys[scheme], with_length(n), "TRUNCATED")
    for n in (999, 984, 1, 0):
        cases.add(keys[scheme], with_length(n), "SIZE")
        # To cut the file to match does not help.
        cases.add(keys[scheme], with_length(n)[: 512 + n], "TAG")
    for extra in (1, 16, 4096):
        cases.add(keys[scheme], file + bytes(extra), "SIZE")
        cases.add(keys[scheme], with_length(1000 + extra) + bytes(extra), "TAG")
    for missing in (1, 16, 999, 1000):
        cases.add(keys[scheme], file[:-missing], "TRUNCATED")
    for n in (4, 100, 511):
        cases.add(keys[scheme], file[:n], "TRUNCATED")
    for n in (0, 3):
        cases.add(keys[scheme], file[:n], "NOT_ENCRYPTED")
    cases.check()


def test_blocks_exchanged_or_repeated(cases, keys, encrypt):
    file = encrypt["ec"](bytes(64))
    head, body = file[:512], file[512:]
    a, b, c, d = (body[i : i + 16] for i in range(0, 64, 16))
    for parts in ((b, a, c, d), (a, b, d, c), (a, a, c, d), (d, c, b, a)):
        cases.add(keys["ec"], head + b"".join(parts), "TAG")
    cases.check()


def test_key_of_another_device(cases, keys):
    other_rsa = rsa.generate_private_key(65537, 3072).public_key()
    other_ec = ec.generate_private_key(ec.SECP256R1()).public_key()
    for _ in range(4):
        cases.add(keys["rsa"], encfiles.encrypt_rsa(other_rsa, b"image"), "DECRYPT_KEY")
        cases.add(keys["rsa"], encfiles.encrypt_ec(other_ec, b"image"), "DECRYPT_KEY")
        cases.add(keys["ec"], encfiles.encrypt_rsa(other_rsa, b"image"), "DECRYPT_KEY")
        # Any point is as good as another: only the tag tells.
        cases.add(keys["ec"], encfiles.encrypt_ec(other_ec, b"image"), "TAG")
    cases.check()


def test_files_that_are_not_encrypted(cases, keys):
    for data in (
        images.app_image(size=20_000),
        b"<!doctype html><title>404 Not Found</title>" * 40,
        os.urandom(600).replace(b"\xcf", b"\0"),
        encfiles.MAGIC[::-1] + bytes(1000),
        b"\xff" * 4096,
    ):
        for options in keys.values():
            cases.add(options, data, "NOT_ENCRYPTED")
    cases.check()


def test_rsa_messages_that_are_no_key(cases, keys, rsa_key):
    """Each way in which a block can break RFC 8017, section 7.2.2, or hold no AES-256 key; raw RSA."""
    numbers = rsa_key.public_key().public_numbers()
    plain = os.urandom(100)
    key = os.urandom(32)
    filler = bytes(random.randrange(1, 256) for _ in range(381))

    def block(first=0, kind=2, fill=349, zero=b"\0", message=key):
        return bytes([first, kind]) + filler[:fill] + zero + message

    def raw(value):
        material = pow(value, numbers.e, numbers.n).to_bytes(384, "big")
        return encfiles.seal(material, key, plain)

    def from_block(data):
        assert len(data) == 384
        return raw(int.from_bytes(data, "big"))

    good = block()
    cases.add(keys["rsa"], from_block(good), sha(plain))
    bad = [
        block(first=1),
        block(kind=0),
        block(kind=1),
        block(kind=3),
        block(kind=0x82),
        block(zero=b"\1"),  # no zero where the key begins
        bytes([0, 2]) + filler + b"\5",  # no zero at all
        block(fill=350, message=key[1:]),  # 31 bytes
        block(fill=348, message=key + b"\0"),  # 33 bytes
        block(fill=365, message=key[:16]),
        block(fill=381, message=b""),
        block(fill=7, message=bytes(342) + key),  # less than 8 bytes of padding
        block(fill=0, message=bytes(349) + key),
        bytes([0, 2]) + filler[:9] + b"\0" + filler[:339] + b"\0" + key,  # a zero in the padding
        bytes([0, 2, 0]) + filler[:348] + b"\0" + key,
        bytes([0, 2]) + filler[:348] + b"\0\0" + key,
        bytes([0, 1]) + b"\xff" * 349 + b"\0" + key,  # a signature's block
        bytes(384),
        bytes(383) + b"\1",
    ]
    for data in bad:
        cases.add(keys["rsa"], from_block(data), "DECRYPT_KEY")
    n = numbers.n
    for value in (n - 1, (rsa_key.private_numbers().p * 5) % n):
        cases.add(keys["rsa"], raw(value), "DECRYPT_KEY")
    # Numbers that are none modulo n, one of them a right one plus n: what only the comparison with n refuses.
    while True:
        filler = bytes(random.randrange(1, 256) for _ in range(381))
        wrapped = pow(int.from_bytes(block(), "big"), numbers.e, n)
        if wrapped + n < 2**3072:
            break
    too_large = [n, 2**3072 - 1, wrapped + n]
    for value in too_large:
        file = encfiles.seal(value.to_bytes(384, "big"), key, plain)
        cases.add(keys["rsa"], file, "DECRYPT_KEY")
    cases.check()


def test_points_that_are_none(cases, keys, encrypt):
    file = encrypt["ec"](b"an image")
    p = 2**256 - 2**224 + 2**192 + 2**96 - 1
    x = int.from_bytes(file[4:36], "big")
    y = int.from_bytes(file[36:68], "big")
    for px, py in (
        (0, 0),
        (x, 0),
        (0, y),
        (x, y ^ 1),
        (y, x),
        (p, y),
        (x, p),
        (0, p),
        (p, p),
        (2**256 - 1, 2**256 - 1),
    ):
        changed = file[:4] + px.to_bytes(32, "big") + py.to_bytes(32, "big") + file[68:]
        cases.add(keys["ec"], changed, "DECRYPT_KEY")
    # The opposite point is on the curve and shares its x: this one is not noticed, and does no harm.
    opposite = file[:36] + (p - y).to_bytes(32, "big") + file[68:]
    cases.add(keys["ec"], opposite, sha(b"an image"))
    # Small coordinates can also be written with p added: what lies on the curve must still be refused.
    small = 5
    small_y = pow(small**3 - 3 * small + CURVE_B, (p + 1) // 4, p)
    assert (small_y**2 - small**3 + 3 * small - CURVE_B) % p == 0
    changed = file[:4] + (small + p).to_bytes(32, "big") + small_y.to_bytes(32, "big") + file[68:]
    cases.add(keys["ec"], changed, "DECRYPT_KEY")
    cases.check()


# -- memory


def test_decrypts_with_the_heap_locked(board, tmp_path, keys, encrypt):
    (tmp_path / "app.enc").write_bytes(encrypt["rsa"](bytes(100_000)))
    found = board.run(
        """
import gc, micropython
from https_ota.local import Local
from https_ota.trust.decrypt import Decrypt
from https_ota.trust.encrypted import EncryptedImage
stream = Decrypt(Local(open("app.enc", "rb"), None), EncryptedImage(rsa_key=open("rsa.pem").read()))
stream.open()
buf = bytearray(4096)
small = bytearray(1000)
n = _ = 0
micropython.heap_lock()
for _ in range(20):
    n += stream.readinto(buf) + stream.readinto(small)
micropython.heap_unlock()
print(n)
"""
    )
    assert int(found) > 90_000
