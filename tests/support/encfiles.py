"""Files of esp_encrypted_img, from the format's description and the package cryptography.

The device's code and the host's tools are both checked against these.
"""

import hashlib
import hmac
import os
import struct
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = bytes.fromhex("cfb68807")
HEADER = 512

# Espressif's own files: its images, and keys that are public.
VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "esp_encrypted_img"
# The key that test_apps/main/image_ecc.bin is for; a public test key of Espressif.
VECTOR_SCALAR = bytes.fromhex("831793660de4913366ae1e379b2ceb4317c88700cc0791d98e5a2a2d5c71af66")
# Espressif's example of an HMAC key and the private key derived from it; public test keys too.
EXAMPLE_HMAC_KEY = bytes.fromhex(
    "ff1004d6c5421ec8123195dcafe4aeb6266c458051e42039e9a430ebeb3ad1fb"
)
EXAMPLE_SCALAR = bytes.fromhex("bb0dd21b15cbd6a9b8f35e55af98bde1402ceff7c0cf1d9c3409fb694bc23e6e")


def seal(material: bytes, key: bytes, plain: bytes, iv: bytes | None = None) -> bytes:
    """Return header and ciphertext for this key material."""
    iv = iv or os.urandom(16)
    sealed = AESGCM(key).encrypt(iv, plain, None)
    header = MAGIC + material.ljust(384, b"\0") + iv + struct.pack("<I", len(plain)) + sealed[-16:]
    return header.ljust(HEADER, b"\0") + sealed[:-16]


def encrypt_rsa(public: rsa.RSAPublicKey, plain: bytes, iv: bytes | None = None) -> bytes:
    """Encrypt for an RSA-3072 key."""
    key = os.urandom(32)
    return seal(public.encrypt(key, padding.PKCS1v15()), key, plain, iv)


def encrypt_ec(public: ec.EllipticCurvePublicKey, plain: bytes, iv: bytes | None = None) -> bytes:
    """Encrypt for a key on P-256."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    salt = os.urandom(32)
    shared = ephemeral.exchange(ec.ECDH(), public)
    key = HKDF(SHA256(), 32, salt, b"_esp_enc_img_ecc").derive(shared)
    point = ephemeral.public_key().public_numbers()
    material = point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big") + salt
    return seal(material, key, plain, iv)


def iv_for(key: bytes, j0: bytes) -> bytes:
    """Return the IV of 16 bytes whose first counter block is j0, by solving SP 800-38D's GHASH for it."""
    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    h = int.from_bytes(ecb.update(bytes(16)), "big")
    lengths = times(128, h)
    return times(int.from_bytes(j0, "big") ^ lengths, inverse(times(h, h))).to_bytes(16, "big")


def times(x: int, y: int) -> int:
    """Multiply in GCM's field, whose 1 is the top bit."""
    z = 0
    for i in range(127, -1, -1):
        if x >> i & 1:
            z ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return z


def inverse(x: int) -> int:
    """x ** (2 ** 128 - 2)."""
    result = 1 << 127
    for _ in range(127):
        x = times(x, x)
        result = times(result, x)
    return result


def aes_key(data, key):
    """Return the AES key out of a header."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.decrypt(data[4:388], padding.PKCS1v15())
    x, y = (int.from_bytes(data[at : at + 32], "big") for at in (4, 36))
    theirs = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    shared = key.exchange(ec.ECDH(), theirs)
    return hkdf(shared, data[68:100])


def hkdf(shared, salt):
    """HKDF (RFC 5869) of one block."""
    prk = hmac.digest(salt, shared, "sha256")
    return hmac.digest(prk, b"_esp_enc_img_ecc\x01", "sha256")


def read(data, key):
    """Return the contents. Raises cryptography's InvalidTag, or AssertionError for what is not of the format."""
    assert data[:4] == b"\xcf\xb6\x88\x07"
    assert int.from_bytes(data[404:408], "little") == len(data) - 512
    assert data[424:512] == bytes(88)
    if not isinstance(key, rsa.RSAPrivateKey):
        assert data[100:388] == bytes(288)
    gcm = modes.GCM(data[388:404], data[408:424])
    reader = Cipher(algorithms.AES(aes_key(data, key)), gcm).decryptor()
    return reader.update(data[512:]) + reader.finalize()


def write(contents, key):
    """Return an encrypted image for a public key."""
    encrypt = encrypt_rsa if isinstance(key, rsa.RSAPublicKey) else encrypt_ec
    return encrypt(key, contents)


def hmac_key_to_scalar(hmac_key):
    """PBKDF2 (RFC 8018) with HMAC-SHA-256, one block, as the device's HMAC unit does it."""
    salt = bytes.fromhex("0e2160642dae76d33448e43d7720123d9f3b1eceb88e573a4e8f7fb94ff0c869")
    last = hmac.digest(hmac_key, salt + b"\0\0\0\1", hashlib.sha256)
    total = int.from_bytes(last, "big")
    for _ in range(2047):
        last = hmac.digest(hmac_key, last, hashlib.sha256)
        total ^= int.from_bytes(last, "big")
    return total.to_bytes(32, "big")
