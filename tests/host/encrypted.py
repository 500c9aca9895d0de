"""Another reader of encrypted images, made of the format's description alone: the tools are checked against it."""

import hashlib
import hmac
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

# Espressif's own files: its images, and keys that are public.
VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "esp_encrypted_img"
# The key that test_apps/main/image_ecc.bin is for; a public test key of Espressif.
VECTOR_SCALAR = bytes.fromhex("831793660de4913366ae1e379b2ceb4317c88700cc0791d98e5a2a2d5c71af66")
# Espressif's example of an HMAC key and the private key derived from it; public test keys too.
EXAMPLE_HMAC_KEY = bytes.fromhex(
    "ff1004d6c5421ec8123195dcafe4aeb6266c458051e42039e9a430ebeb3ad1fb"
)
EXAMPLE_SCALAR = bytes.fromhex("bb0dd21b15cbd6a9b8f35e55af98bde1402ceff7c0cf1d9c3409fb694bc23e6e")


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
    if isinstance(key, rsa.RSAPublicKey):
        secret = os.urandom(32)
        wrapped = key.encrypt(secret, padding.PKCS1v15())
    else:
        mine = ec.generate_private_key(ec.SECP256R1())
        point, salt = mine.public_key().public_numbers(), os.urandom(32)
        secret = hkdf(mine.exchange(ec.ECDH(), key), salt)
        wrapped = point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big") + salt + bytes(288)
    iv = os.urandom(16)
    writer = Cipher(algorithms.AES(secret), modes.GCM(iv)).encryptor()
    sealed = writer.update(contents) + writer.finalize()
    length = len(contents).to_bytes(4, "little")
    return b"\xcf\xb6\x88\x07" + wrapped + iv + length + writer.tag + bytes(88) + sealed


def hmac_key_to_scalar(hmac_key):
    """PBKDF2 (RFC 8018) with HMAC-SHA-256, one block, as the device's HMAC unit does it."""
    salt = bytes.fromhex("0e2160642dae76d33448e43d7720123d9f3b1eceb88e573a4e8f7fb94ff0c869")
    last = hmac.digest(hmac_key, salt + b"\0\0\0\1", hashlib.sha256)
    total = int.from_bytes(last, "big")
    for _ in range(2047):
        last = hmac.digest(hmac_key, last, hashlib.sha256)
        total ^= int.from_bytes(last, "big")
    return total.to_bytes(32, "big")
