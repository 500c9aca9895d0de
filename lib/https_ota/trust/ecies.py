# The key agreement of encrypted images on P-256: PBKDF2, ECDH, HKDF. Only who uses that scheme loads it.

from hashlib import sha256

from micropython import const

from .ec import P256, multiply, on_curve
from .gcm import erase, xor

_INFO = b"_esp_enc_img_ecc"
_ROUNDS = const(2048)
# What every device derives its private key with; from esp_encrypted_img.
_SALT = b"\x0e\x21\x60\x64\x2d\xae\x76\xd3\x34\x48\xe4\x3d\x77\x20\x12\x3d\x9f\x3b\x1e\xce\xb8\x8e\x57\x3a\x4e\x8f\x7f\xb9\x4f\xf0\xc8\x69"


def agree(secret, point, salt):
    """The AES key that the private key `secret` (32 bytes) finds for an ephemeral point (X, Y: 64 bytes) and a salt.

    None when the point is not on the curve: to work with such a one would give the private key away.
    """
    x = int.from_bytes(point[:32], "big")
    y = int.from_bytes(point[32:], "big")
    if not on_curve(P256, x, y):
        return None
    # Never infinity: the order is a prime, and the private key below it.
    shared = multiply(P256, int.from_bytes(secret, "big"), x, y)[0].to_bytes(32, "big")
    # HKDF, RFC 5869
    prk = hmac(salt, shared)
    key = hmac(prk, _INFO + b"\1")
    erase(shared)
    erase(prk)
    return key


def hmac(key, data):
    """HMAC-SHA256 (RFC 2104) of data under a key of up to 64 bytes; 32 bytes."""
    pad = _pad(key, 0x36)
    inner = sha256(pad)
    inner.update(data)
    erase(pad)
    pad = _pad(key, 0x5C)
    outer = sha256(pad)
    outer.update(inner.digest())
    erase(pad)
    return outer.digest()


def _pad(key, byte):
    pad = bytearray(bytes([byte]) * 64)
    xor(pad, 0, key, 0, len(key))
    return pad


def scalar(hmac_key, feed=None):
    """The private key on P-256 (32 bytes) that an HMAC key of 32 bytes stands for.

    feed  called now and then, for a watchdog

    PBKDF2-HMAC-SHA256 (RFC 8018) with the format's salt and 2048 rounds; ValueError for the one key in 2**32 that
    gives no private key.
    """
    # Hash objects can't be copied here, so each round hashes the pads again: in one call, from one buffer each.
    inner = bytearray(96)
    outer = bytearray(96)
    inner[:64] = _pad(hmac_key, 0x36)
    outer[:64] = _pad(hmac_key, 0x5C)
    part = memoryview(inner)[64:]
    outer_part = memoryview(outer)[64:]
    u = hmac(hmac_key, _SALT + b"\0\0\0\1")
    result = bytearray(u)
    for i in range(_ROUNDS - 1):
        part[:] = u
        outer_part[:] = sha256(inner).digest()
        u = sha256(outer).digest()
        xor(result, 0, u, 0, 32)
        if feed and not i & 63:
            feed()
    erase(inner)
    erase(outer)
    key = bytes(result)
    check_scalar(key, "hmac_key")
    return key


def check_scalar(key, what):
    """ValueError unless the 32 bytes are a private key."""
    if not 0 < int.from_bytes(key, "big") < P256.n:
        raise ValueError("%s: not a private key of P-256: it must be from 1 to n - 1" % what)
