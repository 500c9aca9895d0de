"""Files of esp_encrypted_img, from the format's description and the package cryptography."""

import os
import struct

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = bytes.fromhex("cfb68807")
HEADER = 512


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
